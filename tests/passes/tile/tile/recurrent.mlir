// RUN: tilewright opt %s --from tile
// All steps of an LSTM in one launch, a block a sequence: a step reads the state that the step before has stored, and a
// barrier separates reading from writing.

!gates = tensor<?x2x32xf32, ["t", "2", "32"]>
!w = tensor<32x8xf32>
!h = tensor<2x8xf32>
!p = tensor<24xf32>
!y = tensor<?x2x8xf32, ["t", "2", "8"]>

// CHECK: func.func @recurrent_0(
// CHECK-SAME: %[[STATE:[^:]*]]: memref<?xf32>, %[[CELL:[^:]*]]: memref<?xf32>, %[[T:[^:]*]]: index)
// CHECK-DAG: "tile.store"(%{{.*}}, %[[STATE]],
// CHECK-DAG: "tile.store"(%{{.*}}, %[[CELL]],
// CHECK: "tile.barrier"
// CHECK: scf.for %{{.*}} = %c0 to %[[T]] step %c1
// CHECK: %[[NEXT:.*]] = "tile.map"
// CHECK: "tile.load"(%[[STATE]],
// CHECK: math.tanh
// CHECK: "tile.store"(%{{.*}}, %[[CELL]],
// CHECK: "tile.barrier"
// CHECK: %[[VALUE:.*]] = "tile.element"(%[[NEXT]])
// CHECK-DAG: "tile.store"(%[[VALUE]], %[[STATE]],
// CHECK-DAG: "tile.store"(%[[VALUE]], %{{.*}},
// CHECK: "tile.barrier"
func.func private @recurrent_0(%x: !gates, %w: !w, %h: !h, %c: !h, %p: !p) -> (!y, !h, !h)
    attributes {graph.kernel = "recurrent", graph.nodes = []} {
  %0:3 = "graph.lstm"(%x, %w, %h, %c, %p) {reverse = 0 : i64} : (!gates, !w, !h, !h, !p) -> (!y, !h, !h)
  return %0#0, %0#1, %0#2 : !y, !h, !h
}
