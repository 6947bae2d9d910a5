// RUN: tilewright opt %s --from tile
// A pool over channels-last images is a loop over the window for four neighbouring channels at once; what lies outside
// of the image is masked for all four at once.

!x = tensor<?x8x8x16xf32, ["n", "8", "8", "16"]>
!y = tensor<?x4x4x16xf32, ["n", "4", "4", "16"]>

// CHECK: func.func @loop_0
// CHECK-SAME: vector = 4
// CHECK: "tile.map"
// CHECK: arith.constant 0xFF800000 : f32
// CHECK: "tile.masked_load"{{.*}}lanes = "contiguous"
// CHECK-NOT: scattered
// CHECK: arith.maximumf
// CHECK: "tile.store"{{.*}}lanes = "contiguous"
func.func private @loop_0(%x: !x) -> !y attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.pool"(%x) {kind = "max", kernel = array<i64: 3, 3>, include_padding = 0 : i64, strides = array<i64: 2, 2>,
    pads = ["1", "1", "0", "0"], dilations = array<i64: 1, 1>, layout = "channels_last"} : (!x) -> !y
  return %0 : !y
}

// -----
// A depthwise convolution is one as well: a sum of products, image and weight read four channels at a time.

!x = tensor<?x8x8x16xf32, ["n", "8", "8", "16"]>
!w = tensor<3x3x1x16xf32>

// CHECK: func.func @loop_0(%[[X:[^:]*]]: memref<?xf32>, %[[W:[^:]*]]: memref<?xf32>
// CHECK-SAME: vector = 4
// CHECK-DAG: "tile.masked_load"(%[[X]], {{.*}}lanes = "contiguous"
// CHECK-DAG: "tile.load"(%[[W]], {{.*}}lanes = "contiguous"
// CHECK-NOT: scattered
// CHECK: arith.mulf
// CHECK: arith.addf
func.func private @loop_0(%x: !x, %w: !w) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.convolution"(%x, %w) {groups = 16 : i64, strides = array<i64: 1, 1>, pads = ["1", "1", "1", "1"],
    dilations = array<i64: 1, 1>, layout = "channels_last"} : (!x, !w) -> !x
  return %0 : !x
}

// -----
// With many results a thread has eight pixels of a line, whose windows lie on ten: three lines of ten loads, nine of
// weights, eight stores.

!x = tensor<2048x8x8x16xf32>
!w = tensor<3x3x1x16xf32>

// CHECK: func.func @loop_0(%[[X:[^:]*]]: memref<?xf32>, %[[W:[^:]*]]: memref<?xf32>
// CHECK-SAME: run = 8 : i64, vector = 4
// CHECK: "tile.map"
// CHECK-COUNT-39: load"(%{{arg0|arg1}}, {{.*}}lanes = "contiguous"
// CHECK-NOT: load"(%arg
// CHECK: full = ["rows", "columns"]
func.func private @loop_0(%x: !x, %w: !w) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.convolution"(%x, %w) {groups = 16 : i64, strides = array<i64: 1, 1>, pads = ["1", "1", "1", "1"],
    dilations = array<i64: 1, 1>, layout = "channels_last"} : (!x, !w) -> !x
  return %0 : !x
}
