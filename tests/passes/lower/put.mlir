// RUN: tilewright opt %s --from lower --target sm_80
// Sums of a product become the operand of another one: rounded to f16 and stored to shared memory, two at once.

!sum = !tile.tile<[16, 8], f32, "mma<1x1 warps, width=2>">
!shared = !tile.tile<[16, 8], f16, "shared<rows, line=16>">

// CHECK: llvm.func @put
// CHECK: arith.truncf %{{.*}} : f32 to f16
// CHECK-COUNT-2: llvm.store %{{.*}} : vector<2xf16>, !llvm.ptr<3>
// CHECK-NOT: llvm.store
func.func @put(%x: memref<?xf32>) attributes {tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %c8 = arith.constant 8 : index
  %c16 = arith.constant 16 : index
  %shared = "tile.allocate"() {stages = 1 : i64} : () -> !shared
  %tile = "tile.map"(%c0, %c0, %c16, %c8) ({
  ^bb0(%i: index, %j: index):
    %a = "tile.load"(%x, %j) {lanes = "contiguous"} : (memref<?xf32>, index) -> f32
    gpu.yield %a : f32
  }) {full = ["rows", "columns"], layout = "mma<1x1 warps, width=2>", shape = array<i64: 16, 8>}
    : (index, index, index, index) -> !sum
  "tile.put"(%shared, %c0, %tile) : (!shared, index, !sum) -> ()
  return
}


// -----
// Of a reduced tile, what many threads hold is stored by the one that held the first element of the line.

!all = !tile.tile<[1, 64], f32, "blocked<1x32, vector=2>">
!line = !tile.tile<[1, 1], f32, "reduced<1, blocked<1x32, vector=2>[1x64]>">
!shared = !tile.tile<[1, 1], f32, "shared<rows, line=1>">

// CHECK: llvm.func @put
// CHECK: %[[FIRST:.*]] = arith.cmpi eq
// CHECK: scf.if %[[FIRST]]
// CHECK-NEXT: llvm.store %{{.*}} : f32, !llvm.ptr<3>
// CHECK-NOT: llvm.store
func.func @put(%x: memref<?xf32>) attributes {tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c64 = arith.constant 64 : index
  %shared = "tile.allocate"() {stages = 1 : i64} : () -> !shared
  %tile = "tile.map"(%c0, %c0, %c1, %c64) ({
  ^bb0(%i: index, %j: index):
    %a = "tile.load"(%x, %j) {lanes = "contiguous"} : (memref<?xf32>, index) -> f32
    gpu.yield %a : f32
  }) {full = ["rows", "columns"], layout = "blocked<1x32, vector=2>", shape = array<i64: 1, 64>}
    : (index, index, index, index) -> !all
  %sum = "tile.reduce"(%tile) {axis = 1 : i64, kind = "sum"} : (!all) -> !line
  "tile.put"(%shared, %c0, %sum) : (!shared, index, !line) -> ()
  return
}
