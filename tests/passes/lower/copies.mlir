// RUN: tilewright opt %s --from lower --target sm_80
// A copy of eight f16 is a cp.async of 16 bytes past the first-level cache. Where the predicate is false the source
// size is 0, which fills with zeros, and the address is that of the first element, which exists.

!shared = !tile.tile<[16, 32], f16, "shared<rows, line=40>">

// CHECK: llvm.func @copy(%[[X:[^:]*]]: !llvm.ptr<1>
// CHECK-SAME: %[[ROWS:[^:]*]]: i32)
// CHECK-SAME: nvvm.reqntid = array<i32: 64, 1, 1>
// CHECK: %[[SHARED:.*]] = llvm.mlir.addressof @shared_memory : !llvm.ptr<3>
// CHECK-DAG: %[[INSIDE:.*]] = arith.cmpi ult, %{{.*}}, %[[ROWS]]
// CHECK-DAG: %[[TARGET:.*]] = llvm.getelementptr %[[SHARED]]
// CHECK-DAG: %[[SIZE:.*]] = arith.select %[[INSIDE]], %c16_i32, %c0_i32
// CHECK-DAG: %[[OFFSET:.*]] = arith.select %[[INSIDE]], %{{.*}}, %c0_i32
// CHECK: %[[SOURCE:.*]] = llvm.getelementptr %[[X]][%[[OFFSET]]]
// CHECK-NEXT: nvvm.cp.async.shared.global %[[TARGET]], %[[SOURCE]], 16, cache = cg, %[[SIZE]]
// CHECK-NEXT: nvvm.cp.async.commit.group
// CHECK-NEXT: nvvm.cp.async.wait.group 1
// CHECK-NEXT: nvvm.barrier0
// CHECK-NEXT: llvm.return
func.func @copy(%x: memref<?xf16>, %rows: index) attributes {tile.threads = 64 : i64} {
  %c0 = arith.constant 0 : index
  %c32 = arith.constant 32 : index
  %tile = "tile.allocate"() {stages = 2 : i64} : () -> !shared
  "tile.copy"(%tile, %c0, %x, %c0, %c0) ({
  ^bb0(%i: index, %j: index):
    %inside = arith.cmpi ult, %i, %rows : index
    %line = arith.muli %i, %c32 : index
    %offset = arith.addi %line, %j : index
    gpu.yield %offset, %inside : index, i1
  }) {vector = 8 : i64} : (!shared, index, memref<?xf16>, index, index) -> ()
  "tile.commit"() : () -> ()
  "tile.wait"() {pending = 1 : i64} : () -> ()
  "tile.barrier"() : () -> ()
  return
}

// -----
// A line of the shared tile is 40 elements (80 bytes) apart from the next, so that eight lines meet all banks once; the
// second stage of the ring begins 16 lines on.

!shared = !tile.tile<[16, 32], f16, "shared<rows, line=40>">

// CHECK: %[[PLACE:.*]] = arith.remui %[[THREAD:.*]], %c4_i32
// CHECK: %[[LINE:.*]] = arith.divui %[[THREAD]], %c4_i32
// CHECK-DAG: %[[LINE_BYTES:.*]] = arith.muli %[[LINE]], %c80_i32
// CHECK-DAG: %[[STAGE:.*]] = arith.muli %{{.*}}, %c1280_i32
// CHECK-NOT: arith.select
// CHECK: nvvm.cp.async.shared.global %{{[^,]*}}, %{{[^,]*}}, 16, cache = cg :
func.func @copy(%x: memref<?xf16>) attributes {tile.threads = 64 : i64} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c32 = arith.constant 32 : index
  %tile = "tile.allocate"() {stages = 2 : i64} : () -> !shared
  "tile.copy"(%tile, %c1, %x, %c0, %c0) ({
  ^bb0(%i: index, %j: index):
    %line = arith.muli %i, %c32 : index
    %offset = arith.addi %line, %j : index
    gpu.yield %offset : index
  }) {vector = 8 : i64} : (!shared, index, memref<?xf16>, index, index) -> ()
  return
}

// -----
// Fewer bytes go through the first-level cache; threads without a piece of the tile do nothing.

!shared = !tile.tile<[6, 8], f32, "shared<rows, line=8>">

// CHECK: %[[ACTIVE:.*]] = arith.cmpi {{.*}}, %c12_i32
// CHECK: scf.if %[[ACTIVE]] {
// CHECK: nvvm.cp.async.shared.global %{{[^,]*}}, %{{[^,]*}}, 16, cache = cg
// CHECK: scf.if
// CHECK: nvvm.cp.async.shared.global %{{[^,]*}}, %{{[^,]*}}, 8, cache = ca
// CHECK: nvvm.cp.async.shared.global %{{[^,]*}}, %{{[^,]*}}, 4, cache = ca
func.func @copy(%x: memref<?xf32>) attributes {tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %c8 = arith.constant 8 : index
  %tile = "tile.allocate"() {stages = 1 : i64} : () -> !shared
  "tile.copy"(%tile, %c0, %x, %c0, %c0) ({
  ^bb0(%i: index, %j: index):
    %line = arith.muli %i, %c8 : index
    %offset = arith.addi %line, %j : index
    gpu.yield %offset : index
  }) {vector = 4 : i64} : (!shared, index, memref<?xf32>, index, index) -> ()
  "tile.copy"(%tile, %c0, %x, %c0, %c0) ({
  ^bb0(%i: index, %j: index):
    %line = arith.muli %i, %c8 : index
    %offset = arith.addi %line, %j : index
    gpu.yield %offset : index
  }) {vector = 2 : i64} : (!shared, index, memref<?xf32>, index, index) -> ()
  "tile.copy"(%tile, %c0, %x, %c0, %c0) ({
  ^bb0(%i: index, %j: index):
    %line = arith.muli %i, %c8 : index
    %offset = arith.addi %line, %j : index
    gpu.yield %offset : index
  }) {vector = 1 : i64} : (!shared, index, memref<?xf32>, index, index) -> ()
  return
}

