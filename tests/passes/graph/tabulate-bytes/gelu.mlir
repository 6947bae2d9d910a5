// RUN: tilewright opt %s --from tabulate-bytes
// What is computed from a byte and constants alone is one read, where that is dear; what is cheap stays as it is.

!x = tensor<8xf32>
!q = tensor<8xi8>

// CHECK-LABEL: func.func @main
// CHECK: %[[TABLE:.*]] = "graph.weight"() {handle = "gelu.table"} : () -> tensor<256xi8>
// CHECK: call @loop_0(%{{.*}}, %[[TABLE]]) : (tensor<8xf32>, tensor<256xi8>) -> tensor<8xi8>
// CHECK: call @loop_1(%{{.*}}) : (tensor<8xi8>) -> tensor<8xi8>
// CHECK: func.func private @loop_0(%{{.*}}: tensor<8xf32>{{.*}}, %[[ARGUMENT:.*]]: tensor<256xi8>
// CHECK: %[[BYTE:.*]] = arith.fptosi %{{.*}} : f32 to i8
// CHECK-NOT: math.erf
// CHECK: %[[NUMBER:.*]] = arith.extui %[[BYTE]] : i8 to i64
// CHECK-NEXT: %[[ANSWER:.*]] = "graph.element_at"(%[[ARGUMENT]], %[[NUMBER]]) : (tensor<256xi8>, i64) -> i8
// CHECK-NEXT: gpu.yield %[[ANSWER]] : i8
// CHECK: func.func private @loop_1
// CHECK: arith.maximumf
// CHECK-NOT: graph.element_at
func.func @main(%x: !x) -> !q {
  %0 = call @loop_0(%x) : (!x) -> !q
  %1 = call @loop_1(%0) : (!q) -> !q
  return %1 : !q
}
func.func private @loop_0(%x: !x) -> !q attributes {graph.kernel = "loop", graph.nodes = ["gelu"]} {
  %0 = "graph.map"() ({
    %1 = "graph.element"(%x) : (!x) -> f32
    %2 = arith.fptosi %1 : f32 to i8
    %3 = arith.sitofp %2 : i8 to f32
    %half = arith.constant 0.5 : f32
    %4 = arith.mulf %3, %half : f32
    %5 = math.erf %4 : f32
    %6 = arith.addf %5, %half : f32
    %7 = arith.mulf %6, %3 : f32
    %8 = arith.fptosi %7 : f32 to i8 loc("gelu")
    gpu.yield %8 : i8
  }) : () -> !q
  return %0 : !q
}
func.func private @loop_1(%x: !q) -> !q attributes {graph.kernel = "loop", graph.nodes = ["relu"]} {
  %0 = "graph.map"() ({
    %1 = "graph.element"(%x) : (!q) -> i8
    %2 = arith.sitofp %1 : i8 to f32
    %zero = arith.constant 0.0 : f32
    %3 = arith.maximumf %2, %zero : f32
    %4 = arith.fptosi %3 : f32 to i8
    gpu.yield %4 : i8
  }) : () -> !q
  return %0 : !q
}
