// RUN: tilewright opt %s --from fold-affine-into-convolution
// A convolution that something else reads as well keeps its weights.

!x = tensor<?x4x8x8xf32, ["n", "4", "8", "8"]>
!w = tensor<2x4x1x1xf32>
!y = tensor<?x2x8x8xf32, ["n", "2", "8", "8"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[W:.*]] = "graph.weight"() {handle = "w"}
// CHECK: "graph.convolution"(%arg0, %[[W]])
// CHECK: arith.mulf
func.func @main(%x: !x) -> (!y, !y) {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %0 = "graph.convolution"(%x, %w) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["0", "0", "0", "0"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x, !w) -> !y
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!y) -> f32
    %two = arith.constant 2.0 : f32
    %b = arith.mulf %a, %two : f32
    gpu.yield %b : f32
  }) : () -> !y
  return %0, %1 : !y, !y
}

// -----
// A factor that varies along the width is not one of the channels.

!x = tensor<?x4x8x2xf32, ["n", "4", "8", "2"]>
!w = tensor<2x4x1x1xf32>
!y = tensor<?x2x8x2xf32, ["n", "2", "8", "2"]>
!c = tensor<2xf32>

// CHECK-LABEL: func.func @main
// CHECK: %[[W:.*]] = "graph.weight"() {handle = "w"}
// CHECK: "graph.convolution"(%arg0, %[[W]])
// CHECK: arith.mulf
func.func @main(%x: !x) -> !y {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %scale = "graph.constant"() {value = dense<[3.0, 0.5]> : !c} : () -> !c
  %0 = "graph.convolution"(%x, %w) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["0", "0", "0", "0"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x, !w) -> !y
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!y) -> f32
    %s = "graph.element"(%scale) : (!c) -> f32
    %b = arith.mulf %a, %s : f32
    gpu.yield %b : f32
  }) : () -> !y
  return %1 : !y
}

// -----
// What stands behind an activation stays behind it.

!x = tensor<?x4x8x8xf32, ["n", "4", "8", "8"]>
!w = tensor<2x4x1x1xf32>
!y = tensor<?x2x8x8xf32, ["n", "2", "8", "8"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[W:.*]] = "graph.weight"() {handle = "w"}
// CHECK: "graph.convolution"(%arg0, %[[W]])
// CHECK: arith.maximumf
// CHECK: arith.mulf
func.func @main(%x: !x) -> !y {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %0 = "graph.convolution"(%x, %w) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["0", "0", "0", "0"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x, !w) -> !y
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!y) -> f32
    %zero = arith.constant 0.0 : f32
    %b = arith.maximumf %a, %zero : f32
    gpu.yield %b : f32
  }) : () -> !y
  %2 = "graph.map"() ({
    %a = "graph.element"(%1) : (!y) -> f32
    %two = arith.constant 2.0 : f32
    %b = arith.mulf %a, %two : f32
    gpu.yield %b : f32
  }) : () -> !y
  return %2 : !y
}
