// RUN: tilewright opt %s --from tile
// A running sum: every element adds up its line as far as it reaches.

!x = tensor<?x32xf32, ["n", "32"]>

// CHECK: func.func @scan_0(%[[X:[^:]*]]: memref<?xf32>, %[[Y:[^:]*]]: memref<?xf32>
// CHECK: %[[SUM:.*]] = scf.for %[[K:.*]] = %c0 to %c32 {{.*}} iter_args(%[[SO_FAR:.*]] = %{{.*}}) -> (f32)
// CHECK: "tile.load"(%[[X]]
// CHECK: %[[MORE:.*]] = arith.addf %[[SO_FAR]],
// CHECK: arith.select %{{.*}}, %[[MORE]], %[[SO_FAR]]
// CHECK: "tile.store"(%[[SUM]], %[[Y]],
func.func private @scan_0(%x: !x) -> !x attributes {graph.kernel = "scan", graph.nodes = []} {
  %1 = "graph.scan"(%x) {kind = "sum", axis = 1 : i64, exclusive = 0 : i64, reverse = 0 : i64} : (!x) -> !x
  return %1 : !x
}

// -----
// The place of the largest: value and index are carried together, a NaN is larger than everything, as in numpy.

!x = tensor<?x?xf32, ["n", "s"]>
!line = tensor<?x1xi64, ["n", "1"]>

// CHECK: func.func @arg_reduce_0(%[[X:[^:]*]]: memref<?xf32>, %[[Y:[^:]*]]: memref<?xi64>, %{{.*}}: index,
// CHECK-SAME: %[[S:.*]]: index)
// CHECK: %[[FOUND:.*]]:2 = scf.for %{{.*}} = %c0 to %[[S]] {{.*}} -> (f32, i64)
// CHECK: %[[VALUE:.*]] = "tile.load"(%[[X]]
// CHECK-DAG: arith.cmpf ogt, %[[VALUE]],
// CHECK-DAG: arith.cmpf uno, %[[VALUE]], %[[VALUE]]
// CHECK: "tile.store"(%[[FOUND]]#1, %[[Y]],
func.func private @arg_reduce_0(%x: !x) -> !line attributes {graph.kernel = "arg_reduce", graph.nodes = []} {
  %3 = "graph.arg_reduce"(%x) {kind = "max", axis = 1 : i64, last = 0 : i64} : (!x) -> !line
  return %3 : !line
}
