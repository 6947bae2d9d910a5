// RUN: tilewright opt %s --from tile --target sm_80
// A product of f16: a loop over k copies tiles of both operands to shared memory, 16 bytes at a time with rows past n
// as zeros, multiplies them on tensor cores into f32, and one map stores.

!x = tensor<?x64xf16, ["n", "64"]>
!w = tensor<64x96xf16>
!y = tensor<?x96xf32, ["n", "96"]>

// CHECK: func.func @dot_0(%[[X:[^:]*]]: memref<?xf16>, %[[W:[^:]*]]: memref<?xf16>, %[[Y:[^:]*]]: memref<?xf32>,
// CHECK-SAME: %[[N:[^:]*]]: index)
// CHECK-SAME: tile.schedule = {block = array<i64: 64, 64, 32>, instruction = "m16n8k16.f16"
// CHECK: %[[ZERO:.*]] = "tile.full"{{.*}}f32, "mma<
// CHECK: %[[LEFT:.*]] = "tile.allocate"() {{.*}} -> !tile.tile<[64, 32], f16, "shared<rows, line=40>">
// CHECK: %[[RIGHT:.*]] = "tile.allocate"() {{.*}} -> !tile.tile<[32, 64], f16, "shared<rows, line=72>">
// CHECK: %[[SUM:.*]] = scf.for %[[K:.*]] = %c0 to %c64{{.*}} step %c32{{.*}} iter_args(%[[SO_FAR:.*]] = %[[ZERO]])
// CHECK: "tile.copy"(%[[LEFT]], %c0, %[[X]], %{{.*}}, %[[K]])
// CHECK: ^bb0(%[[ROW:.*]]: index, %{{.*}}: index):
// CHECK: %[[INSIDE:.*]] = arith.cmpi ult, %[[ROW]], %[[N]]
// CHECK: gpu.yield %{{.*}}, %[[INSIDE]]
// CHECK: {vector = 8 : i64}
// CHECK: "tile.copy"(%[[RIGHT]], %c0, %[[W]], %[[K]],
// CHECK: {vector = 8 : i64}
// CHECK-NEXT: "tile.commit"
// CHECK-NEXT: "tile.wait"() {pending = 0
// CHECK-NEXT: "tile.barrier"
// CHECK-NEXT: %[[NEXT:.*]] = "tile.dot"(%[[LEFT]], %[[RIGHT]], %[[SO_FAR]], %c0) {instruction = "m16n8k16.f16"}
// CHECK-NEXT: "tile.barrier"
// CHECK-NEXT: scf.yield %[[NEXT]]
// CHECK: "tile.map"(%{{.*}}, %{{.*}}, %[[N]], %c96
// CHECK: %[[VALUE:.*]] = "tile.element"(%[[SUM]])
// CHECK: "tile.store"(%[[VALUE]], %[[Y]],
func.func private @dot_0(%x: !x, %w: !w) -> !y attributes {graph.kernel = "dot", graph.nodes = []} {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !y
  return %0 : !y
}

// -----
// A transposed weight is copied as it lies: lines of the shared tile run along k.

!x = tensor<?x64xf16, ["n", "64"]>
!w = tensor<96x64xf16>
!y = tensor<?x96xf32, ["n", "96"]>

// CHECK: "tile.allocate"() {{.*}} -> !tile.tile<[64, 32], f16, "shared<rows, line=40>">
// CHECK: "tile.allocate"() {{.*}} -> !tile.tile<[32, 64], f16, "shared<columns, line=40>">
// CHECK-COUNT-2: {vector = 8 : i64}
func.func private @dot_0(%x: !x, %w: !w) -> !y attributes {graph.kernel = "dot", graph.nodes = []} {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 1 : i64} : (!x, !w) -> !y
  return %0 : !y
}

// -----
// A k that only a run knows: both copies leave out what lies past it, and are as wide as its alignment is known.

!x = tensor<?x?xf16, ["n", "k"]>
!w = tensor<?x96xf16, ["k", "96"]>
!y = tensor<?x96xf32, ["n", "96"]>

// CHECK: func.func @dot_0(%[[X:[^:]*]]: memref<?xf16>, {{.*}}, %[[SIZE:[^:]*]]: index, %[[N:[^:]*]]: index)
// CHECK: scf.for %[[K:.*]] = %c0 to %[[SIZE]] step
// CHECK: tile.{{copy|fill}}
// CHECK: arith.cmpi ult, %{{.*}}, %[[SIZE]]
// CHECK: {vector = 1 : i64}
// CHECK: "tile.copy"
// CHECK: arith.cmpi ult, %{{.*}}, %[[SIZE]]
// CHECK: {vector = 8 : i64}
func.func private @dot_0(%x: !x, %w: !w) -> !y attributes {graph.kernel = "dot", graph.nodes = []} {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !y
  return %0 : !y
}

// -----
// Strict f32 multiplies and adds in full precision; the epilogue is computed on the sums before they are stored.

!x = tensor<256x64xf32>
!w = tensor<64x128xf32>
!y = tensor<256x128xf32>

// CHECK: "tile.dot"{{.*}}instruction = "fma"
// CHECK: %[[SUM:.*]] = "tile.element"
// CHECK-NEXT: %[[EXP:.*]] = math.exp %[[SUM]]
// CHECK: "tile.store"(%[[EXP]],
// CHECK: full = ["rows", "columns"]
func.func private @dot_0(%x: !x, %w: !w) -> !y attributes {graph.kernel = "dot", graph.nodes = []} {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !y
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!y) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !y
  return %1 : !y
}

// -----
// tf32 reads f32 and multiplies on tensor cores.

!x = tensor<256x64xf32>
!w = tensor<64x128xf32>
!y = tensor<256x128xf32>

// CHECK: "tile.dot"{{.*}}instruction = "m16n8k8.tf32"{{.*}}f32, "shared<
func.func private @dot_0(%x: !x, %w: !w) -> !y attributes {graph.kernel = "dot", graph.nodes = []} {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64, precision = "tf32"} : (!x, !w) -> !y
  return %0 : !y
}

// -----
// Products of 8-bit integers add up in i32, whatever is stored.

!x = tensor<?x64xi8, ["n", "64"]>
!w = tensor<64x96xi8>
!y = tensor<?x96xi32, ["n", "96"]>

// CHECK: arith.constant 0 : i32
// CHECK: "tile.dot"{{.*}}instruction = "fma"{{.*}} -> !tile.tile<[{{.*}}], i32,
func.func private @dot_0(%x: !x, %w: !w) -> !y attributes {graph.kernel = "dot", graph.nodes = []} {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !y
  return %0 : !y
}

// -----
// A long k of few results is split among groups of warps, whose sums are combined in shared memory.

!x = tensor<40x2048xf32>
!w = tensor<2048x32xf32>
!y = tensor<40x32xf32>

// CHECK: warps = array<i64: {{[0-9]+, [0-9]+, [248]}}>
// CHECK: %[[PARTIAL:.*]] = scf.for
// CHECK: %[[SUM:.*]] = "tile.combine"(%[[PARTIAL]], %{{.*}})
// CHECK: "tile.element"(%[[SUM]])
func.func private @dot_0(%x: !x, %w: !w) -> !y attributes {graph.kernel = "dot", graph.nodes = []} {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !y
  return %0 : !y
}
