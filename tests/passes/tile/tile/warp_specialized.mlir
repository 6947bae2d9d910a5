// RUN: tilewright opt %s --from tile --target sm_90a | FileCheck %s --check-prefix=HOPPER
// RUN: tilewright opt %s --from tile --target sm_100 | FileCheck %s --check-prefix=OTHER
// On Hopper a product of f16 has two roles: consumers wait for a full stage, multiply it and give it back; one thread
// of the producer waits for an empty one and fetches a box of each operand. What the epilogue makes leaves in boxes, too;
// the last of them are waited for before the block ends. Other targets keep the plain loop.

!x = tensor<4096x4096xf16>
!w = tensor<4096x4096xf16>
!y = tensor<4096x4096xf32>

// HOPPER: func.func @dot_0(
// HOPPER-SAME: %[[LEFT_MAP:[^:]*]]: !tile.tensor_map<f16, {{[^>]*}}>, %[[RIGHT_MAP:[^:]*]]: !tile.tensor_map<f16,
// HOPPER-SAME: %[[RESULT_MAP:[^:]*]]: !tile.tensor_map<f32, [32, 64], "128b">
// HOPPER: %[[LEFT:.*]] = "tile.allocate"() {{.*}}swizzle=128
// HOPPER: %[[RIGHT:.*]] = "tile.allocate"() {{.*}}swizzle=128
// HOPPER: %[[OUT:.*]] = "tile.allocate"() {stages = 2
// HOPPER: %[[FULL:.*]] = "tile.make_barriers"() {arrivals = 1
// HOPPER: %[[EMPTY:.*]] = "tile.make_barriers"()
// HOPPER: {{"tile.(cluster_)?barrier"}}
// HOPPER: "tile.warps"
// HOPPER: "tile.await"(%[[FULL]], %[[STAGE:.*]], %{{.*}})
// HOPPER: "tile.dot"(%[[LEFT]], %[[RIGHT]], %{{.*}}, %[[STAGE]]) {instruction = "m64n{{.*}}k16.f16"}
// HOPPER: "tile.dot_wait"{{.*}}pending = 1
// HOPPER: "tile.arrive"(%[[EMPTY]],
// HOPPER: "tile.dot_wait"{{.*}}pending = 0
// HOPPER: %[[MADE:.*]] = "tile.map"
// HOPPER: "tile.store_boxes"(%[[MADE]], %[[OUT]], %{{.*}}, %[[RESULT_MAP]], %{{.*}}, %{{.*}}) {slots = 2 : i64}
// HOPPER: "tile.stores_wait"
// HOPPER: "tile.warps"
// HOPPER: "tile.single"
// HOPPER: "tile.await"(%[[EMPTY]], %[[STAGE:.*]], %{{.*}})
// HOPPER: "tile.expect"(%[[FULL]], %[[STAGE]]) {bytes =
// HOPPER: "tile.load_box"(%[[LEFT]], %[[STAGE]], %[[LEFT_MAP]], %[[FULL]], %[[STAGE]],
// HOPPER: "tile.load_box"(%[[RIGHT]], %[[STAGE]], %[[RIGHT_MAP]], %[[FULL]], %[[STAGE]],

// OTHER-NOT: tile.warps
// OTHER: "tile.dot"{{.*}}instruction = "m16n8k16.f16"
func.func private @dot_0(%x: !x, %w: !w) -> !y attributes {graph.kernel = "dot", graph.nodes = []} {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !y
  return %0 : !y
}

// -----
// Boxes take memory as it is: an operand that is computed, or whose rows do not begin at multiples of 16 bytes, goes
// the other way on Hopper, too.

!x = tensor<256x500xf16>
!w = tensor<500x256xf16>
!y = tensor<256x256xf32>

// HOPPER-NOT: tile.warps
// HOPPER: "tile.dot"{{.*}}instruction = "m16n8k16.f16"

// OTHER: "tile.dot"{{.*}}instruction = "m16n8k16.f16"
func.func private @dot_0(%x: !x, %w: !w) -> !y attributes {graph.kernel = "dot", graph.nodes = []} {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !y
  return %0 : !y
}

// -----
// A long k and one small result: the blocks of a cluster share k. Each leaves its sums in the place of the ring, and adds
// up some of the rows.

!x = tensor<64x2048xf16>
!w = tensor<2048x64xf16>
!y = tensor<64x64xf32>

// HOPPER: func.func @dot_0({{.*}}tile.cluster = 8{{.*}}split = 8
// HOPPER: %[[LEFT:.*]] = "tile.allocate"()
// HOPPER: %[[PARTIAL:.*]] = "tile.allocate"(%[[LEFT]])
// HOPPER: "tile.barrier"
// HOPPER: "tile.warps"
// HOPPER: %[[RANK:.*]] = arith.remui
// HOPPER: %[[SUM:.*]] = "tile.dot_wait"{{.*}}pending = 0
// HOPPER-NEXT: "tile.barrier"
// HOPPER-NEXT: "tile.put"(%[[PARTIAL]], %{{.*}}, %[[SUM]])
// HOPPER-NEXT: "tile.cluster_barrier"
// HOPPER-NEXT: %[[ROW:.*]] = arith.muli %[[RANK]]
// HOPPER-NEXT: "tile.combine_blocks"(%[[PARTIAL]], %[[ROW]]) {blocks = 8 : i64}
// HOPPER: "tile.store"
// HOPPER: "tile.warps"
// HOPPER: "tile.load_box"
// HOPPER: "tile.cluster_barrier"
// HOPPER: "tile.cluster_barrier"
// OTHER-NOT: tile.combine_blocks
func.func private @dot_0(%x: !x, %w: !w) -> !y attributes {graph.kernel = "dot", graph.nodes = []} {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !y
  return %0 : !y
}