// -----
// Two bytes are too few for cp.async: a load, zero where the predicate is false, and a store.

!shared = !tile.tile<[2, 16], f16, "shared<rows, line=24>">

// CHECK-NOT: nvvm.cp.async
// CHECK: %[[INSIDE:.*]] = arith.cmpi ult
// CHECK: %[[VALUE:.*]] = llvm.load %{{.*}} : !llvm.ptr<1> -> f16
// CHECK: %[[KEPT:.*]] = arith.select %[[INSIDE]], %[[VALUE]], %cst
// CHECK: llvm.store %[[KEPT]], %{{.*}} : f16, !llvm.ptr<3>
func.func @copy(%x: memref<?xf16>, %rows: index) attributes {tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : index
  %tile = "tile.allocate"() {stages = 1 : i64} : () -> !shared
  "tile.copy"(%tile, %c0, %x, %c0, %c0) ({
  ^bb0(%i: index, %j: index):
    %inside = arith.cmpi ult, %i, %rows : index
    %line = arith.muli %i, %c16 : index
    %offset = arith.addi %line, %j : index
    gpu.yield %offset, %inside : index, i1
  }) {vector = 1 : i64} : (!shared, index, memref<?xf16>, index, index) -> ()
  return
}

// -----
// A fill computes its elements: here bytes that become floats, four loaded at once and stored with 16 bytes.

!shared = !tile.tile<[4, 32], f32, "shared<rows, line=36>">

// CHECK: %[[BYTES:.*]] = llvm.load %{{.*}} {alignment = 4 : i64} : !llvm.ptr<1> -> vector<4xi8>
// CHECK-COUNT-4: arith.sitofp %{{.*}} : i8 to f32
// CHECK: %[[FOUR:.*]] = vector.from_elements
// CHECK: llvm.store %[[FOUR]], %{{.*}} {alignment = 16 : i64} : vector<4xf32>, !llvm.ptr<3>
func.func @fill(%x: memref<?xi8>) attributes {tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %c32 = arith.constant 32 : index
  %tile = "tile.allocate"() {stages = 1 : i64} : () -> !shared
  "tile.fill"(%tile, %c0, %c0, %c0) ({
  ^bb0(%i: index, %j: index):
    %line = arith.muli %i, %c32 : index
    %offset = arith.addi %line, %j : index
    %a = "tile.load"(%x, %offset) {lanes = "contiguous"} : (memref<?xi8>, index) -> i8
    %b = arith.sitofp %a : i8 to f32
    gpu.yield %b : f32
  }) {vector = 4 : i64} : (!shared, index, index, index) -> ()
  return
}

// -----
// Two bytes of i8 go through registers as well, in one load. Lines of five pieces do not divide the threads: every step
// computes its own place in the line.

!shared = !tile.tile<[8, 10], i8, "shared<rows, line=16>">

// CHECK-NOT: nvvm.cp.async
// CHECK-DAG: arith.remui %[[THREAD:.*]], %c5_i32
// CHECK-DAG: arith.divui %[[THREAD]], %c5_i32
// CHECK: llvm.load %{{.*}} {alignment = 2 : i64} : !llvm.ptr<1> -> vector<2xi8>
// CHECK: llvm.store %{{.*}} {alignment = 2 : i64} : vector<2xi8>, !llvm.ptr<3>
func.func @copy(%x: memref<?xi8>) attributes {tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %c10 = arith.constant 10 : index
  %tile = "tile.allocate"() {stages = 1 : i64} : () -> !shared
  "tile.copy"(%tile, %c0, %x, %c0, %c0) ({
  ^bb0(%i: index, %j: index):
    %line = arith.muli %i, %c10 : index
    %offset = arith.addi %line, %j : index
    gpu.yield %offset : index
  }) {vector = 2 : i64} : (!shared, index, memref<?xi8>, index, index) -> ()
  return
}

// -----
// In a tile whose lines are columns, the four elements of a vector lie below each other.

!shared = !tile.tile<[32, 4], f32, "shared<columns, line=36>">

// CHECK: llvm.load %{{.*}} {alignment = 16 : i64} : !llvm.ptr<1> -> vector<4xf32>
// CHECK: llvm.store %{{.*}} {alignment = 16 : i64} : vector<4xf32>, !llvm.ptr<3>
func.func @fill(%x: memref<?xf32>) attributes {tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %c32 = arith.constant 32 : index
  %tile = "tile.allocate"() {stages = 1 : i64} : () -> !shared
  "tile.fill"(%tile, %c0, %c0, %c0) ({
  ^bb0(%i: index, %j: index):
    %column = arith.muli %j, %c32 : index
    %offset = arith.addi %column, %i : index
    %a = "tile.load"(%x, %offset) {lanes = "contiguous"} : (memref<?xf32>, index) -> f32
    %b = arith.negf %a : f32
    gpu.yield %b : f32
  }) {vector = 4 : i64} : (!shared, index, index, index) -> ()
  return
}
