// RUN: tilewright opt %s --from tile --target sm_90a
// Two parts of a concatenation are written where it lies: what differs is an offset, which becomes an argument. Both calls
// are served by one program. The third part has other columns, by which positions are divided: a program of its own.

!x = tensor<4x3x8xf32>
!t = tensor<4x8x3xf32>
!w = tensor<4x5x8xf32>
!v = tensor<4x8x5xf32>

// CHECK: func.func @loop_0(%[[X:[^:]*]]: memref<?xf32>, %[[Y:[^:]*]]: memref<?xf32>, %[[LOW:[^:]*]]: index)
// CHECK: arith.divui
// CHECK: %[[PLACE:.*]] = arith.addi %{{.*}}, %[[LOW]]
// CHECK: "tile.store"(%{{.*}}, %[[Y]],
// CHECK-NOT: @loop_1
// CHECK: func.func @loop_2(%{{[^:]*}}: memref<?xf32>, %{{[^:]*}}: memref<?xf32>)
func.func @main(%x: !x, %y: !x, %z: !w) -> (!t, !t, !v) {
  %0 = call @loop_0(%x) : (!x) -> !t
  %1 = call @loop_1(%y) : (!x) -> !t
  %2 = call @loop_2(%z) : (!w) -> !v
  return %0, %1, %2 : !t, !t, !v
}
func.func private @loop_0(%x: !x) -> !t attributes {graph.kernel = "loop", graph.nodes = ["a"], graph.places = [[], [["4", "32", "3"], ["0", "8", "0"]]]} {
  %0 = "graph.transpose"(%x) {permutation = array<i64: 0, 2, 1>} : (!x) -> !t
  return %0 : !t
}
func.func private @loop_1(%x: !x) -> !t attributes {graph.kernel = "loop", graph.nodes = ["b"], graph.places = [[], [["4", "32", "3"], ["0", "16", "0"]]]} {
  %0 = "graph.transpose"(%x) {permutation = array<i64: 0, 2, 1>} : (!x) -> !t
  return %0 : !t
}
func.func private @loop_2(%x: !w) -> !v attributes {graph.kernel = "loop", graph.nodes = ["c"], graph.places = [[], [["4", "32", "5"], ["0", "24", "0"]]]} {
  %0 = "graph.transpose"(%x) {permutation = array<i64: 0, 2, 1>} : (!w) -> !v
  return %0 : !v
}
