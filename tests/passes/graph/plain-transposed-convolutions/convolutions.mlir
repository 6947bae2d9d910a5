// RUN: tilewright opt %s --from plain-transposed-convolutions
// Windows side by side: a product of all pixels with the weights of all taps, whose columns are pixels of the result.

!x = tensor<?x64x8x8xf32, ["n", "64", "8", "8"]>
!w = tensor<64x32x2x2xf32>
!y = tensor<?x32x16x16xf32, ["n", "32", "16", "16"]>

// CHECK-LABEL: func.func @main
// CHECK-DAG: %[[W:.*]] = "graph.weight"() {handle = "w.taps"} : () -> tensor<64x128xf32>
// CHECK-DAG: %[[X:.*]] = "graph.transpose"(%arg0) {permutation = array<i64: 0, 2, 3, 1>}
// CHECK: %[[P:.*]] = "graph.matmul"(%[[X]], %[[W]]) {{.*}} -> tensor<?x8x8x128xf32
// CHECK-NEXT: %[[CUT:.*]] = "graph.reshape"(%[[P]]) : {{.*}} -> tensor<?x8x8x2x2x32xf32
// CHECK-NEXT: %[[MOVED:.*]] = "graph.transpose"(%[[CUT]]) {permutation = array<i64: 0, 1, 3, 2, 4, 5>}
// CHECK-NEXT: %[[IMAGE:.*]] = "graph.reshape"(%[[MOVED]]) : {{.*}} -> tensor<?x16x16x32xf32
// CHECK-NEXT: "graph.transpose"(%[[IMAGE]]) {permutation = array<i64: 0, 3, 1, 2>}
func.func @main(%x: !x) -> !y {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %y = "graph.convolution_transpose"(%x, %w) {groups = 1 : i64, strides = array<i64: 2, 2>, pads = ["0", "0", "0", "0"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x, !w) -> !y
  return %y : !y
}

// -----
// With a stride of one it is a convolution; a window of three that lost one pixel of its border pads by the other one.

!x = tensor<?x64x8x8xf32, ["n", "64", "8", "8"]>
!w = tensor<64x32x3x3xf32>
!y = tensor<?x32x8x9xf32, ["n", "32", "8", "9"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[W:.*]] = "graph.weight"() {handle = "w.turned"} : () -> tensor<32x64x3x3xf32>
// CHECK-NEXT: "graph.convolution"(%arg0, %[[W]]) {{.*}}pads = ["1", "2", "1", "1"]
func.func @main(%x: !x) -> !y {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %y = "graph.convolution_transpose"(%x, %w) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["1", "0", "1", "1"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x, !w) -> !y
  return %y : !y
}

// -----
// Windows that overlap stay what they are.

!x = tensor<?x64x8x8xf32, ["n", "64", "8", "8"]>
!w = tensor<64x32x4x4xf32>
!y = tensor<?x32x16x16xf32, ["n", "32", "16", "16"]>

// CHECK-LABEL: func.func @main
// CHECK: "graph.convolution_transpose"
func.func @main(%x: !x) -> !y {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %y = "graph.convolution_transpose"(%x, %w) {groups = 1 : i64, strides = array<i64: 2, 2>, pads = ["1", "1", "1", "1"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x, !w) -> !y
  return %y : !y
}
