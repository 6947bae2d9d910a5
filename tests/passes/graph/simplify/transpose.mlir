// RUN: tilewright opt %s --from simplify
// A transpose and its inverse cancel.

!x = tensor<?x4x8xf32, ["n", "4", "8"]>
!y = tensor<4x8x?xf32, ["4", "8", "n"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: return %arg0
func.func @main(%x: !x) -> !x {
  %0 = "graph.transpose"(%x) {permutation = array<i64: 1, 2, 0>} : (!x) -> !y
  %1 = "graph.transpose"(%0) {permutation = array<i64: 2, 0, 1>} : (!y) -> !x
  return %1 : !x
}

// -----
// Two others become one.

!x = tensor<?x4x8xf32, ["n", "4", "8"]>
!y = tensor<4x?x8xf32, ["4", "n", "8"]>
!z = tensor<4x8x?xf32, ["4", "8", "n"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Z:.*]] = "graph.transpose"(%arg0) {permutation = array<i64: 1, 2, 0>}
// CHECK-NEXT: return %[[Z]]
func.func @main(%x: !x) -> !z {
  %0 = "graph.transpose"(%x) {permutation = array<i64: 1, 0, 2>} : (!x) -> !y
  %1 = "graph.transpose"(%0) {permutation = array<i64: 0, 2, 1>} : (!y) -> !z
  return %1 : !z
}

// -----
// Moving a dimension of size 1 moves no element: a reshape, which costs nothing.

!x = tensor<?x1x8xf32, ["n", "1", "8"]>
!y = tensor<1x?x8xf32, ["1", "n", "8"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.reshape"(%arg0)
// CHECK-NEXT: return %[[Y]]
func.func @main(%x: !x) -> !y {
  %0 = "graph.transpose"(%x) {permutation = array<i64: 1, 0, 2>} : (!x) -> !y
  return %0 : !y
}

// -----
// A dimension that is 1 in this run only is no such dimension.

!x = tensor<?x?x8xf32, ["n", "s", "8"]>
!y = tensor<?x?x8xf32, ["s", "n", "8"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: "graph.transpose"
func.func @main(%x: !x) -> !y {
  %0 = "graph.transpose"(%x) {permutation = array<i64: 1, 0, 2>} : (!x) -> !y
  return %0 : !y
}

// -----
// One that moves nothing is nothing.

!x = tensor<?x4x8xf32, ["n", "4", "8"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: return %arg0
func.func @main(%x: !x) -> !x {
  %0 = "graph.transpose"(%x) {permutation = array<i64: 0, 1, 2>} : (!x) -> !x
  return %0 : !x
}
