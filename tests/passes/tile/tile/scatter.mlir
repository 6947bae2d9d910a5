// RUN: tilewright opt %s --from tile
// A thread an update: it loads its place and combines its value there, unless the place is negative. Negation, which only
// the scatter reads, is computed on the way.

!places = tensor<?xi64, ["n"]>
!updates = tensor<?xf32, ["n"]>

// CHECK: func.func @scatter_0(%[[P:[^:]*]]: memref<?xi64>, %[[U:[^:]*]]: memref<?xf32>, %[[Y:[^:]*]]: memref<?xf32>, %[[N:.*]]: index)
// CHECK: "tile.map"(%c0, %{{.*}}, %c1, %[[N]])
// CHECK: %[[PLACE:.*]] = "tile.load"(%[[P]], %[[J:[^)]*]])
// CHECK: %[[UPDATE:.*]] = "tile.load"(%[[U]], %[[J]])
// CHECK: %[[VALUE:.*]] = arith.negf %[[UPDATE]]
// CHECK: %[[SOMEWHERE:.*]] = arith.cmpi sge, %[[PLACE]]
// CHECK: %[[OFFSET:.*]] = arith.index_cast %[[PLACE]]
// CHECK: "tile.atomic"(%[[VALUE]], %[[Y]], %[[OFFSET]], %[[SOMEWHERE]]) {kind = "sum"}
func.func private @scatter_0(%p: !places, %u: !updates) -> tensor<10xf32> attributes {graph.kernel = "scatter", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%u) : (!updates) -> f32
    %b = arith.negf %a : f32
    gpu.yield %b : f32
  }) : () -> !updates
  %1 = "graph.scatter"(%p, %0) {kind = "sum"} : (!places, !updates) -> tensor<10xf32>
  return %1 : tensor<10xf32>
}
