// RUN: tilewright opt %s --from lower --target sm_80
// Two warps have each multiplied half of k: one round through the shared memory that the operands no longer need,
// between barriers, gives every thread its part of the sum in another layout.

!scratch = !tile.tile<[16, 64], f32, "shared<rows, line=64>">
!parts = !tile.tile<[16, 16], f32, "mma<1x1x2 warps, width=2>">
!sum = !tile.tile<[16, 16], f32, "blocked<8x8, vector=2>">

// CHECK: llvm.func @combine
// CHECK: nvvm.barrier0
// CHECK: llvm.store %{{.*}} !llvm.ptr<3>
// CHECK: nvvm.barrier0
// CHECK: llvm.load %{{.*}} !llvm.ptr<3>
// CHECK: arith.addf
// CHECK: llvm.store %{{.*}} vector<2xf32>, !llvm.ptr<1>
func.func @combine(%y: memref<?xf32>) attributes {tile.threads = 64 : i64} {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : index
  %zero = arith.constant 0.0 : f32
  %scratch = "tile.allocate"() {stages = 1 : i64} : () -> !scratch
  %parts = "tile.full"(%zero) : (f32) -> !parts
  %sum = "tile.combine"(%parts, %scratch) : (!parts, !scratch) -> !sum
  "tile.map"(%c0, %c0, %c16, %c16) ({
  ^bb0(%i: index, %j: index):
    %value = "tile.element"(%sum) : (!sum) -> f32
    "tile.store"(%value, %y, %j) {lanes = "contiguous"} : (f32, memref<?xf32>, index) -> ()
    gpu.yield
  }) {full = ["rows", "columns"], layout = "blocked<8x8, vector=2>", shape = array<i64: 16, 16>}
    : (index, index, index, index) -> ()
  return
}
