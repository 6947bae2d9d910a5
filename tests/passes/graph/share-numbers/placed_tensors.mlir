// RUN: tilewright opt %s --from share-numbers
// Tensors stay in the larger ones that they lie in; the numbers have memory of their own.

!q = tensor<4x8xi8>

// CHECK: call @loop_0(%arg0, %{{.*}}) : (tensor<4x8xi8>, tensor<1xf32>)
// CHECK: call @loop_0(%{{.*}}, %{{.*}}) {graph.nodes = ["second"]}
// CHECK: func.func private @loop_0
// CHECK-SAME: graph.places = {{\[}}[], [], {{\[}}["4", "24"], ["0", "8"]]]
func.func @main(%x: !q) -> !q {
  %0 = call @loop_0(%x) : (!q) -> !q
  %1 = call @loop_1(%0) : (!q) -> !q
  return %1 : !q
}
func.func private @loop_0(%x: !q) -> !q attributes {graph.kernel = "loop", graph.nodes = ["first"], graph.places = [[], [["4", "24"], ["0", "8"]]]} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!q) -> i8
    %f = arith.sitofp %a : i8 to f32
    %scale = arith.constant 0.5 : f32
    %b = arith.mulf %f, %scale : f32
    %c = arith.fptosi %b : f32 to i8
    gpu.yield %c : i8
  }) : () -> !q
  return %0 : !q
}
func.func private @loop_1(%x: !q) -> !q attributes {graph.kernel = "loop", graph.nodes = ["second"], graph.places = [[], [["4", "24"], ["0", "8"]]]} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!q) -> i8
    %f = arith.sitofp %a : i8 to f32
    %scale = arith.constant 0.75 : f32
    %b = arith.mulf %f, %scale : f32
    %c = arith.fptosi %b : f32 to i8
    gpu.yield %c : i8
  }) : () -> !q
  return %0 : !q
}
