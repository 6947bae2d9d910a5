// RUN: tilewright opt %s --from lower --target sm_90a
// wgmma reads both tiles by descriptors: 64 of k are four instructions of 16 in one group, for which tile.dot_wait
// waits. Of the address in the shared window they take 18 bits: in a cluster the block's rank stands above them.

!tile = !tile.tile<[64, 64], f16, "shared<rows, line=64, swizzle=128>">
!sum = !tile.tile<[64, 64], f32, "wgmma<1 groups>">

// CHECK: llvm.func @dot
// CHECK: %[[WINDOW:.*]] = llvm.ptrtoint {{.*}} : !llvm.ptr<3> to i32
// CHECK: %[[MASK:.*]] = arith.constant 262143 : i32
// CHECK: arith.andi %[[WINDOW]], %[[MASK]] : i32
// CHECK: nvvm.wgmma.fence.aligned
// CHECK: wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16
// CHECK-SAME: wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16
// CHECK-SAME: wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16
// CHECK-SAME: wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16
// CHECK: nvvm.wgmma.commit.group.sync.aligned
// CHECK: wgmma.wait_group.sync.aligned 0
// CHECK: llvm.store
func.func @dot(%y: memref<?xf32>) attributes {tile.threads = 128 : i64} {
  %c0 = arith.constant 0 : index
  %c64 = arith.constant 64 : index
  %zero = arith.constant 0.0 : f32
  %left = "tile.allocate"() {stages = 1 : i64} : () -> !tile
  %right = "tile.allocate"() {stages = 1 : i64} : () -> !tile
  %start = "tile.full"(%zero) : (f32) -> !sum
  %running = "tile.dot"(%left, %right, %start, %c0) {instruction = "m64n64k16.f16"}
    : (!tile, !tile, !sum, index) -> !sum
  %sum = "tile.dot_wait"(%running) {pending = 0 : i64} : (!sum) -> !sum
  "tile.map"(%c0, %c0, %c64, %c64) ({
  ^bb0(%i: index, %j: index):
    %value = "tile.element"(%sum) : (!sum) -> f32
    "tile.store"(%value, %y, %j) {lanes = "contiguous"} : (f32, memref<?xf32>, index) -> ()
    gpu.yield
  }) {full = ["rows", "columns"], layout = "wgmma<1 groups>", shape = array<i64: 64, 64>}
    : (index, index, index, index) -> ()
  return
}

// -----
// Bytes: a line of k is 128 of them, integers have neither signs nor orders to give, and their sums are i32.

!left = !tile.tile<[64, 128], i8, "shared<rows, line=128, swizzle=128>">
!right = !tile.tile<[128, 64], i8, "shared<columns, line=128, swizzle=128>">
!sum = !tile.tile<[64, 64], i32, "wgmma<1 groups>">

// CHECK: llvm.func @bytes
// CHECK: wgmma.mma_async.sync.aligned.m64n64k32.s32.u8.s8 {{[^;]*}}, accumulate;
// CHECK-SAME: wgmma.mma_async.sync.aligned.m64n64k32.s32.u8.s8 {{[^;]*}}, accumulate;
// CHECK-SAME: wgmma.mma_async.sync.aligned.m64n64k32.s32.u8.s8 {{[^;]*}}, accumulate;
// CHECK-SAME: wgmma.mma_async.sync.aligned.m64n64k32.s32.u8.s8 {{[^;]*}}, accumulate;
// CHECK: wgmma.wait_group.sync.aligned 0
// CHECK: llvm.store {{.*}} vector<2xi32>
func.func @bytes(%y: memref<?xi32>) attributes {tile.threads = 128 : i64} {
  %c0 = arith.constant 0 : index
  %c64 = arith.constant 64 : index
  %zero = arith.constant 0 : i32
  %left = "tile.allocate"() {stages = 1 : i64} : () -> !left
  %right = "tile.allocate"() {stages = 1 : i64} : () -> !right
  %start = "tile.full"(%zero) : (i32) -> !sum
  %running = "tile.dot"(%left, %right, %start, %c0) {instruction = "m64n64k32.u8.s8"}
    : (!left, !right, !sum, index) -> !sum
  %sum = "tile.dot_wait"(%running) {pending = 0 : i64} : (!sum) -> !sum
  "tile.map"(%c0, %c0, %c64, %c64) ({
  ^bb0(%i: index, %j: index):
    %value = "tile.element"(%sum) : (!sum) -> i32
    "tile.store"(%value, %y, %j) {lanes = "contiguous"} : (i32, memref<?xi32>, index) -> ()
    gpu.yield
  }) {full = ["rows", "columns"], layout = "wgmma<1 groups>", shape = array<i64: 64, 64>}
    : (index, index, index, index) -> ()
  return
}

// -----
// Floats of 8 bits are read along k, too, and have signs.

!left = !tile.tile<[64, 128], f8E4M3FN, "shared<rows, line=128, swizzle=128>">
!right = !tile.tile<[128, 64], f8E4M3FN, "shared<columns, line=128, swizzle=128>">
!sum = !tile.tile<[64, 64], f32, "wgmma<1 groups>">

// CHECK: llvm.func @small_floats
// CHECK: wgmma.mma_async.sync.aligned.m64n64k32.f32.e4m3.e4m3 {{[^;]*}}, accumulate, 1, 1;
// CHECK-SAME: wgmma.mma_async.sync.aligned.m64n64k32.f32.e4m3.e4m3 {{[^;]*}}, accumulate, 1, 1;
// CHECK-SAME: wgmma.mma_async.sync.aligned.m64n64k32.f32.e4m3.e4m3 {{[^;]*}}, accumulate, 1, 1;
// CHECK-SAME: wgmma.mma_async.sync.aligned.m64n64k32.f32.e4m3.e4m3 {{[^;]*}}, accumulate, 1, 1;
func.func @small_floats() attributes {tile.threads = 128 : i64} {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %left = "tile.allocate"() {stages = 1 : i64} : () -> !left
  %right = "tile.allocate"() {stages = 1 : i64} : () -> !right
  %start = "tile.full"(%zero) : (f32) -> !sum
  %running = "tile.dot"(%left, %right, %start, %c0) {instruction = "m64n64k32.e4m3"}
    : (!left, !right, !sum, index) -> !sum
  %sum = "tile.dot_wait"(%running) {pending = 0 : i64} : (!sum) -> !sum
  return
}
