// RUN: tilewright opt %s --from approximate-functions --precision tf32
// Where f32 is stored, its arithmetic is exact.

!x = tensor<8xf32>

// CHECK-LABEL: func.func private @loop_0
// CHECK: math.exp %{{.*}} : f32
func.func @main(%x: !x) -> !x {
  %0 = call @loop_0(%x) : (!x) -> !x
  return %0 : !x
}
func.func private @loop_0(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = ["exp"]} {
  %0 = "graph.map"() ({
    %1 = "graph.element"(%x) : (!x) -> f32
    %2 = math.exp %1 : f32
    gpu.yield %2 : f32
  }) : () -> !x
  return %0 : !x
}
