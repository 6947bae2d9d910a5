// RUN: tilewright opt %s --from lay-out-weights
// A weight of a product in tf32 is turned, so that k is innermost; one that something else reads stays.

!x = tensor<8x512xf32>
!w = tensor<512x64xf32>
!y = tensor<8x64xf32>

// CHECK-LABEL: func.func @main
// CHECK-DAG: %[[V:.*]] = "graph.weight"() {handle = "v"} : () -> tensor<512x64xf32>
// CHECK-DAG: %[[W:.*]] = "graph.weight"() {{.*}} : () -> tensor<64x512xf32>
// CHECK: "graph.matmul"(%arg0, %[[W]]) {precision = "tf32", transpose_left = 0 : i64, transpose_right = 1 : i64}
// CHECK: "graph.matmul"(%arg0, %[[V]]) {precision = "tf32", transpose_left = 0 : i64, transpose_right = 0 : i64}
func.func @main(%x: !x) -> (!y, !y, !w) {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %v = "graph.weight"() {handle = "v"} : () -> !w
  %0 = "graph.matmul"(%x, %w) {precision = "tf32", transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !y
  %1 = "graph.matmul"(%x, %v) {precision = "tf32", transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !y
  return %0, %1, %v : !y, !y, !w
}

// -----
// The weight of a convolution in channels-last is stored with its outputs outermost, and read through a transpose.

!x = tensor<1x8x8x64xi8>
!w = tensor<3x3x64x32xi8>
!y = tensor<1x8x8x32xi32>

// CHECK-LABEL: func.func @main
// CHECK: %[[W:.*]] = "graph.weight"() {{.*}} : () -> tensor<32x3x3x64xi8>
// CHECK: %[[TURNED:.*]] = "graph.transpose"(%[[W]]) {permutation = array<i64: 1, 2, 3, 0>}
// CHECK: "graph.convolution"(%arg0, %[[TURNED]])
func.func @main(%x: !x) -> !y {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %0 = "graph.convolution"(%x, %w) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["1", "1", "1", "1"],
    dilations = array<i64: 1, 1>, layout = "channels_last"} : (!x, !w) -> !y
  return %0 : !y
}

// -----
// In f16 the weight is turned as well; in f32 without tensor cores it stays.

!x = tensor<8x512xf32>
!w = tensor<512x64xf32>
!y = tensor<8x64xf32>
!h = tensor<8x512xf16>
!v = tensor<512x24xf16>
!z = tensor<8x24xf32>

// CHECK: %[[W:.*]] = "graph.weight"() {handle = "w"} : () -> tensor<512x64xf32>
// CHECK: "graph.matmul"(%arg0, %[[W]]) {transpose_left = 0 : i64, transpose_right = 0 : i64}
// CHECK: %[[HALF:.*]] = "graph.weight"() {{.*}} : () -> tensor<24x512xf16>
// CHECK: "graph.matmul"(%arg1, %[[HALF]]) {transpose_left = 0 : i64, transpose_right = 1 : i64}
func.func @main(%x: !x, %h: !h) -> (!y, !z) {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %v = "graph.weight"() {handle = "v"} : () -> !v
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !y
  %1 = "graph.matmul"(%h, %v) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!h, !v) -> !z
  return %0, %1 : !y, !z
}

// -----
// Three channels of 7 x 7 taps are 294 bytes: lines along k would not begin at multiples of 16.

!x = tensor<1x32x32x3xf16>
!w = tensor<7x7x3x64xf16>
!y = tensor<1x26x26x64xf32>

// CHECK: %[[W:.*]] = "graph.weight"() {handle = "w"} : () -> tensor<7x7x3x64xf16>
// CHECK: "graph.convolution"(%arg0, %[[W]])
func.func @main(%x: !x) -> !y {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %0 = "graph.convolution"(%x, %w) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["0", "0", "0", "0"],
    dilations = array<i64: 1, 1>, layout = "channels_last"} : (!x, !w) -> !y
  return %0 : !y
}
