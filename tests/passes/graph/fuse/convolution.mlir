// RUN: tilewright opt %s --from fuse
// A kernel of 1x1 reads every element once and computes a cheap map while reading; the residual is its epilogue.

!x = tensor<?x8x8x16xf32, ["n", "8", "8", "16"]>
!w = tensor<1x1x16x16xf32>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: call @dot_0(%arg0, %arg1)
// CHECK-NEXT: return
// CHECK: @dot_0
// CHECK: arith.maximumf
// CHECK: graph.convolution
// CHECK: arith.addf
func.func @main(%x: !x, %w: !w) -> !x {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %zero = arith.constant 0.0 : f32
    %b = arith.maximumf %a, %zero : f32
    gpu.yield %b : f32
  }) : () -> !x
  %1 = "graph.convolution"(%0, %w) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["0", "0", "0", "0"],
    dilations = array<i64: 1, 1>, layout = "channels_last"} : (!x, !w) -> !x
  %2 = "graph.map"() ({
    %a = "graph.element"(%1) : (!x) -> f32
    %b = "graph.element"(%x) : (!x) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %2 : !x
}

// -----
// One of 3x3 would compute it nine times.

!x = tensor<?x8x8x16xf32, ["n", "8", "8", "16"]>
!w = tensor<3x3x16x16xf32>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[RELU:.*]] = call @loop_0(%arg0)
// CHECK-NEXT: call @dot_0(%[[RELU]], %arg1)
func.func @main(%x: !x, %w: !w) -> !x {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %zero = arith.constant 0.0 : f32
    %b = arith.maximumf %a, %zero : f32
    gpu.yield %b : f32
  }) : () -> !x
  %1 = "graph.convolution"(%0, %w) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["1", "1", "1", "1"],
    dilations = array<i64: 1, 1>, layout = "channels_last"} : (!x, !w) -> !x
  return %1 : !x
}

// -----
// A depthwise convolution has no product for the tensor cores: it is a loop, with its activation.

!x = tensor<?x8x8x16xf32, ["n", "8", "8", "16"]>
!w = tensor<3x3x1x16xf32>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: call @loop_0(%arg0, %arg1)
// CHECK-NEXT: return
// CHECK: @loop_0
// CHECK: graph.convolution
// CHECK: arith.maximumf
func.func @main(%x: !x, %w: !w) -> !x {
  %0 = "graph.convolution"(%x, %w) {groups = 16 : i64, strides = array<i64: 1, 1>, pads = ["1", "1", "1", "1"],
    dilations = array<i64: 1, 1>, layout = "channels_last"} : (!x, !w) -> !x
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!x) -> f32
    %zero = arith.constant 0.0 : f32
    %b = arith.maximumf %a, %zero : f32
    gpu.yield %b : f32
  }) : () -> !x
  return %1 : !x
}

// -----
// Padding by other than zeros is stored: a convolution reads every padded element nine times.

!x = tensor<?x8x8x16xf32, ["n", "8", "8", "16"]>
!padded = tensor<?x10x10x16xf32, ["n", "10", "10", "16"]>
!w = tensor<3x3x16x16xf32>

// CHECK-LABEL: func.func @main
// CHECK: %[[PADDED:.*]] = call @loop_0({{.*}} -> tensor<?x10x10x16xf32
// CHECK-NEXT: call @dot_0(%[[PADDED]], %arg1)
func.func @main(%x: !x, %w: !w) -> !x {
  %one = "graph.constant"() {value = dense<1.0> : tensor<f32>} : () -> tensor<f32>
  %0 = "graph.pad"(%x, %one) {low = ["0", "1", "1", "0"]} : (!x, tensor<f32>) -> !padded
  %1 = "graph.convolution"(%0, %w) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["0", "0", "0", "0"],
    dilations = array<i64: 1, 1>, layout = "channels_last"} : (!padded, !w) -> !x
  return %1 : !x
}
