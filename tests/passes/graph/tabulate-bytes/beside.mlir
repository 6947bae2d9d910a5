// RUN: tilewright opt %s --from tabulate-bytes
// A function of a byte that is added to something else, and the byte's own use beside it, which keeps what it shares.

!x = tensor<8xi8>
!y = tensor<8xf32>

// CHECK: func.func private @loop_0
// CHECK: %[[BYTE:.*]] = "graph.element"(%{{.*}}) : (tensor<8xi8>) -> i8
// CHECK: %[[FLOAT:.*]] = arith.sitofp %[[BYTE]]
// CHECK-NOT: math.tanh
// CHECK: %[[NUMBER:.*]] = arith.extui %[[BYTE]] : i8 to i64
// CHECK: %[[ANSWER:.*]] = "graph.element_at"(%{{.*}}, %[[NUMBER]]) : (tensor<256xf32>, i64) -> f32
// CHECK: %[[SUM:.*]] = arith.addf %[[ANSWER]], %{{.*}} : f32
// CHECK: arith.mulf %[[SUM]], %[[FLOAT]]
func.func @main(%x: !x, %y: !y) -> !y {
  %0 = call @loop_0(%x, %y) : (!x, !y) -> !y
  return %0 : !y
}
func.func private @loop_0(%x: !x, %y: !y) -> !y attributes {graph.kernel = "loop", graph.nodes = ["tanh"]} {
  %0 = "graph.map"() ({
    %1 = "graph.element"(%x) : (!x) -> i8
    %2 = "graph.element"(%y) : (!y) -> f32
    %3 = arith.sitofp %1 : i8 to f32
    %scale = arith.constant 0.1 : f32
    %4 = arith.mulf %3, %scale : f32
    %5 = math.tanh %4 : f32
    %6 = math.exp %5 : f32
    %7 = arith.addf %6, %2 : f32
    %8 = arith.mulf %7, %3 : f32
    gpu.yield %8 : f32
  }) : () -> !y
  return %0 : !y
}
