// RUN: tilewright opt %s --from tile
// A block sorts a run of 256: keys to a workspace, positions beside them in the result, then both in shared memory.

!x = tensor<3x1000xui32>
!places = tensor<3x1000xi32>

// CHECK: func.func @sort_0(%[[X:[^:]*]]: memref<?xi32>, %[[Y:[^:]*]]: memref<?xi32>, %[[KEYS:[^:]*]]: memref<?xi32>)
// CHECK-SAME: tile.threads = 128
// CHECK: scf.for
// CHECK: "tile.map"
// CHECK: "tile.store"(%{{.*}}, %[[KEYS]],
// CHECK: "tile.store"(%{{.*}}, %[[Y]],
// CHECK: "tile.barrier"
// CHECK: "tile.sort"(%[[KEYS]], %[[Y]], %{{.*}}, %{{.*}}) {most = 256 : i64}
func.func private @sort_0(%x: !x) -> !places attributes {graph.kernel = "sort", graph.nodes = []} {
  %1 = "graph.sort"(%x) {run = 256 : i64} : (!x) -> !places
  return %1 : !places
}

// -----
// A line of unknown length: one block sorts it where it lies.

!x = tensor<?xui64, ["n"]>
!places = tensor<?xi32, ["n"]>

// CHECK: func.func @sort_0({{.*}}tile.threads = 1024
// CHECK: "tile.sort"({{.*}}) {most = 0 : i64}
func.func private @sort_0(%x: !x) -> !places attributes {graph.kernel = "sort", graph.nodes = []} {
  %1 = "graph.sort"(%x) {run = 0 : i64} : (!x) -> !places
  return %1 : !places
}
