// RUN: tilewright opt %s --from simplify
// A reduction over dimensions of size 1 is its input; one over a symbolic dimension is not.

!x = tensor<?x1xf32, ["n", "1"]>
!y = tensor<1x1xf32>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[TOTAL:.*]] = "graph.reduce"(%arg0) {axes = array<i64: 0>
// CHECK-NEXT: return %arg0, %[[TOTAL]]
func.func @main(%x: !x) -> (!x, !y) {
  %0 = "graph.reduce"(%x) {kind = "sum", axes = array<i64: 1>} : (!x) -> !x
  %1 = "graph.reduce"(%x) {kind = "sum", axes = array<i64: 0>} : (!x) -> !y
  return %0, %1 : !x, !y
}
