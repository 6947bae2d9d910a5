// RUN: tilewright opt %s --from lower --target sm_80
// The sum of a line that one warp holds: each thread adds its four elements, then five butterflies of shuffles, after
// which every lane has the sum. No shared memory, no barrier.

!tile = !tile.tile<[4, 128], f32, "blocked<4x32, vector=4>">
!sum = !tile.tile<[4, 1], f32, "reduced<1, blocked<4x32, vector=4>[4x128]>">

// CHECK: llvm.func @reduce
// CHECK-COUNT-3: arith.addf
// CHECK: %[[FAR:.*]] = nvvm.shfl.sync bfly %{{.*}}, %[[OWN:.*]], %c16_i32
// CHECK-NEXT: %[[NEXT:.*]] = arith.addf %[[OWN]], %[[FAR]]
// CHECK-NEXT: nvvm.shfl.sync bfly %{{.*}}, %[[NEXT]], %c8_i32
// CHECK: nvvm.shfl.sync bfly %{{.*}}, %{{.*}}, %c4_i32
// CHECK: nvvm.shfl.sync bfly %{{.*}}, %{{.*}}, %c2_i32
// CHECK: nvvm.shfl.sync bfly %{{.*}}, %{{.*}}, %c1_i32
// CHECK-NOT: nvvm.shfl.sync
// CHECK-NOT: nvvm.barrier0
func.func @reduce(%x: memref<?xf32>, %y: memref<?xf32>) attributes {tile.threads = 128 : i64} {
  %c0 = arith.constant 0 : index
  %c4 = arith.constant 4 : index
  %c128 = arith.constant 128 : index
  %0 = "tile.map"(%c0, %c0, %c4, %c128) ({
  ^bb0(%i: index, %j: index):
    %a = "tile.load"(%x, %j) {lanes = "contiguous"} : (memref<?xf32>, index) -> f32
    gpu.yield %a : f32
  }) {full = ["rows", "columns"], layout = "blocked<4x32, vector=4>", shape = array<i64: 4, 128>}
    : (index, index, index, index) -> !tile
  %1 = "tile.reduce"(%0) {axis = 1 : i64, kind = "sum"} : (!tile) -> !sum
  "tile.map"(%c0, %c0, %c4, %c4) ({
  ^bb0(%i: index, %j: index):
    %a = "tile.element"(%1) : (!sum) -> f32
    "tile.store"(%a, %y, %i) {lanes = "uniform"} : (f32, memref<?xf32>, index) -> ()
    gpu.yield
  }) {full = ["rows"], layout = "blocked<4x32, vector=1>", shape = array<i64: 4, 32>}
    : (index, index, index, index) -> ()
  return
}

// -----
// A line that spans four warps: each warp's maximum goes through shared memory, between barriers.

!tile = !tile.tile<[1, 128], f32, "blocked<1x128, vector=1>">
!top = !tile.tile<[1, 1], f32, "reduced<1, blocked<1x128, vector=1>[1x128]>">

// CHECK: llvm.func @reduce
// CHECK-COUNT-5: nvvm.shfl.sync bfly
// CHECK: llvm.store %{{.*}} : f32, !llvm.ptr<3>
// CHECK: nvvm.barrier0
// CHECK-COUNT-4: llvm.load %{{.*}} : !llvm.ptr<3> -> f32
// CHECK: nvvm.barrier0
func.func @reduce(%x: memref<?xf32>, %y: memref<?xf32>) attributes {tile.threads = 128 : i64} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c128 = arith.constant 128 : index
  %0 = "tile.map"(%c0, %c0, %c1, %c128) ({
  ^bb0(%i: index, %j: index):
    %a = "tile.load"(%x, %j) {lanes = "uniform"} : (memref<?xf32>, index) -> f32
    gpu.yield %a : f32
  }) {full = ["rows", "columns"], layout = "blocked<1x128, vector=1>", shape = array<i64: 1, 128>}
    : (index, index, index, index) -> !tile
  %1 = "tile.reduce"(%0) {axis = 1 : i64, kind = "max"} : (!tile) -> !top
  "tile.map"(%c0, %c0, %c1, %c1) ({
  ^bb0(%i: index, %j: index):
    %a = "tile.element"(%1) : (!top) -> f32
    "tile.store"(%a, %y, %i) {lanes = "uniform"} : (f32, memref<?xf32>, index) -> ()
    gpu.yield
  }) {full = ["rows"], layout = "blocked<1x128, vector=1>", shape = array<i64: 1, 128>}
    : (index, index, index, index) -> ()
  return
}

