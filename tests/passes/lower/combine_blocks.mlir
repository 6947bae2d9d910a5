// RUN: tilewright opt %s --from lower --target sm_90a
// Each of the two blocks reads its half of the rows of both partial sums, its own first, and adds them up.

!partial = !tile.tile<[16, 16], f32, "shared<rows, line=24>">
!sum = !tile.tile<[8, 16], f32, "blocked<8x4, vector=4>">

// CHECK: llvm.func @combine
// CHECK: %[[RANK:.*]] = nvvm.read.ptx.sreg.cluster.ctarank
// CHECK: %[[OWN:.*]] = nvvm.mapa %{{.*}}, %{{.*}} : !llvm.ptr<3> -> !llvm.ptr<7>
// CHECK: %[[OTHER:.*]] = nvvm.mapa %{{.*}}, %{{.*}} : !llvm.ptr<3> -> !llvm.ptr<7>
// CHECK: llvm.load %{{.*}} : !llvm.ptr<7> -> vector<4xf32>
// CHECK: llvm.load %{{.*}} : !llvm.ptr<7> -> vector<4xf32>
// CHECK-COUNT-4: arith.addf
// CHECK: llvm.store %{{.*}} vector<4xf32>, !llvm.ptr<1>
func.func @combine(%y: memref<?xf32>) attributes {tile.threads = 32 : i64, tile.cluster = 2 : i64} {
  %c0 = arith.constant 0 : index
  %c8 = arith.constant 8 : index
  %c16 = arith.constant 16 : index
  %block = "tile.program_id"() {axis = 0 : i64} : () -> index
  %row = arith.muli %block, %c8 : index
  %partial = "tile.allocate"() {stages = 1 : i64} : () -> !partial
  %sum = "tile.combine_blocks"(%partial, %row) {blocks = 2 : i64} : (!partial, index) -> !sum
  "tile.map"(%row, %c0, %c16, %c16) ({
  ^bb0(%i: index, %j: index):
    %value = "tile.element"(%sum) : (!sum) -> f32
    "tile.store"(%value, %y, %j) {lanes = "contiguous"} : (f32, memref<?xf32>, index) -> ()
    gpu.yield
  }) {full = ["rows", "columns"], layout = "blocked<8x4, vector=4>", shape = array<i64: 8, 16>}
    : (index, index, index, index) -> ()
  return
}

// -----
// The same transposed: neighbours of a line come from neighbouring rows, 24 numbers apart.

!partial = !tile.tile<[16, 16], f32, "shared<rows, line=24>">
!sum = !tile.tile<[16, 8], f32, "blocked<16x2, vector=4>">

// CHECK: llvm.func @turn
// CHECK-COUNT-4: arith.muli %{{.*}}, %c24_i32
// CHECK-COUNT-8: llvm.load %{{.*}} : !llvm.ptr<7> -> vector<1xf32>
// CHECK-NOT: llvm.load %{{.*}} : !llvm.ptr<7>
// CHECK: llvm.store %{{.*}} vector<4xf32>, !llvm.ptr<1>
func.func @turn(%y: memref<?xf32>) attributes {tile.threads = 32 : i64, tile.cluster = 2 : i64} {
  %c0 = arith.constant 0 : index
  %c8 = arith.constant 8 : index
  %c16 = arith.constant 16 : index
  %block = "tile.program_id"() {axis = 0 : i64} : () -> index
  %row = arith.muli %block, %c8 : index
  %partial = "tile.allocate"() {stages = 1 : i64} : () -> !partial
  %sum = "tile.combine_blocks"(%partial, %row) {blocks = 2 : i64, turned} : (!partial, index) -> !sum
  "tile.map"(%c0, %row, %c16, %c16) ({
  ^bb0(%i: index, %j: index):
    %value = "tile.element"(%sum) : (!sum) -> f32
    "tile.store"(%value, %y, %j) {lanes = "contiguous"} : (f32, memref<?xf32>, index) -> ()
    gpu.yield
  }) {full = ["rows", "columns"], layout = "blocked<16x2, vector=4>", shape = array<i64: 16, 8>}
    : (index, index, index, index) -> ()
  return
}
