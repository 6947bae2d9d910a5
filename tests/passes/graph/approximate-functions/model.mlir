// RUN: tilewright opt %s --from approximate-functions --precision model
// A kernel that stores 16 bits only may approximate; one that stores an f32 as well may not.

!x = tensor<8xf32>
!h = tensor<8xf16>

// CHECK-LABEL: func.func private @loop_0
// CHECK: math.exp %{{.*}} fastmath<afn> : f32
// CHECK-LABEL: func.func private @loop_1
// CHECK: math.exp %{{.*}} : f32
func.func @main(%x: !x) -> (!h, !x) {
  %0 = call @loop_0(%x) : (!x) -> !h
  %1:2 = call @loop_1(%x) : (!x) -> (!x, !h)
  return %0, %1#0 : !h, !x
}
func.func private @loop_0(%x: !x) -> !h attributes {graph.kernel = "loop", graph.nodes = ["exp"]} {
  %0 = "graph.map"() ({
    %1 = "graph.element"(%x) : (!x) -> f32
    %2 = math.exp %1 : f32
    %3 = arith.truncf %2 : f32 to f16
    gpu.yield %3 : f16
  }) : () -> !h
  return %0 : !h
}
func.func private @loop_1(%x: !x) -> (!x, !h) attributes {graph.kernel = "loop", graph.nodes = ["exp"]} {
  %0 = "graph.map"() ({
    %1 = "graph.element"(%x) : (!x) -> f32
    %2 = math.exp %1 : f32
    gpu.yield %2 : f32
  }) : () -> !x
  %4 = "graph.map"() ({
    %5 = "graph.element"(%0) : (!x) -> f32
    %6 = arith.truncf %5 : f32 to f16
    gpu.yield %6 : f16
  }) : () -> !h
  return %0, %4 : !x, !h
}
