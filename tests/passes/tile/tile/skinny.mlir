// RUN: tilewright opt %s --from tile --target sm_80
// One row: no shared tiles. Each thread reads weights into registers, several times before it multiplies; the partial
// sums are added up once, and the epilogue runs on what is left.

!x = tensor<1x1024xf16>
!w = tensor<1024x512xf16>
!b = tensor<512xf32>
!y = tensor<1x512xf32>

// CHECK: func.func @dot_0(%[[X:[^:]*]]: memref<?xf16>, %[[W:[^:]*]]: memref<?xf16>, %[[B:[^:]*]]: memref<?xf32>, %[[Y:[^:]*]]: memref<?xf32>)
// CHECK-NOT: tile.allocate
// CHECK: %[[SUMS:.*]] = scf.for
// CHECK: "tile.map"
// CHECK: "tile.load"(%[[W]], %{{.*}}) {lanes = "contiguous"}
// CHECK: "tile.map"
// CHECK: "tile.load"(%[[W]], %{{.*}}) {lanes = "contiguous"}
// CHECK: "tile.load"(%[[X]], %{{.*}}) {lanes = "uniform"}
// CHECK: math.fma
// CHECK: scf.yield
// CHECK: %[[SUM:.*]] = "tile.reduce"(%[[SUMS]]) {axis = 0 : i64, kind = "sum"}
// CHECK: "tile.element"(%[[SUM]])
// CHECK: "tile.load"(%[[B]],
// CHECK: "tile.store"(%{{.*}}, %[[Y]],
func.func private @dot_0(%x: !x, %w: !w, %b: !b) -> !y attributes {graph.kernel = "dot", graph.nodes = []} {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !y
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!y) -> f32
    %c = "graph.element"(%b) : (!b) -> f32
    %d = arith.addf %a, %c : f32
    gpu.yield %d : f32
  }) : () -> !y
  return %1 : !y
}