// -----
// With a short k the epilogue counts: two groups of consumers have a tile each, every other one of the block, and multiply
// in turn. A group waits for its turn, tells the other when its last product has started, and then skips the other's steps.

!x = tensor<4096x256xf16>
!w = tensor<256x4096xf16>
!y = tensor<4096x4096xf32>

// HOPPER: func.func @dot_0({{.*}}turns = 2
// HOPPER: %[[FULL:.*]] = "tile.make_barriers"() {arrivals = 1
// HOPPER: "tile.make_barriers"()
// HOPPER: %[[ORDER:.*]] = "tile.make_barriers"() {arrivals = 4 : i64, count = 2 : i64}
// HOPPER: "tile.warps"
// HOPPER: %[[GROUP:.*]] = "tile.group"()
// HOPPER: "tile.await"(%[[ORDER]], %[[GROUP]], %{{.*}})
// HOPPER: "tile.await"(%[[FULL]],
// HOPPER: "tile.dot"
// HOPPER: %[[THEIRS:.*]] = arith.xori %[[GROUP]]
// HOPPER-NEXT: "tile.arrive"(%[[ORDER]], %[[THEIRS]])
// HOPPER-NEXT: "tile.dot_wait"{{.*}}pending = 0
// HOPPER: %[[SLOT:.*]] = arith.muli %[[GROUP]], %c2
// HOPPER: "tile.store_boxes"(%{{.*}}, %{{.*}}, %[[SLOT]],
// HOPPER: apart, count = 8 : i64, first = 0 : i64
// OTHER-NOT: tile.group
func.func private @dot_0(%x: !x, %w: !w) -> !y attributes {graph.kernel = "dot", graph.nodes = []} {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !y
  return %0 : !y
}

// -----
// A whole tensor that the epilogue reads where it stores, and in its type, arrives in boxes beside the sums: asked for in
// front of the products, in the shared tile that the result then leaves from.

!x = tensor<1024x512xf16>
!w = tensor<512x1024xf16>
!y = tensor<1024x1024xf16>

// HOPPER: func.func @dot_0(
// HOPPER-SAME: %[[BESIDE_MAP:[a-z0-9]*]]: !tile.tensor_map<f16, [64, 64], "128b">) attributes
// HOPPER: %[[OUT:.*]] = "tile.allocate"() {stages = {{[24]}}
// HOPPER: %[[ARRIVED:.*]] = "tile.make_barriers"() {arrivals = 1 : i64, count = {{[12]}} : i64}
// HOPPER-NEXT: barrier"
// HOPPER: scf.for
// HOPPER: "tile.fetch_boxes"(%[[OUT]], %{{.*}}, %[[BESIDE_MAP]], %[[ARRIVED]], %{{.*}}, %{{.*}})
// HOPPER: "tile.dot"
// HOPPER: "tile.dot_wait"{{.*}}pending = 0
// HOPPER: "tile.await"(%[[ARRIVED]], %{{.*}}, %{{.*}})
// HOPPER: %[[TAKEN:.*]] = "tile.take_boxes"(%[[OUT]], %{{.*}})
// HOPPER: "tile.map"
// HOPPER: "tile.element"(%[[TAKEN]])
// HOPPER: "tile.store_boxes"
// OTHER-NOT: tile.fetch_boxes
func.func private @dot_0(%x: !x, %w: !w, %r: !y) -> !y attributes {graph.kernel = "dot", graph.nodes = []} {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !y
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!y) -> f16
    %b = "graph.element"(%r) : (!y) -> f16
    %c = arith.addf %a, %b : f16
    gpu.yield %c : f16
  }) : () -> !y
  return %1 : !y
}

// -----
// An epilogue that reads other tensors beside the sums does so 16 bytes at a time: the sums change threads on the way,
// and the threads store what they hold.

!x = tensor<1024x512xf16>
!w = tensor<512x1024xf16>
!y = tensor<1024x1024xf32>
!r = tensor<1024x1024xf16>

// HOPPER: "tile.exchange"
// HOPPER: "tile.load"(%{{.*}}) {lanes = "contiguous"}
// HOPPER: "tile.store"
// HOPPER-NOT: tile.store_boxes
// OTHER-NOT: tile.exchange
func.func private @dot_0(%x: !x, %w: !w, %r: !r) -> !y attributes {graph.kernel = "dot", graph.nodes = []} {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !y
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!y) -> f32
    %b = "graph.element"(%r) : (!r) -> f16
    %d = arith.extf %b : f16 to f32
    %c = arith.addf %a, %d : f32
    gpu.yield %c : f32
  }) : () -> !y
  return %1 : !y
}
