// RUN: tilewright opt %s --from lower --target sm_90a
// Attention's two products: the first begins its sums, whose old values are not read; its results, packed in pairs of
// halves, are the left operand of the second. A wait that leaves another product running owns its sums.

!query = !tile.tile<[64, 64], f16, "shared<rows, line=64, swizzle=128>">
!key = !tile.tile<[64, 16], f16, "shared<columns, line=64, swizzle=128>">
!value = !tile.tile<[16, 64], f16, "shared<rows, line=64, swizzle=128>">
!score = !tile.tile<[64, 16], f32, "wgmma<1 groups>">
!weight = !tile.tile<[64, 16], f16, "pairs<1 groups>">
!sum = !tile.tile<[64, 64], f32, "wgmma<1 groups>">

// CHECK: llvm.func @dots
// CHECK: llvm.inline_asm has_side_effects{{.*}}setp.ne.u32 accumulate, 0, 0;
// CHECK-SAME: wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 {$0, {{[^}]*}}$7}, $8, $9, accumulate, 1, 1, 0, 0;
// CHECK-SAME: setp.eq.u32 accumulate, 0, 0;
// CHECK-COUNT-3: wgmma.mma_async
// CHECK: nvvm.wgmma.commit.group.sync.aligned
// CHECK: "wgmma.wait_group.sync.aligned 0;"
// CHECK-COUNT-4: cvt.rn.f16x2.f32 $0, $2, $1;
// CHECK: wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16
// CHECK-SAME: $31}, {$64, $65, $66, $67}, $68, accumulate, 1, 1, 1;
// CHECK: nvvm.wgmma.commit.group.sync.aligned
// CHECK: "wgmma.wait_group.sync.aligned 1;"
// CHECK: "wgmma.wait_group.sync.aligned 0;"
func.func @dots(%y: memref<?xf32>, %before: f32) attributes {tile.threads = 128 : i64} {
  %c0 = arith.constant 0 : index
  %c64 = arith.constant 64 : index
  %zero = arith.constant 0.0 : f32
  %query = "tile.allocate"() {stages = 1 : i64} : () -> !query
  %key = "tile.allocate"() {stages = 1 : i64} : () -> !key
  %value = "tile.allocate"() {stages = 1 : i64} : () -> !value
  %start = "tile.full"(%zero) : (f32) -> !score
  %product = "tile.dot"(%query, %key, %start, %c0) {instruction = "m64n16k16.f16"}
    : (!query, !key, !score, index) -> !score
  %score = "tile.dot_wait"(%product) {pending = 0 : i64} : (!score) -> !score
  %weight = "tile.pack"(%score) : (!score) -> !weight
  %old = "tile.full"(%before) : (f32) -> !sum
  %running = "tile.dot"(%weight, %value, %old, %c0) {instruction = "m64n64k16.f16"}
    : (!weight, !value, !sum, index) -> !sum
  %same = "tile.dot_wait"(%score) {pending = 1 : i64, others = 1 : i64} : (!score) -> !score
  %sum = "tile.dot_wait"(%running) {pending = 0 : i64} : (!sum) -> !sum
  "tile.map"(%c0, %c0, %c64, %c64) ({
  ^bb0(%i: index, %j: index):
    %own = "tile.element"(%sum) : (!sum) -> f32
    "tile.store"(%own, %y, %j) {lanes = "contiguous"} : (f32, memref<?xf32>, index) -> ()
    gpu.yield
  }) {full = ["rows", "columns"], layout = "wgmma<1 groups>", shape = array<i64: 64, 64>}
    : (index, index, index, index) -> ()
  return
}
