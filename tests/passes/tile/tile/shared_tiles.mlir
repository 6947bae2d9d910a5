// RUN: tilewright opt %s --from tile --target sm_90a 
// 77 tiles for 132 blocks: every block has a run of 19 of the 77 * 32 steps, gives the beginning of a tile away, and
// finishes the one in front of it with what other blocks have of it.

!x = tensor<777x2000xf16>
!w = tensor<1336x2000xf16>
!y = tensor<777x1336xf16>

// CHECK-LABEL: func.func @dot_0
// CHECK-SAME: %[[WORKSPACE:[a-z0-9]*]]: memref<?xf32>, %[[SEMAPHORES:[a-z0-9]*]]: memref<?xi32>)
// CHECK-SAME: run = 19 : i64
// CHECK: tile.await_previous
// CHECK: "tile.warps"
// CHECK: "tile.program_id"
// CHECK: scf.for %{{.*}} iter_args
// CHECK: %[[STEPS:.*]] = arith.maxsi %{{.*}}, %{{.*}} : index
// CHECK: scf.for %{{.*}} = %{{.*}} to %[[STEPS]] step
// CHECK: "tile.dot"
// CHECK: %[[DONE:.*]] = "tile.dot_wait"(%{{.*}}) {pending = 0 : i64}
// CHECK: %[[TOTAL:.*]] = scf.for %{{.*}} iter_args(%[[SUMS:.*]] = %[[DONE]])
// CHECK: "tile.collect"(%[[SUMS]], %[[WORKSPACE]], %[[SEMAPHORES]], %{{.*}})
// CHECK: scf.if
// CHECK-NEXT: "tile.publish"(%[[TOTAL]], %[[WORKSPACE]], %[[SEMAPHORES]], %{{.*}})
// CHECK: else
// CHECK: "tile.store_boxes"
// CHECK: "tile.warps"
// CHECK: "tile.load_box"
func.func private @dot_0(%x: !x, %w: !w) -> !y attributes {graph.kernel = "dot", graph.nodes = []} {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 1 : i64} : (!x, !w) -> !y
  return %0 : !y
}
