// RUN: tilewright opt %s --from share-numbers
// Kernels of bytes that differ in a scale and a zero point share one, in whatever order they take their arguments. Each
// call brings its own numbers and keeps its own nodes; what is equal in all of them stays in the body.

!q = tensor<?x8xi8, ["n", "8"]>
!b = tensor<8xf32>

// CHECK-LABEL: func.func @main
// CHECK-DAG: %[[F0:.*]] = "graph.weight"() {handle = "loop_0.f32"} : () -> tensor<2xf32>
// CHECK-DAG: %[[F1:.*]] = "graph.weight"() {handle = "loop_1.f32"} : () -> tensor<2xf32>
// CHECK-DAG: %[[I0:.*]] = "graph.weight"() {handle = "loop_0.i32"} : () -> tensor<1xi32>
// CHECK-DAG: %[[I1:.*]] = "graph.weight"() {handle = "loop_1.i32"} : () -> tensor<1xi32>
// CHECK: %[[A:.*]] = call @loop_0(%arg0, %arg1, %[[F0]], %[[I0]])
// CHECK: %[[B:.*]] = call @loop_0(%[[A]], %arg1, %[[F1]], %[[I1]]) {graph.nodes = ["second"]}
// CHECK: call @loop_0(%[[B]], %arg1, %[[F1]], %[[I1]]) {graph.nodes = ["third"]}
// CHECK: func.func private @loop_0(%arg0: {{.*}}, %arg1: tensor<8xf32>, %arg2: tensor<2xf32>, %arg3: tensor<1xi32>)
// CHECK-SAME: graph.nodes = ["first"]
// CHECK: "graph.element_at"(%arg3,
// CHECK: "graph.element_at"(%arg2,
// CHECK: "graph.element_at"(%arg2,
// CHECK: arith.constant 1.270000e+02
// CHECK-NOT: @loop_1
func.func @main(%x: !q, %b: !b) -> !q {
  %0 = call @loop_0(%x, %b) : (!q, !b) -> !q
  %1 = call @loop_1(%b, %0) : (!b, !q) -> !q
  %2 = call @loop_1(%b, %1) {graph.nodes = ["third"]} : (!b, !q) -> !q
  return %2 : !q
}
func.func private @loop_0(%x: !q, %b: !b) -> !q attributes {graph.kernel = "loop", graph.nodes = ["first"]} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!q) -> i8
    %c = "graph.element"(%b) : (!b) -> f32
    %w = arith.extsi %a : i8 to i32
    %zero = arith.constant 3 : i32
    %d = arith.subi %w, %zero : i32
    %f = arith.sitofp %d : i32 to f32
    %scale = arith.constant 0.5 : f32
    %g = arith.mulf %f, %scale : f32
    %h = arith.addf %g, %c : f32
    %reciprocal = arith.constant 2.0 : f32
    %i = arith.mulf %h, %reciprocal : f32
    %most = arith.constant 127.0 : f32
    %j = arith.minimumf %i, %most : f32
    %k = arith.fptosi %j : f32 to i8
    gpu.yield %k : i8
  }) : () -> !q
  return %0 : !q
}
func.func private @loop_1(%b: !b, %x: !q) -> !q attributes {graph.kernel = "loop", graph.nodes = ["second"]} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!q) -> i8
    %c = "graph.element"(%b) : (!b) -> f32
    %w = arith.extsi %a : i8 to i32
    %zero = arith.constant -7 : i32
    %d = arith.subi %w, %zero : i32
    %f = arith.sitofp %d : i32 to f32
    %scale = arith.constant 0.25 : f32
    %g = arith.mulf %f, %scale : f32
    %h = arith.addf %g, %c : f32
    %reciprocal = arith.constant 4.0 : f32
    %i = arith.mulf %h, %reciprocal : f32
    %most = arith.constant 127.0 : f32
    %j = arith.minimumf %i, %most : f32
    %k = arith.fptosi %j : f32 to i8
    gpu.yield %k : i8
  }) : () -> !q
  return %0 : !q
}
