// RUN: tilewright opt %s --from lower --target sm_80
// Running sums of a line that eight lanes hold: each thread adds its own four, three steps of shuffles go to the lanes
// above, one gives each lane what stands before it and one the line's total to all. No shared memory, no barrier.

!tile = !tile.tile<[16, 32], f32, "blocked<16x8, vector=4>">
!line = !tile.tile<[16, 1], f32, "reduced<1, blocked<16x8, vector=4>[16x32]>">

// CHECK: llvm.func @scan
// CHECK-COUNT-3: arith.addf
// CHECK: nvvm.shfl.sync up %{{.*}}, %{{.*}}, %c1_i32
// CHECK: nvvm.shfl.sync up %{{.*}}, %{{.*}}, %c2_i32
// CHECK: nvvm.shfl.sync up %{{.*}}, %{{.*}}, %c4_i32
// CHECK: nvvm.shfl.sync idx
// CHECK: nvvm.shfl.sync up %{{.*}}, %{{.*}}, %c1_i32
// CHECK-NOT: nvvm.shfl.sync
// CHECK-NOT: nvvm.barrier0
func.func @scan(%x: memref<?xf32>, %y: memref<?xf32>) attributes {tile.threads = 128 : i64} {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : index
  %c32 = arith.constant 32 : index
  %zero = arith.constant 0.0 : f32
  %carry = "tile.full"(%zero) : (f32) -> !line
  %0 = "tile.map"(%c0, %c0, %c16, %c32) ({
  ^bb0(%i: index, %j: index):
    %a = "tile.load"(%x, %j) {lanes = "contiguous"} : (memref<?xf32>, index) -> f32
    gpu.yield %a : f32
  }) {full = ["rows", "columns"], layout = "blocked<16x8, vector=4>", shape = array<i64: 16, 32>}
    : (index, index, index, index) -> !tile
  %1, %2 = "tile.scan"(%0, %carry) {exclusive = 0 : i64, kind = "sum"} : (!tile, !line) -> (!tile, !line)
  "tile.map"(%c0, %c0, %c16, %c32) ({
  ^bb0(%i: index, %j: index):
    %a = "tile.element"(%1) : (!tile) -> f32
    "tile.store"(%a, %y, %j) {lanes = "contiguous"} : (f32, memref<?xf32>, index) -> ()
    gpu.yield
  }) {full = ["rows", "columns"], layout = "blocked<16x8, vector=4>", shape = array<i64: 16, 32>}
    : (index, index, index, index) -> ()
  return
}

// -----
// A line that spans four warps: the last lane of each leaves its total in shared memory, between barriers, and every
// thread combines those of the warps before its own.

!tile = !tile.tile<[1, 128], f32, "blocked<1x128, vector=1>">
!line = !tile.tile<[1, 1], f32, "reduced<1, blocked<1x128, vector=1>[1x128]>">

// CHECK: llvm.func @scan
// CHECK-COUNT-5: nvvm.shfl.sync up
// CHECK: nvvm.shfl.sync idx
// CHECK: llvm.store %{{.*}} : f32, !llvm.ptr<3>
// CHECK: nvvm.barrier0
// CHECK-COUNT-4: llvm.load %{{.*}} : !llvm.ptr<3> -> f32
// CHECK: nvvm.barrier0
// CHECK: nvvm.shfl.sync up
func.func @scan(%x: memref<?xf32>, %y: memref<?xf32>) attributes {tile.threads = 128 : i64} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c128 = arith.constant 128 : index
  %zero = arith.constant 0.0 : f32
  %carry = "tile.full"(%zero) : (f32) -> !line
  %0 = "tile.map"(%c0, %c0, %c1, %c128) ({
  ^bb0(%i: index, %j: index):
    %a = "tile.load"(%x, %j) {lanes = "uniform"} : (memref<?xf32>, index) -> f32
    gpu.yield %a : f32
  }) {full = ["rows", "columns"], layout = "blocked<1x128, vector=1>", shape = array<i64: 1, 128>}
    : (index, index, index, index) -> !tile
  %1, %2 = "tile.scan"(%0, %carry) {exclusive = 1 : i64, kind = "sum"} : (!tile, !line) -> (!tile, !line)
  "tile.map"(%c0, %c0, %c1, %c128) ({
  ^bb0(%i: index, %j: index):
    %a = "tile.element"(%1) : (!tile) -> f32
    "tile.store"(%a, %y, %j) {lanes = "uniform"} : (f32, memref<?xf32>, index) -> ()
    gpu.yield
  }) {full = ["rows", "columns"], layout = "blocked<1x128, vector=1>", shape = array<i64: 1, 128>}
    : (index, index, index, index) -> ()
  return
}
