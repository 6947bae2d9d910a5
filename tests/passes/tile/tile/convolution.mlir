// RUN: tilewright opt %s --from tile --target sm_80
// A convolution is a product whose k runs over the kernel's positions and the input channels: the copy computes where
// an element of the image stands, and leaves out rows, columns and images that are not there.

!x = tensor<?x?x?x16xf16, ["n", "h", "w", "16"]>
!w = tensor<3x3x16x32xf16>
!y = tensor<?x?x?x32xf32, ["n", "h", "w", "32"]>

// CHECK: func.func @dot_0(%[[X:[^:]*]]: memref<?xf16>, %[[W:[^:]*]]: memref<?xf16>, %{{[^:]*}}: memref<?xf32>,
// CHECK-SAME: %[[H:[^:]*]]: index, %[[N:[^:]*]]: index, %[[WIDTH:[^:]*]]: index)
// CHECK: scf.for %[[K:.*]] = %c0 to %c144{{.*}} step
// CHECK: "tile.copy"(%{{.*}}, %c0, %[[X]],
// CHECK: %[[KERNEL_ROW:.*]] = arith.divui %{{.*}}, %c48
// CHECK-DAG: %[[IN_HEIGHT:.*]] = arith.cmpi ult, %{{.*}}, %[[H]]
// CHECK-DAG: %[[IN_WIDTH:.*]] = arith.cmpi ult, %{{.*}}, %[[WIDTH]]
// CHECK: gpu.yield %{{.*}}, %{{.*}} : index, i1
// CHECK: {vector = 8 : i64}
// CHECK: "tile.copy"(%{{.*}}, %c0, %[[W]],
// CHECK: "tile.dot"{{.*}}instruction = "m16n8k16.f16"
func.func private @dot_0(%x: !x, %w: !w) -> !y attributes {graph.kernel = "dot", graph.nodes = []} {
  %0 = "graph.convolution"(%x, %w) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["1", "1", "1", "1"],
    dilations = array<i64: 1, 1>, layout = "channels_last"} : (!x, !w) -> !y
  return %0 : !y
}

// -----
// A kernel of 1x1 is a plain product over the channels: no positions, no bounds but the number of rows.

!x = tensor<?x?x?x16xf16, ["n", "h", "w", "16"]>
!w = tensor<1x1x16x32xf16>
!y = tensor<?x?x?x32xf32, ["n", "h", "w", "32"]>

// CHECK: scf.for %[[K:.*]] = %c0 to %c16
// CHECK: "tile.copy"
// CHECK-NOT: arith.divui
// CHECK-COUNT-1: arith.cmpi
// CHECK-NOT: arith.cmpi
// CHECK: "tile.copy"
func.func private @dot_0(%x: !x, %w: !w) -> !y attributes {graph.kernel = "dot", graph.nodes = []} {
  %0 = "graph.convolution"(%x, %w) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["0", "0", "0", "0"],
    dilations = array<i64: 1, 1>, layout = "channels_last"} : (!x, !w) -> !y
  return %0 : !y
}

// -----
// Groups are a batch of products: each block multiplies the channels of one group.

!x = tensor<1x8x8x32xf16>
!w = tensor<3x3x16x64xf16>
!y = tensor<1x8x8x64xf32>

// CHECK: scf.for %{{.*}} = %c0 to %c144
// CHECK: "tile.dot"
func.func private @dot_0(%x: !x, %w: !w) -> !y attributes {graph.kernel = "dot", graph.nodes = []} {
  %0 = "graph.convolution"(%x, %w) {groups = 2 : i64, strides = array<i64: 1, 1>, pads = ["1", "1", "1", "1"],
    dilations = array<i64: 1, 1>, layout = "channels_last"} : (!x, !w) -> !y
  return %0 : !y
}
