// RUN: tilewright opt %s --from lower --target sm_90a
// A tile of halves leaves in strips of 64 columns: what was read from the slot before is waited for, fragments go to the
// swizzled tile, the fence shows them to the copy, and one thread starts it.

!tile = !tile.tile<[64, 64], f16, "wgmma<1 groups>">
!out = !tile.tile<[64, 64], f16, "shared<rows, line=64, swizzle=128>">
!map = !tile.tensor_map<f16, [64, 64], "128b">

// CHECK: llvm.func @halves(%[[MAP:[^:]*]]: !llvm.ptr {{{.*}}nvvm.grid_constant}, %{{.*}}: i32)
// CHECK: nvvm.cp.async.bulk.wait_group 0 {read}
// CHECK: nvvm.barrier id = %c1_i32 number_of_threads = %c128_i32
// CHECK-COUNT-4: nvvm.stmatrix
// CHECK: nvvm.fence.proxy
// CHECK: nvvm.barrier id = %c1_i32 number_of_threads = %c128_i32
// CHECK: %[[FIRST:.*]] = arith.cmpi eq, %{{.*}}, %c0_i32
// CHECK: nvvm.cp.async.bulk.tensor.global.shared.cta %[[MAP]], %{{.*}}, box[%{{.*}}, %{{.*}}], predicate = %[[FIRST]]
// CHECK: nvvm.cp.async.bulk.commit.group
// CHECK: nvvm.cp.async.bulk.wait_group 0 {read}
func.func @halves(%map: !map, %row: index) attributes {tile.threads = 256 : i64} {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f16
  %out = "tile.allocate"() {stages = 2 : i64} : () -> !out
  "tile.warps"() ({
    %made = "tile.full"(%zero) : (f16) -> !tile
    "tile.store_boxes"(%made, %out, %c0, %map, %c0, %row) {slots = 2 : i64} : (!tile, !out, index, !map, index, index) -> ()
    "tile.stores_wait"() : () -> ()
    gpu.yield
  }) {first = 0 : i64, count = 4 : i64} : () -> ()
  return
}

// -----
// Two groups of warps share the tile: each has a barrier of its own and stores its 64 rows. Of two strips each has a slot,
// so that one store may still be reading; elements of other widths are stored in pairs.

!tile = !tile.tile<[128, 64], f32, "wgmma<2 groups>">
!out = !tile.tile<[128, 32], f32, "shared<rows, line=32, swizzle=128>">
!map = !tile.tensor_map<f32, [32, 64], "128b">

// CHECK: llvm.func @words
// CHECK: %[[GROUP:.*]] = nvvm.shfl.sync idx
// CHECK-NOT: nvvm.shfl.sync
// CHECK: %[[BARRIER:.*]] = arith.addi %[[GROUP]], %c8_i32
// CHECK: nvvm.cp.async.bulk.wait_group 1 {read}
// CHECK: nvvm.barrier id = %[[BARRIER]] number_of_threads = %c128_i32
// CHECK-NOT: nvvm.stmatrix
// CHECK-COUNT-8: llvm.store {{.*}} : vector<2xf32>, !llvm.ptr<3>
// CHECK: nvvm.cp.async.bulk.tensor.global.shared.cta
// CHECK: nvvm.cp.async.bulk.wait_group 1 {read}
// CHECK: nvvm.cp.async.bulk.tensor.global.shared.cta
func.func @words(%map: !map, %row: index) attributes {tile.threads = 256 : i64} {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %out = "tile.allocate"() {stages = 2 : i64} : () -> !out
  "tile.warps"() ({
    %made = "tile.full"(%zero) : (f32) -> !tile
    "tile.store_boxes"(%made, %out, %c0, %map, %c0, %row) {slots = 2 : i64} : (!tile, !out, index, !map, index, index) -> ()
    gpu.yield
  }) {first = 0 : i64, count = 8 : i64} : () -> ()
  return
}
