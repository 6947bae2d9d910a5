// RUN: tilewright opt %s --from lower --target sm_80
// A square is turned: two rows of a thread are written as one word of 32 bits, whose piece of 16 bytes has its place by the
// line; a barrier; then pieces of 16 bytes are read.

!read = !tile.tile<[64, 64], f16, "blocked<32x8, vector=8, down=2>">
!scratch = !tile.tile<[64, 64], f16, "shared<rows, line=64>">
!turned = !tile.tile<[64, 64], f16, "blocked<32x8, vector=8>">

// CHECK: llvm.func @turn
// CHECK: arith.xori
// CHECK-COUNT-8: llvm.store %{{.*}} vector<2xf16>, !llvm.ptr<3>
// CHECK-NOT: llvm.store
// CHECK: nvvm.barrier0
// CHECK-COUNT-2: llvm.load %{{.*}} !llvm.ptr<3> -> vector<8xf16>
// CHECK-COUNT-2: llvm.store %{{.*}} vector<8xf16>, !llvm.ptr<1>
func.func @turn(%x: memref<?xf16>, %y: memref<?xf16>) attributes {tile.threads = 256 : i64} {
  %c0 = arith.constant 0 : index
  %c64 = arith.constant 64 : index
  %scratch = "tile.allocate"() {stages = 1 : i64} : () -> !scratch
  %read = "tile.map"(%c0, %c0, %c64, %c64) ({
  ^bb0(%i: index, %j: index):
    %row = arith.muli %i, %c64 : index
    %place = arith.addi %row, %j : index
    %value = "tile.load"(%x, %place) {lanes = "contiguous"} : (memref<?xf16>, index) -> f16
    gpu.yield %value : f16
  }) {full = ["rows", "columns"], layout = "blocked<32x8, vector=8, down=2>", shape = array<i64: 64, 64>}
    : (index, index, index, index) -> !read
  %turned = "tile.turn"(%read, %scratch) : (!read, !scratch) -> !turned
  "tile.map"(%c0, %c0, %c64, %c64) ({
  ^bb0(%i: index, %j: index):
    %value = "tile.element"(%turned) : (!turned) -> f16
    %row = arith.muli %i, %c64 : index
    %place = arith.addi %row, %j : index
    "tile.store"(%value, %y, %place) {lanes = "contiguous"} : (f16, memref<?xf16>, index) -> ()
    gpu.yield
  }) {full = ["rows", "columns"], layout = "blocked<32x8, vector=8>", shape = array<i64: 64, 64>}
    : (index, index, index, index) -> ()
  return
}
