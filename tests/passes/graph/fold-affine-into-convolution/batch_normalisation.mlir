// RUN: tilewright opt %s --from fold-affine-into-convolution
// A batch normalisation after a convolution, written as two maps: the scale goes into the weights, one bias is left.

!x = tensor<?x4x8x8xf32, ["n", "4", "8", "8"]>
!w = tensor<2x4x1x1xf32>
!y = tensor<?x2x8x8xf32, ["n", "2", "8", "8"]>
!c = tensor<2x1x1xf32>

// CHECK-LABEL: func.func @main
// CHECK: %[[W:.*]] = "graph.weight"() {handle = "w.scaled"} : () -> tensor<2x4x1x1xf32>
// CHECK: %[[Y:.*]] = "graph.convolution"(%arg0, %[[W]])
// CHECK: %[[BIAS:.*]] = "graph.weight"() {handle = "w.bias"} : () -> tensor<2x1x1xf32>
// CHECK: graph.map
// CHECK-DAG: %[[A:.*]] = "graph.element"(%[[Y]])
// CHECK-DAG: %[[B:.*]] = "graph.element"(%[[BIAS]])
// CHECK: arith.addf %[[A]], %[[B]]
// CHECK-NOT: graph.map
// CHECK: return
func.func @main(%x: !x) -> !y {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %mean = "graph.constant"() {value = dense<[[[1.0]], [[2.0]]]> : !c} : () -> !c
  %scale = "graph.constant"() {value = dense<[[[3.0]], [[0.5]]]> : !c} : () -> !c
  %0 = "graph.convolution"(%x, %w) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["0", "0", "0", "0"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x, !w) -> !y
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!y) -> f32
    %m = "graph.element"(%mean) : (!c) -> f32
    %b = arith.subf %a, %m : f32
    gpu.yield %b : f32
  }) : () -> !y
  %2 = "graph.map"() ({
    %a = "graph.element"(%1) : (!y) -> f32
    %s = "graph.element"(%scale) : (!c) -> f32
    %b = arith.mulf %a, %s : f32
    gpu.yield %b : f32
  }) : () -> !y
  return %2 : !y
}
