// RUN: tilewright opt %s --from lower --target sm_90a
// Two groups of warps fetch a strip of what they read beside their sums: one thread of each waits until its last stores
// have read the slot, announces the bytes at the group's barrier and starts the copy. The pieces that arrive are taken as
// tile.store_boxes puts those of the result in their place.

!tile = !tile.tile<[128, 64], f16, "wgmma<2 groups>">
!scratch = !tile.tile<[128, 64], f16, "shared<rows, line=64, swizzle=128>">
!map = !tile.tensor_map<f16, [64, 64], "128b">

// CHECK: llvm.func @beside(%[[MAP:[^:]*]]: !llvm.ptr {{{.*}}nvvm.grid_constant},
// CHECK-DAG: %[[BYTES:.*]] = arith.constant 8192 : i32
// CHECK: nvvm.cp.async.bulk.wait_group 0 {read}
// CHECK: nvvm.mbarrier.arrive.expect_tx %{{.*}}, %[[BYTES]], predicate = %[[ALONE:.*]] : !llvm.ptr<3>
// CHECK: nvvm.cp.async.bulk.tensor.shared.cluster.global %{{.*}}, %[[MAP]], %{{.*}}, box[%{{.*}}, %{{.*}}] predicate = %[[ALONE]]
// CHECK: nvvm.mbarrier.try_wait.parity
// CHECK-COUNT-4: nvvm.ldmatrix %{{.*}}num = 4
// CHECK-NOT: nvvm.ldmatrix
func.func @beside(%map: !map, %y: memref<?xf16>, %row: index) attributes {tile.threads = 256 : i64} {
  %c0 = arith.constant 0 : index
  %c64 = arith.constant 64 : index
  %c128 = arith.constant 128 : index
  %scratch = "tile.allocate"() {stages = 2 : i64} : () -> !scratch
  %arrived = "tile.make_barriers"() {count = 2 : i64, arrivals = 1 : i64} : () -> !tile.barriers
  "tile.barrier"() : () -> ()
  "tile.warps"() ({
    "tile.fetch_boxes"(%scratch, %c0, %map, %arrived, %c0, %row) {strips = 1 : i64}
      : (!scratch, index, !map, !tile.barriers, index, index) -> ()
    %group = "tile.group"() : () -> index
    "tile.await"(%arrived, %group, %c0) : (!tile.barriers, index, index) -> ()
    %taken = "tile.take_boxes"(%scratch, %c0) {strip = 0 : i64} : (!scratch, index) -> !tile
    "tile.map"(%c0, %c0, %c128, %c64) ({
    ^bb0(%i: index, %j: index):
      %value = "tile.element"(%taken) : (!tile) -> f16
      %line = arith.muli %i, %c64 : index
      %offset = arith.addi %line, %j : index
      "tile.store"(%value, %y, %offset) {lanes = "contiguous"} : (f16, memref<?xf16>, index) -> ()
      gpu.yield
    }) {full = ["rows", "columns"], layout = "wgmma<2 groups>", shape = array<i64: 128, 64>}
      : (index, index, index, index) -> ()
    gpu.yield
  }) {first = 0 : i64, count = 8 : i64} : () -> ()
  return
}
