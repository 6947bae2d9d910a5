// RUN: tilewright opt %s --from shorten-activations --precision f16
// GELU is a maximum and one exponential of a polynomial; with tanh, and in SiLU, a product with a reciprocal. An erf that
// is rounded to an integer stays what it is.

!x = tensor<8xf32>

// CHECK-LABEL: func.func private @loop_0
// CHECK: %[[X:.*]] = "graph.element"
// CHECK-NOT: math.erf
// CHECK: %[[A:.*]] = math.absf %[[X]] : f32
// CHECK: %[[DISTANCE:.*]] = arith.minimumf %[[A]], %{{.*}} : f32
// CHECK-COUNT-6: math.fma
// CHECK: %[[TAIL:.*]] = math.exp2 %{{.*}} fastmath<afn> : f32
// CHECK: %[[MINUS:.*]] = arith.negf %[[DISTANCE]] : f32
// CHECK: %[[POSITIVE:.*]] = arith.maximumf %[[X]], %{{.*}} : f32
// CHECK: %[[GELU:.*]] = math.fma %[[MINUS]], %[[TAIL]], %[[POSITIVE]] : f32
// CHECK: gpu.yield %[[GELU]]
// CHECK-NOT: math.tanh
// CHECK: %[[POWER:.*]] = math.exp2 %{{.*}} fastmath<afn> : f32
// CHECK: %[[ABOVE:.*]] = arith.addf %[[POWER]], %{{.*}} : f32
// CHECK: arith.divf %{{.*}}, %[[ABOVE]] fastmath<{{.*}}> : f32
// CHECK: math.erf
// CHECK: func.func private @loop_1
// CHECK: arith.divf %{{.*}}, %{{.*}} fastmath<arcp,afn> : f32
func.func @main(%x: !x) -> (!x, !x, !x, !x) {
  %0:3 = call @loop_0(%x) : (!x) -> (!x, !x, !x)
  %1 = call @loop_1(%x) : (!x) -> !x
  return %0#0, %0#1, %0#2, %1 : !x, !x, !x, !x
}
func.func private @loop_0(%x: !x) -> (!x, !x, !x) attributes {graph.kernel = "loop", graph.nodes = ["gelu"]} {
  %0 = "graph.map"() ({
    %1 = "graph.element"(%x) : (!x) -> f32
    %root = arith.constant 1.41421354 : f32
    %2 = arith.divf %1, %root : f32
    %3 = math.erf %2 : f32
    %one = arith.constant 1.0 : f32
    %4 = arith.addf %3, %one : f32
    %5 = arith.mulf %1, %4 : f32
    %half = arith.constant 0.5 : f32
    %6 = arith.mulf %5, %half : f32
    gpu.yield %6 : f32
  }) : () -> !x
  %7 = "graph.map"() ({
    %1 = "graph.element"(%x) : (!x) -> f32
    %2 = math.tanh %1 : f32
    %one = arith.constant 1.0 : f32
    %3 = arith.addf %2, %one : f32
    %half = arith.constant 0.5 : f32
    %4 = arith.mulf %1, %half : f32
    %5 = arith.mulf %4, %3 : f32
    gpu.yield %5 : f32
  }) : () -> !x
  %8 = "graph.map"() ({
    %1 = "graph.element"(%x) : (!x) -> f32
    %root = arith.constant 0.707106769 : f32
    %2 = arith.mulf %1, %root : f32
    %3 = math.erf %2 : f32
    %one = arith.constant 1.0 : f32
    %4 = arith.addf %3, %one : f32
    %5 = arith.mulf %1, %4 : f32
    %6 = math.floor %5 : f32
    gpu.yield %6 : f32
  }) : () -> !x
  return %0, %7, %8 : !x, !x, !x
}
func.func private @loop_1(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = ["silu"]} {
  %0 = "graph.map"() ({
    %1 = "graph.element"(%x) : (!x) -> f32
    %2 = arith.negf %1 : f32
    %3 = math.exp %2 fastmath<afn> : f32
    %one = arith.constant 1.0 : f32
    %4 = arith.addf %3, %one : f32
    %5 = arith.divf %1, %4 fastmath<afn> : f32
    gpu.yield %5 : f32
  }) : () -> !x
  return %0 : !x
}
