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

// -----
// A square is not affine, and neither is a quotient by what the convolution gives.

!x = tensor<?x4x8x8xf32, ["n", "4", "8", "8"]>
!w = tensor<2x4x1x1xf32>
!y = tensor<?x2x8x8xf32, ["n", "2", "8", "8"]>

// CHECK-LABEL: func.func @main
// CHECK-NOT: scaled
// CHECK: arith.mulf
// CHECK-NOT: scaled
// CHECK: arith.divf
func.func @main(%x: !x) -> (!y, !y) {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %0 = "graph.convolution"(%x, %w) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["0", "0", "0", "0"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x, !w) -> !y
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!y) -> f32
    %b = arith.mulf %a, %a : f32
    gpu.yield %b : f32
  }) : () -> !y
  %2 = "graph.convolution"(%x, %w) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["0", "0", "0", "0"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x, !w) -> !y
  %3 = "graph.map"() ({
    %a = "graph.element"(%2) : (!y) -> f32
    %one = arith.constant 1.0 : f32
    %b = arith.divf %one, %a : f32
    gpu.yield %b : f32
  }) : () -> !y
  return %1, %3 : !y, !y
}

// -----
// One bias is what folding would leave: it stays as it is.

!x = tensor<?x4x8x8xf32, ["n", "4", "8", "8"]>
!w = tensor<2x4x1x1xf32>
!y = tensor<?x2x8x8xf32, ["n", "2", "8", "8"]>
!c = tensor<2x1x1xf32>

// CHECK-LABEL: func.func @main
// CHECK: %[[BIAS:.*]] = "graph.constant"
// CHECK: graph.convolution
// CHECK: "graph.element"(%[[BIAS]])
func.func @main(%x: !x) -> !y {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %bias = "graph.constant"() {value = dense<[[[1.0]], [[2.0]]]> : !c} : () -> !c
  %0 = "graph.convolution"(%x, %w) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["0", "0", "0", "0"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x, !w) -> !y
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!y) -> f32
    %b = "graph.element"(%bias) : (!c) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !y
  return %1 : !y
}

// -----
// Weights that come from an input, and halves, which scaling would round once more, stay.

!x = tensor<?x4x8x8xf32, ["n", "4", "8", "8"]>
!h = tensor<?x4x8x8xf16, ["n", "4", "8", "8"]>
!w = tensor<4x4x1x1xf32>
!v = tensor<4x4x1x1xf16>

// CHECK-LABEL: func.func @main
// CHECK: "graph.convolution"(%arg0, %arg2)
// CHECK: arith.mulf {{.*}} : f32
// CHECK: %[[V:.*]] = "graph.weight"() {handle = "v"}
// CHECK: "graph.convolution"(%arg1, %[[V]])
// CHECK: arith.mulf {{.*}} : f16
func.func @main(%x: !x, %h: !h, %w: !w) -> (!x, !h) {
  %0 = "graph.convolution"(%x, %w) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["0", "0", "0", "0"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x, !w) -> !x
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!x) -> f32
    %two = arith.constant 2.0 : f32
    %b = arith.mulf %a, %two : f32
    gpu.yield %b : f32
  }) : () -> !x
  %v = "graph.weight"() {handle = "v"} : () -> !v
  %2 = "graph.convolution"(%h, %v) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["0", "0", "0", "0"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!h, !v) -> !h
  %3 = "graph.map"() ({
    %a = "graph.element"(%2) : (!h) -> f16
    %two = arith.constant 2.0 : f16
    %b = arith.mulf %a, %two : f16
    gpu.yield %b : f16
  }) : () -> !h
  return %1, %3 : !x, !h
}

// -----
// The groups of a transposed convolution share their output channels out in a way that one axis does not tell.

!x = tensor<?x4x8x8xf32, ["n", "4", "8", "8"]>
!w = tensor<4x1x1x1xf32>
!y = tensor<?x2x8x8xf32, ["n", "2", "8", "8"]>

// CHECK-LABEL: func.func @main
// CHECK-NOT: scaled
// CHECK: arith.mulf
func.func @main(%x: !x) -> !y {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %0 = "graph.convolution_transpose"(%x, %w) {groups = 2 : i64, strides = array<i64: 1, 1>, pads = ["0", "0", "0", "0"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x, !w) -> !y
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!y) -> f32
    %two = arith.constant 2.0 : f32
    %b = arith.mulf %a, %two : f32
    gpu.yield %b : f32
  }) : () -> !y
  return %1 : !y
}

// -----
// 8-bit floats keep their scale apart: the product with it would be rounded to 8 bits.

!x = tensor<?x4x8x8xf8E4M3FN, ["n", "4", "8", "8"]>
!w = tensor<2x4x1x1xf8E4M3FN>
!y = tensor<?x2x8x8xf32, ["n", "2", "8", "8"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[W:.*]] = "graph.weight"() {handle = "w"}
// CHECK: "graph.convolution"(%arg0, %[[W]])
// CHECK: arith.mulf
func.func @main(%x: !x) -> !y {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %0 = "graph.convolution"(%x, %w) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["0", "0", "0", "0"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x, !w) -> !y
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!y) -> f32
    %scale = arith.constant 0.3 : f32
    %b = arith.mulf %a, %scale : f32
    gpu.yield %b : f32
  }) : () -> !y
  return %1 : !y
}
