// RUN: tilewright opt %s --from tile
// Running sums of short lines: eight threads with four neighbours each share a line, 16 lines a block; one chunk.

!x = tensor<?x32xf32, ["n", "32"]>

// CHECK: func.func @scan_0(%[[X:[^:]*]]: memref<?xf32>, %[[Y:[^:]*]]: memref<?xf32>
// CHECK: scf.for %{{.*}} = %c0 to %c32 step %c32 iter_args(%[[CARRY:.*]] = %{{.*}}) -> (!tile.tile<[16, 1], f32
// CHECK: %[[PART:.*]] = "tile.map"
// CHECK: "tile.load"(%[[X]], %{{.*}}) {lanes = "contiguous"}
// CHECK: layout = "blocked<16x8, vector=4>"
// CHECK: %[[SUM:.*]]:2 = "tile.scan"(%[[PART]], %[[CARRY]]) {exclusive = 0 : i64, kind = "sum"}
// CHECK: %[[HERE:.*]] = "tile.element"(%[[SUM]]#0)
// CHECK: "tile.store"(%[[HERE]], %[[Y]],
// CHECK: scf.yield %[[SUM]]#1
func.func private @scan_0(%x: !x) -> !x attributes {graph.kernel = "scan", graph.nodes = []} {
  %1 = "graph.scan"(%x) {kind = "sum", axis = 1 : i64, exclusive = 0 : i64, reverse = 0 : i64} : (!x) -> !x
  return %1 : !x
}

// -----
// Along an axis with 64 elements inside it: a thread walks along each line, neighbours side by side.

!x = tensor<?x64xf32, ["n", "64"]>

// CHECK: func.func @scan_0(%[[X:[^:]*]]: memref<?xf32>, %[[Y:[^:]*]]: memref<?xf32>, %[[N:.*]]: index
// CHECK: scf.for %[[PLACE:.*]] = %c0 to %[[N]] step %c1 iter_args(%[[SO_FAR:.*]] = %{{.*}}) -> (!tile.tile<[1, 128], f32
// CHECK: %[[MORE:.*]] = "tile.map"
// CHECK: %[[OWN:.*]] = "tile.element"(%[[SO_FAR]])
// CHECK: %[[SUM:.*]] = arith.addf %[[OWN]],
// CHECK: "tile.store"(%[[SUM]], %[[Y]],
// CHECK: scf.yield %[[MORE]]
func.func private @scan_0(%x: !x) -> !x attributes {graph.kernel = "scan", graph.nodes = []} {
  %1 = "graph.scan"(%x) {kind = "sum", axis = 0 : i64, exclusive = 0 : i64, reverse = 0 : i64} : (!x) -> !x
  return %1 : !x
}
