// RUN: tilewright opt %s --from lower --target sm_80
// Every thread holds pairs of columns: the product of even and odd ones is that of its registers, and two neighbours of
// the result are stored together.

!sums = !tile.tile<[8, 32], f32, "blocked<8x8, vector=4>">
!half = !tile.tile<[8, 16], f32, "half<1, blocked<8x8, vector=4>[8x32]>">

// CHECK: llvm.func @gate
// CHECK-COUNT-2: arith.mulf
// CHECK-NOT: arith.mulf
// CHECK: llvm.store %{{.*}} vector<2xf32>, !llvm.ptr<1>
func.func @gate(%y: memref<?xf32>) attributes {tile.threads = 64 : i64} {
  %c0 = arith.constant 0 : index
  %c8 = arith.constant 8 : index
  %c16 = arith.constant 16 : index
  %zero = arith.constant 0.0 : f32
  %sums = "tile.full"(%zero) : (f32) -> !sums
  %even, %odd = "tile.halves"(%sums) : (!sums) -> (!half, !half)
  "tile.map"(%c0, %c0, %c8, %c16) ({
  ^bb0(%i: index, %j: index):
    %a = "tile.element"(%even) : (!half) -> f32
    %b = "tile.element"(%odd) : (!half) -> f32
    %product = arith.mulf %a, %b : f32
    "tile.store"(%product, %y, %j) {lanes = "contiguous"} : (f32, memref<?xf32>, index) -> ()
    gpu.yield
  }) {full = ["rows", "columns"], layout = "half<1, blocked<8x8, vector=4>[8x32]>", shape = array<i64: 8, 16>}
    : (index, index, index, index) -> ()
  return
}
