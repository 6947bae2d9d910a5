// RUN: tilewright opt %s --from simplify
// Zeros around an image become the convolution's own padding, which costs a predicate instead of a copy.

!x = tensor<?x2x?x5xf32, ["n", "2", "h", "5"]>
!padded = tensor<?x2x?x8xf32, ["n", "2", "h + 2", "8"]>
!w = tensor<3x2x2x2xf32>
!y = tensor<?x3x?x7xf32, ["n", "3", "h + 2", "7"]>

// CHECK-LABEL: func.func @main
// CHECK-NOT: graph.pad
// CHECK: "graph.convolution"(%arg0, %arg1) {{.*}}pads = ["2", "2", "1", "1"]
func.func @main(%x: !x, %w: !w) -> !y {
  %zero = "graph.constant"() {value = dense<0.0> : tensor<f32>} : () -> tensor<f32>
  %0 = "graph.pad"(%x, %zero) {low = ["0", "0", "1", "2"]} : (!x, tensor<f32>) -> !padded
  %1 = "graph.convolution"(%0, %w) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["1", "0", "0", "0"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!padded, !w) -> !y
  return %1 : !y
}

// -----
// Ones stay where they are: a convolution pads with zeros.

!x = tensor<1x2x5x5xf32>
!padded = tensor<1x2x7x7xf32>
!w = tensor<3x2x2x2xf32>
!y = tensor<1x3x6x6xf32>

// CHECK-LABEL: func.func @main
// CHECK: %[[PADDED:.*]] = "graph.pad"
// CHECK: "graph.convolution"(%[[PADDED]], %arg1) {{.*}}pads = ["0", "0", "0", "0"]
func.func @main(%x: !x, %w: !w) -> !y {
  %one = "graph.constant"() {value = dense<1.0> : tensor<f32>} : () -> tensor<f32>
  %0 = "graph.pad"(%x, %one) {low = ["0", "0", "1", "1"]} : (!x, tensor<f32>) -> !padded
  %1 = "graph.convolution"(%0, %w) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["0", "0", "0", "0"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!padded, !w) -> !y
  return %1 : !y
}

// -----
// Cropping (a negative offset) is no padding.

!x = tensor<1x2x8x8xf32>
!cropped = tensor<1x2x7x7xf32>
!w = tensor<3x2x2x2xf32>
!y = tensor<1x3x6x6xf32>

// CHECK-LABEL: func.func @main
// CHECK: %[[CROPPED:.*]] = "graph.pad"
// CHECK: "graph.convolution"(%[[CROPPED]], %arg1)
func.func @main(%x: !x, %w: !w) -> !y {
  %zero = "graph.constant"() {value = dense<0.0> : tensor<f32>} : () -> tensor<f32>
  %0 = "graph.pad"(%x, %zero) {low = ["0", "0", "-1", "-1"]} : (!x, tensor<f32>) -> !cropped
  %1 = "graph.convolution"(%0, %w) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["0", "0", "0", "0"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!cropped, !w) -> !y
  return %1 : !y
}

// -----
// More channels are no padding of the image.

!x = tensor<1x2x7x7xf32>
!wider = tensor<1x4x7x7xf32>
!w = tensor<3x4x2x2xf32>
!y = tensor<1x3x6x6xf32>

// CHECK-LABEL: func.func @main
// CHECK: %[[WIDER:.*]] = "graph.pad"
// CHECK: "graph.convolution"(%[[WIDER]], %arg1)
func.func @main(%x: !x, %w: !w) -> !y {
  %zero = "graph.constant"() {value = dense<0.0> : tensor<f32>} : () -> tensor<f32>
  %0 = "graph.pad"(%x, %zero) {low = ["0", "1", "0", "0"]} : (!x, tensor<f32>) -> !wider
  %1 = "graph.convolution"(%0, %w) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["0", "0", "0", "0"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!wider, !w) -> !y
  return %1 : !y
}

// -----
// Padding by nothing is nothing.

!x = tensor<?x8xf32, ["n", "8"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: return %arg0
func.func @main(%x: !x, %value: tensor<f32>) -> !x {
  %0 = "graph.pad"(%x, %value) {low = ["0", "0"]} : (!x, tensor<f32>) -> !x
  return %0 : !x
}

// -----
// Moving by one and cropping the same at the other side is something, though the shape stays.

!x = tensor<?x8xf32, ["n", "8"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: "graph.pad"
func.func @main(%x: !x, %value: tensor<f32>) -> !x {
  %0 = "graph.pad"(%x, %value) {low = ["0", "1"]} : (!x, tensor<f32>) -> !x
  return %0 : !x
}

// -----
// A value from outside may be anything and stays; a splat of zero is zero.

!x = tensor<1x2x5x5xf32>
!padded = tensor<1x2x7x7xf32>
!w = tensor<3x2x2x2xf32>
!y = tensor<1x3x6x6xf32>

// CHECK-LABEL: func.func @main
// CHECK: %[[PADDED:.*]] = "graph.pad"(%arg0, %arg2)
// CHECK: "graph.convolution"(%[[PADDED]], %arg1)
// CHECK: "graph.convolution"(%arg0, %arg1) {{.*}}pads = ["1", "1", "1", "1"]
func.func @main(%x: !x, %w: !w, %value: tensor<f32>) -> (!y, !y) {
  %0 = "graph.pad"(%x, %value) {low = ["0", "0", "1", "1"]} : (!x, tensor<f32>) -> !padded
  %1 = "graph.convolution"(%0, %w) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["0", "0", "0", "0"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!padded, !w) -> !y
  %zero = "graph.map"() ({
    %a = arith.constant 0.0 : f32
    gpu.yield %a : f32
  }) : () -> tensor<f32>
  %2 = "graph.pad"(%x, %zero) {low = ["0", "0", "1", "1"]} : (!x, tensor<f32>) -> !padded
  %3 = "graph.convolution"(%2, %w) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["0", "0", "0", "0"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!padded, !w) -> !y
  return %1, %3 : !y, !y
}
