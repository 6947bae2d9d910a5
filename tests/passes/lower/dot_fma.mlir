// RUN: tilewright opt %s --from lower --target sm_80 | FileCheck %s --check-prefix=LOADS
// RUN: tilewright opt %s --from lower --target sm_80 | FileCheck %s --check-prefix=SUMS
// Strict f32: a thread holds 4x4 sums and reads four elements of each operand with one access of 16 bytes, for each of
// four k; every product is added with one rounding.

!left = !tile.tile<[16, 4], f32, "shared<columns, line=16>">
!right = !tile.tile<[4, 32], f32, "shared<rows, line=32>">
!sum = !tile.tile<[16, 32], f32, "fma<1x1x1 warps, 4x8 lanes, vector=4x4, width=4>">

// LOADS: llvm.func @dot
// LOADS-COUNT-8: llvm.load %{{.*}} {alignment = 16 : i64} : !llvm.ptr<3> -> vector<4xf32>
// LOADS-NOT: llvm.load

// SUMS: llvm.func @dot
// SUMS-COUNT-64: llvm.intr.fma
// SUMS-NOT: llvm.intr.fma
func.func @dot(%y: memref<?xf32>) attributes {tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : index
  %c32 = arith.constant 32 : index
  %zero = arith.constant 0.0 : f32
  %left = "tile.allocate"() {stages = 1 : i64} : () -> !left
  %right = "tile.allocate"() {stages = 1 : i64} : () -> !right
  %start = "tile.full"(%zero) : (f32) -> !sum
  %sum = "tile.dot"(%left, %right, %start, %c0) {instruction = "fma"} : (!left, !right, !sum, index) -> !sum
  "tile.map"(%c0, %c0, %c16, %c32) ({
  ^bb0(%i: index, %j: index):
    %value = "tile.element"(%sum) : (!sum) -> f32
    "tile.store"(%value, %y, %j) {lanes = "contiguous"} : (f32, memref<?xf32>, index) -> ()
    gpu.yield
  }) {full = ["rows", "columns"], layout = "fma<1x1x1 warps, 4x8 lanes, vector=4x4, width=4>",
      shape = array<i64: 16, 32>} : (index, index, index, index) -> ()
  return
}
