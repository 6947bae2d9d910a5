// RUN: tilewright opt %s --from pair-products
// Two products of one column each stay two: every other column of two is one, whose place has no number, and a kernel could
// not tell the halves of its sums apart.

!x = tensor<4x8xf32>
!w = tensor<8x1xf32>
!y = tensor<4x1xf32>

// CHECK-LABEL: func.func @main
// CHECK-NOT: graph.slice
// CHECK-COUNT-2: graph.matmul
// CHECK-NOT: graph.slice
func.func @main(%x: !x) -> !y {
  %gate = "graph.weight"() {handle = "gate"} : () -> !w
  %up = "graph.weight"() {handle = "up"} : () -> !w
  %0 = "graph.matmul"(%x, %gate) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !y
  %1 = "graph.matmul"(%x, %up) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !y
  %2 = "graph.map"() ({
    %a = "graph.element"(%0) : (!y) -> f32
    %b = "graph.element"(%1) : (!y) -> f32
    %c = arith.mulf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !y
  return %2 : !y
}
