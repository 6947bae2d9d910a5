// RUN: tilewright opt %s --from lower --target sm_80
// Left operands in registers: one loaded once by ldmatrix, and one made of sums, two neighbours to a register. Neither
// product reads its left operand from shared memory again.

!query = !tile.tile<[16, 16], f16, "shared<rows, line=24>">
!held = !tile.tile<[16, 16], f16, "fragments<1 warps>">
!right = !tile.tile<[16, 16], f16, "shared<rows, line=24>">
!sum = !tile.tile<[16, 16], f32, "mma<1x1 warps, width=2>">

// CHECK: llvm.func @products
// CHECK: nvvm.ldmatrix %{{.*}}layout = #nvvm.mma_layout<row>, num = 4
// CHECK: nvvm.ldmatrix %{{.*}}layout = #nvvm.mma_layout<col>, num = 4
// CHECK-COUNT-2: nvvm.mma.sync
// CHECK-COUNT-4: llvm.inline_asm "cvt.rn.f16x2.f32 $0, $2, $1;"
// CHECK: nvvm.ldmatrix %{{.*}}layout = #nvvm.mma_layout<col>, num = 4
// CHECK-COUNT-2: nvvm.mma.sync
// CHECK-NOT: nvvm.ldmatrix
func.func @products(%y: memref<?xf32>) attributes {tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : index
  %zero = arith.constant 0.0 : f32
  %query = "tile.allocate"() {stages = 1 : i64} : () -> !query
  %right = "tile.allocate"() {stages = 1 : i64} : () -> !right
  %held = "tile.fragments"(%query, %c0) : (!query, index) -> !held
  %start = "tile.full"(%zero) : (f32) -> !sum
  %sum = "tile.dot"(%held, %right, %start, %c0) {instruction = "m16n8k16.f16"} : (!held, !right, !sum, index) -> !sum
  %packed = "tile.pack"(%sum) : (!sum) -> !held
  %last = "tile.dot"(%packed, %right, %start, %c0) {instruction = "m16n8k16.f16"} : (!held, !right, !sum, index) -> !sum
  "tile.map"(%c0, %c0, %c16, %c16) ({
  ^bb0(%i: index, %j: index):
    %value = "tile.element"(%last) : (!sum) -> f32
    %line = arith.muli %i, %c16 : index
    %offset = arith.addi %line, %j : index
    "tile.store"(%value, %y, %offset) {lanes = "contiguous"} : (f32, memref<?xf32>, index) -> ()
    gpu.yield
  }) {full = ["rows", "columns"], layout = "mma<1x1 warps, width=2>", shape = array<i64: 16, 16>}
    : (index, index, index, index) -> ()
  return
}