// -----
// Columns, with eight threads side by side: lanes 8 and 16 apart hold the same columns. Each of four neighbours is
// reduced on its own.

!tile = !tile.tile<[4, 32], f32, "blocked<4x8, vector=4>">
!sum = !tile.tile<[1, 32], f32, "reduced<0, blocked<4x8, vector=4>[4x32]>">

// CHECK: llvm.func @reduce
// CHECK-COUNT-8: nvvm.shfl.sync bfly %{{.*}}, %{{.*}}, %c{{8|16}}_i32
// CHECK-NOT: nvvm.shfl.sync
// CHECK-NOT: nvvm.barrier0
func.func @reduce(%x: memref<?xf32>, %y: memref<?xf32>) attributes {tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c4 = arith.constant 4 : index
  %c32 = arith.constant 32 : index
  %0 = "tile.map"(%c0, %c0, %c4, %c32) ({
  ^bb0(%i: index, %j: index):
    %a = "tile.load"(%x, %j) {lanes = "contiguous"} : (memref<?xf32>, index) -> f32
    gpu.yield %a : f32
  }) {full = ["rows", "columns"], layout = "blocked<4x8, vector=4>", shape = array<i64: 4, 32>}
    : (index, index, index, index) -> !tile
  %1 = "tile.reduce"(%0) {axis = 0 : i64, kind = "sum"} : (!tile) -> !sum
  "tile.map"(%c0, %c0, %c1, %c32) ({
  ^bb0(%i: index, %j: index):
    %a = "tile.element"(%1) : (!sum) -> f32
    "tile.store"(%a, %y, %j) {lanes = "contiguous"} : (f32, memref<?xf32>, index) -> ()
    gpu.yield
  }) {full = ["columns"], layout = "blocked<4x8, vector=4>", shape = array<i64: 4, 32>}
    : (index, index, index, index) -> ()
  return
}

// -----
// 64 bits are shuffled as two words.

!tile = !tile.tile<[1, 32], i64, "blocked<1x32, vector=1>">
!sum = !tile.tile<[1, 1], i64, "reduced<1, blocked<1x32, vector=1>[1x32]>">

// CHECK: llvm.func @reduce
// CHECK-COUNT-10: nvvm.shfl.sync bfly
// CHECK-NOT: nvvm.shfl.sync
func.func @reduce(%x: memref<?xi64>, %y: memref<?xi64>) attributes {tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c32 = arith.constant 32 : index
  %0 = "tile.map"(%c0, %c0, %c1, %c32) ({
  ^bb0(%i: index, %j: index):
    %a = "tile.load"(%x, %j) {lanes = "uniform"} : (memref<?xi64>, index) -> i64
    gpu.yield %a : i64
  }) {full = ["rows", "columns"], layout = "blocked<1x32, vector=1>", shape = array<i64: 1, 32>}
    : (index, index, index, index) -> !tile
  %1 = "tile.reduce"(%0) {axis = 1 : i64, kind = "max"} : (!tile) -> !sum
  "tile.map"(%c0, %c0, %c1, %c1) ({
  ^bb0(%i: index, %j: index):
    %a = "tile.element"(%1) : (!sum) -> i64
    "tile.store"(%a, %y, %i) {lanes = "uniform"} : (i64, memref<?xi64>, index) -> ()
    gpu.yield
  }) {full = ["rows"], layout = "blocked<1x32, vector=1>", shape = array<i64: 1, 32>}
    : (index, index, index, index) -> ()
  return
}
