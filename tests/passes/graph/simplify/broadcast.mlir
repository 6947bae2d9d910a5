// RUN: tilewright opt %s --from simplify
// To the same shape it is nothing, and two in a row are one.

!x = tensor<?x8xf32, ["n", "8"]>
!row = tensor<1x8xf32>
!wide = tensor<4x?x8xf32, ["4", "n", "8"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[WIDE:.*]] = "graph.broadcast"(%arg1) {{.*}} -> tensor<4x?x8xf32
// CHECK-NEXT: return %arg0, %[[WIDE]]
func.func @main(%x: !x, %row: !row) -> (!x, !wide) {
  %0 = "graph.broadcast"(%x) : (!x) -> !x
  %1 = "graph.broadcast"(%row) : (!row) -> !x
  %2 = "graph.broadcast"(%1) : (!x) -> !wide
  return %0, %2 : !x, !wide
}
