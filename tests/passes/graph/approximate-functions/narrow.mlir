// RUN: tilewright opt %s --from approximate-functions --precision f16
// Exponentials and quotients may be approximate in f16, but not what is rounded to an integer or compared later.

!x = tensor<8xf32>

// CHECK-LABEL: func.func private @loop_0
// CHECK: math.exp %{{.*}} fastmath<afn> : f32
// CHECK: arith.divf %{{.*}}, %{{.*}} fastmath<afn> : f32
// CHECK: arith.divf %{{.*}}, %{{.*}} : f32
// CHECK: math.sqrt %{{.*}} : f32
// CHECK: math.floor
// CHECK: math.exp %{{.*}} : f64
func.func @main(%x: !x) -> (!x, !x, tensor<8xf64>) {
  %0:3 = call @loop_0(%x) : (!x) -> (!x, !x, tensor<8xf64>)
  return %0#0, %0#1, %0#2 : !x, !x, tensor<8xf64>
}
func.func private @loop_0(%x: !x) -> (!x, !x, tensor<8xf64>) attributes {graph.kernel = "loop", graph.nodes = ["silu"]} {
  %0 = "graph.map"() ({
    %1 = "graph.element"(%x) : (!x) -> f32
    %2 = math.exp %1 : f32
    %one = arith.constant 1.0 : f32
    %3 = arith.addf %2, %one : f32
    %4 = arith.divf %1, %3 : f32
    gpu.yield %4 : f32
  }) : () -> !x
  %5 = "graph.map"() ({
    %1 = "graph.element"(%x) : (!x) -> f32
    %three = arith.constant 3.0 : f32
    %2 = arith.divf %1, %three : f32
    gpu.yield %2 : f32
  }) : () -> !x
  %6 = "graph.map"() ({
    %7 = "graph.element"(%5) : (!x) -> f32
    %8 = math.sqrt %7 : f32
    %9 = math.floor %8 : f32
    gpu.yield %9 : f32
  }) : () -> !x
  %10 = "graph.map"() ({
    %11 = "graph.element"(%x) : (!x) -> f32
    %12 = arith.extf %11 : f32 to f64
    %13 = math.exp %12 : f64
    gpu.yield %13 : f64
  }) : () -> tensor<8xf64>
  return %0, %6, %10 : !x, !x, tensor<8xf64>
}
