// RUN: tilewright opt %s --from tile
// A transpose of symbolic size is index arithmetic: row j/n, column j%n; neighbours of the result
// are apart in the source.

!x = tensor<?x8xf32, ["n", "8"]>
!y = tensor<8x?xf32, ["8", "n"]>

// CHECK: func.func @loop_0(%[[X:.*]]: memref<?xf32>, %[[Y:.*]]: memref<?xf32>, %[[N:.*]]: index)
// CHECK: ^bb0(%{{.*}}: index, %[[FLAT:.*]]: index):
// CHECK-DAG: %[[COLUMN:.*]] = arith.remui %[[FLAT]], %[[N]]
// CHECK-DAG: %[[ROW:.*]] = arith.divui %[[FLAT]], %[[N]]
// CHECK-DAG: %[[LINE:.*]] = arith.muli %[[COLUMN]], %c8
// CHECK: %[[OFFSET:.*]] = arith.addi %[[LINE]], %[[ROW]]
// CHECK: %[[A:.*]] = "tile.load"(%[[X]], %[[OFFSET]]) {lanes = "scattered"}
// CHECK: "tile.store"(%[[A]], %[[Y]], %[[FLAT]]) {lanes = "contiguous"}
func.func private @loop_0(%x: !x) -> !y attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.transpose"(%x) {permutation = array<i64: 1, 0>} : (!x) -> !y
  return %0 : !y
}

// -----
// A concatenation loads from the part that holds the elements; the other load is masked out. Four neighbours lie in the
// same part, since parts are multiples of four.

!x = tensor<?x8xf32, ["n", "8"]>
!y = tensor<?x12xf32, ["n", "12"]>
!z = tensor<?x20xf32, ["n", "20"]>

// CHECK: func.func @loop_0(%[[X:[^:]*]]: memref<?xf32>, %[[Y:[^:]*]]: memref<?xf32>
// CHECK: %[[B:.*]] = "tile.masked_load"(%[[Y]], {{.*}}lanes = "contiguous"
// CHECK: %[[A:.*]] = "tile.masked_load"(%[[X]], %{{.*}}, %[[FIRST:.*]], %{{.*}}) {lanes = "contiguous"}
// CHECK: arith.select %[[FIRST]], %[[A]], %[[B]]
func.func private @loop_0(%x: !x, %y: !y) -> !z attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.concatenate"() ({
    gpu.yield %x, %y : !x, !y
  }) {axis = 1 : i64} : () -> !z
  return %0 : !z
}

// -----
// Padding does the same with its value in place of the second part; the symbolic offset is an argument.

!x = tensor<?xf32, ["n"]>
!y = tensor<?xf32, ["n + s"]>

// CHECK: func.func @loop_0(%[[X:[^:]*]]: memref<?xf32>, %{{[^:]*}}: memref<?xf32>,
// CHECK-SAME: %[[VALUE:[^:]*]]: memref<?xf32>, %{{[^:]*}}: memref<?xf32>, %{{[^:]*}}: index, %{{[^:]*}}: index)
// CHECK-DAG: "tile.load"(%[[VALUE]], %c0) {lanes = "uniform"}
// CHECK-DAG: "tile.masked_load"(%[[X]],
// CHECK: arith.select
func.func private @loop_0(%x: !x, %other: tensor<?xf32, ["s"]>, %value: tensor<f32>) -> !y
    attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.pad"(%x, %value) {low = ["s"]} : (!x, tensor<f32>) -> !y
  return %0 : !y
}

// -----
// A slice downwards counts the offset down.

!x = tensor<16xf32>
!y = tensor<8xf32>

// CHECK: ^bb0(%{{.*}}: index, %[[FLAT:.*]]: index):
// CHECK-DAG: %[[TWICE:.*]] = arith.muli %[[FLAT]], %c2
// CHECK: %[[OFFSET:.*]] = arith.subi %c15{{.*}}, %[[TWICE]]
// CHECK: "tile.load"(%{{.*}}, %[[OFFSET]]) {lanes = "scattered"}
func.func private @loop_0(%x: !x) -> !y attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.slice"(%x) {starts = ["15"], steps = array<i64: -2>} : (!x) -> !y
  return %0 : !y
}

// -----
// Parts of other sizes: each lane has a condition of its own, and loads for itself.

!x = tensor<?x6xf32, ["n", "6"]>
!y = tensor<?x10xf32, ["n", "10"]>
!z = tensor<?x16xf32, ["n", "16"]>

// CHECK-COUNT-2: "tile.masked_load"{{.*}}lanes = "scattered"
func.func private @loop_0(%x: !x, %y: !y) -> !z attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.concatenate"() ({
    gpu.yield %x, %y : !x, !y
  }) {axis = 1 : i64} : () -> !z
  return %0 : !z
}
