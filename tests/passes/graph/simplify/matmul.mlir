// RUN: tilewright opt %s --from simplify
// Swapping the last two dimensions of an operand is a flag of the product; what else moves stays a transpose.

!x = tensor<?x?x4x16xf32, ["n", "s", "4", "16"]>
!heads = tensor<?x4x?x16xf32, ["n", "4", "s", "16"]>
!keys = tensor<?x4x16x?xf32, ["n", "4", "16", "s"]>
!y = tensor<?x4x?x?xf32, ["n", "4", "s", "s"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[KEYS:.*]] = "graph.transpose"(%arg1) {permutation = array<i64: 0, 2, 1, 3>}
// CHECK: "graph.matmul"(%arg0, %[[KEYS]]) {transpose_left = 0 : i64, transpose_right = 1 : i64}
func.func @main(%queries: !heads, %x: !x) -> !y {
  %keys = "graph.transpose"(%x) {permutation = array<i64: 0, 2, 3, 1>} : (!x) -> !keys
  %y = "graph.matmul"(%queries, %keys) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!heads, !keys) -> !y
  return %y : !y
}

// -----
// Two swaps of the left operand are none.

!x = tensor<?x16xf32, ["n", "16"]>
!turned = tensor<16x?xf32, ["16", "n"]>
!w = tensor<16x8xf32>
!y = tensor<?x8xf32, ["n", "8"]>

// CHECK-LABEL: func.func @main
// CHECK-NOT: graph.transpose
// CHECK: "graph.matmul"(%arg0, %arg1) {transpose_left = 0 : i64, transpose_right = 0 : i64}
func.func @main(%x: !x, %w: !w) -> !y {
  %turned = "graph.transpose"(%x) {permutation = array<i64: 1, 0>} : (!x) -> !turned
  %y = "graph.matmul"(%turned, %w) {transpose_left = 1 : i64, transpose_right = 0 : i64} : (!turned, !w) -> !y
  return %y : !y
}

// -----
// A transposed tensor that others read exists anyway, and is read as it is.

!x = tensor<16x?xf32, ["16", "n"]>
!turned = tensor<?x16xf32, ["n", "16"]>
!w = tensor<16x8xf32>
!y = tensor<?x8xf32, ["n", "8"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[TURNED:.*]] = "graph.transpose"(%arg0)
// CHECK: "graph.matmul"(%[[TURNED]], %arg1) {transpose_left = 0
func.func @main(%x: !x, %w: !w) -> (!y, !turned) {
  %turned = "graph.transpose"(%x) {permutation = array<i64: 1, 0>} : (!x) -> !turned
  %y = "graph.matmul"(%turned, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!turned, !w) -> !y
  return %y, %turned : !y, !turned
}
