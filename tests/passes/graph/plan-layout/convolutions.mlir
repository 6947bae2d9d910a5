// RUN: tilewright opt %s --from plan-layout
// Two convolutions with an activation between them: one transpose in, one out, none between; the weights are turned at
// compile time.

!x = tensor<?x4x?x?xf32, ["n", "4", "h", "w"]>
!w = tensor<4x4x3x3xf32>

// CHECK-LABEL: func.func @main
// CHECK: %[[X:.*]] = "graph.transpose"(%arg0) {permutation = array<i64: 0, 2, 3, 1>}
// CHECK: %[[W:.*]] = "graph.weight"() {handle = "w.{{.*}}"} : () -> tensor<3x3x4x4xf32>
// CHECK: %[[FIRST:.*]] = "graph.convolution"(%[[X]], %[[W]]) {{.*}}layout = "channels_last"
// CHECK-NOT: graph.transpose
// CHECK: %[[RELU:.*]] = "graph.map"
// CHECK: }) : () -> tensor<?x?x?x4xf32, ["n", "h", "w", "4"]>
// CHECK-NOT: graph.transpose
// CHECK: %[[SECOND:.*]] = "graph.convolution"(%[[RELU]], %{{.*}}) {{.*}}layout = "channels_last"
// CHECK-NEXT: %[[Y:.*]] = "graph.transpose"(%[[SECOND]]) {permutation = array<i64: 0, 3, 1, 2>}
// CHECK-NEXT: return %[[Y]]
func.func @main(%x: !x) -> !x {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %v = "graph.weight"() {handle = "v"} : () -> !w
  %0 = "graph.convolution"(%x, %w) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["1", "1", "1", "1"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x, !w) -> !x
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!x) -> f32
    %zero = arith.constant 0.0 : f32
    %b = arith.maximumf %a, %zero : f32
    gpu.yield %b : f32
  }) : () -> !x
  %2 = "graph.convolution"(%1, %v) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["1", "1", "1", "1"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x, !w) -> !x
  return %2 : !x
}

// -----
// Without a convolution or a pool nothing changes, whatever it looks like.

!x = tensor<?x4x?x?xf32, ["n", "4", "h", "w"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: graph.map
// CHECK-NOT: graph.transpose
func.func @main(%x: !x) -> !x {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  return %0 : !x
}

// -----
// The weights of a transposed convolution keep input channels before output channels.

!x = tensor<?x4x8x8xf32, ["n", "4", "8", "8"]>
!w = tensor<4x6x2x2xf32>
!y = tensor<?x6x9x9xf32, ["n", "6", "9", "9"]>

// CHECK-LABEL: func.func @main
// CHECK: "graph.convolution_transpose"(%{{.*}}, %{{.*}}) {{.*}} : (tensor<?x8x8x4xf32, {{.*}}>,
// CHECK-SAME: tensor<2x2x4x6xf32>) -> tensor<?x9x9x6xf32
func.func @main(%x: !x) -> !y {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %0 = "graph.convolution_transpose"(%x, %w) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["0", "0", "0", "0"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x, !w) -> !y
  return %0 : !y
}
