// RUN: tilewright opt %s --from lower --target sm_90a
// The second half of a tile: the same registers, a quarter of a thread's for each half of its columns and rows; it leaves
// through the second slot, at the coordinates of the whole tile and 64 more.

!tile = !tile.tile<[64, 128], f32, "wgmma<1 groups>">
!part = !tile.tile<[64, 64], f32, "wgmma<1 groups>">
!made = !tile.tile<[64, 64], f16, "wgmma<1 groups>">
!out = !tile.tile<[64, 64], f16, "shared<rows, line=64, swizzle=128>">
!map = !tile.tensor_map<f16, [64, 64], "128b">

// CHECK: llvm.func @second
// CHECK-COUNT-32: arith.truncf
// CHECK-NOT: arith.truncf
// CHECK: nvvm.cp.async.bulk.wait_group 1 {read}
// CHECK: llvm.getelementptr %{{.*}}[8192] : (!llvm.ptr<3>) -> !llvm.ptr<3>, i8
// CHECK: nvvm.stmatrix
// CHECK: %[[COLUMN:.*]] = arith.addi %{{.*}}, %c64_i32
// CHECK: nvvm.cp.async.bulk.tensor.global.shared.cta %{{.*}}, %{{.*}}, box[%[[COLUMN]], %{{.*}}]
// CHECK-NOT: nvvm.cp.async.bulk.tensor
func.func @second(%map: !map, %row: index, %column: index) attributes {tile.threads = 256 : i64} {
  %c0 = arith.constant 0 : index
  %value = arith.constant 0.5 : f32
  %c64 = arith.constant 64 : index
  %out = "tile.allocate"() {stages = 2 : i64} : () -> !out
  "tile.warps"() ({
    %sums = "tile.full"(%value) : (f32) -> !tile
    %part = "tile.columns"(%sums) {first = 64 : i64} : (!tile) -> !part
    %made = "tile.map"(%c0, %c0, %c64, %c64) ({
    ^bb0(%i: index, %j: index):
      %own = "tile.element"(%part) : (!part) -> f32
      %half = arith.truncf %own : f32 to f16
      gpu.yield %half : f16
    }) {full = ["rows", "columns"], layout = "wgmma<1 groups>", shape = array<i64: 64, 64>}
      : (index, index, index, index) -> !made
    "tile.store_boxes"(%made, %out, %c0, %map, %column, %row) {slots = 2 : i64, strip = 1 : i64}
      : (!made, !out, index, !map, index, index) -> ()
    gpu.yield
  }) {first = 0 : i64, count = 4 : i64} : () -> ()
  return
}
