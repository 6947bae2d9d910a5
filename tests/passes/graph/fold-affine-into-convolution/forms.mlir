// RUN: tilewright opt %s --from fold-affine-into-convolution
// A scale alone leaves no bias; any affine spelling will do, here -(x - 1) / 2 + 1/2, which is -x/2 + 1.

!x = tensor<?x8x8x4xf32, ["n", "8", "8", "4"]>
!w = tensor<1x1x4x2xf32>
!y = tensor<?x8x8x2xf32, ["n", "8", "8", "2"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[W:.*]] = "graph.weight"() {handle = "w.scaled"}
// CHECK-NEXT: %[[SCALED:.*]] = "graph.convolution"(%arg0, %[[W]])
// CHECK-NEXT: %[[V:.*]] = "graph.weight"() {handle = "v.scaled"}
// CHECK-NEXT: %[[OTHER:.*]] = "graph.convolution"(%arg0, %[[V]])
// CHECK-NEXT: %[[BIAS:.*]] = "graph.weight"() {handle = "v.bias"} : () -> tensor<2xf32>
// CHECK-NEXT: %[[BIASED:.*]] = "graph.map"
// CHECK-DAG: "graph.element"(%[[OTHER]])
// CHECK-DAG: "graph.element"(%[[BIAS]])
// CHECK: return %[[SCALED]], %[[BIASED]]
func.func @main(%x: !x) -> (!y, !y) {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %v = "graph.weight"() {handle = "v"} : () -> !w
  %0 = "graph.convolution"(%x, %w) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["0", "0", "0", "0"],
    dilations = array<i64: 1, 1>, layout = "channels_last"} : (!x, !w) -> !y
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!y) -> f32
    %two = arith.constant 2.0 : f32
    %b = arith.mulf %two, %a : f32
    gpu.yield %b : f32
  }) : () -> !y
  %2 = "graph.convolution"(%x, %v) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["0", "0", "0", "0"],
    dilations = array<i64: 1, 1>, layout = "channels_last"} : (!x, !w) -> !y
  %3 = "graph.map"() ({
    %a = "graph.element"(%2) : (!y) -> f32
    %one = arith.constant 1.0 : f32
    %two = arith.constant 2.0 : f32
    %half = arith.constant 0.5 : f32
    %b = arith.subf %a, %one : f32
    %c = arith.negf %b : f32
    %d = arith.divf %c, %two : f32
    %e = arith.addf %d, %half : f32
    gpu.yield %e : f32
  }) : () -> !y
  return %1, %3 : !y, !y
}

// -----
// The weights of a transposed convolution have their output channels last but one.

!x = tensor<?x4x8x8xf32, ["n", "4", "8", "8"]>
!w = tensor<4x2x1x1xf32>
!y = tensor<?x2x8x8xf32, ["n", "2", "8", "8"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[W:.*]] = "graph.weight"() {handle = "w.scaled"} : () -> tensor<4x2x1x1xf32>
// CHECK-NEXT: %[[Y:.*]] = "graph.convolution_transpose"(%arg0, %[[W]])
// CHECK-NEXT: return %[[Y]]
func.func @main(%x: !x) -> !y {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %0 = "graph.convolution_transpose"(%x, %w) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["0", "0", "0", "0"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x, !w) -> !y
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!y) -> f32
    %two = arith.constant 2.0 : f32
    %b = arith.mulf %a, %two : f32
    gpu.yield %b : f32
  }) : () -> !y
  return %1 : !y
}
