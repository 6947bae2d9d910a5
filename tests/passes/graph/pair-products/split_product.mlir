// RUN: tilewright opt %s --from pair-products
// One product that is split in halves: the columns of its weight change places, the bias is added to each half.

!x = tensor<4x8xf32>
!w = tensor<8x12xf32>
!row = tensor<12xf32>
!wide = tensor<4x12xf32>
!y = tensor<4x6xf32>

// CHECK-LABEL: func.func @main
// CHECK: %[[W:.*]] = "graph.weight"() {handle = "both.paired"} : () -> tensor<8x12xf32>
// CHECK: %[[PRODUCT:.*]] = "graph.matmul"(%arg0, %[[W]])
// CHECK: %[[EVEN:.*]] = "graph.slice"(%[[PRODUCT]]) {starts = ["0", "0"], steps = array<i64: 1, 2>}
// CHECK: %[[ODD:.*]] = "graph.slice"(%[[PRODUCT]]) {starts = ["0", "1"], steps = array<i64: 1, 2>}
// CHECK: "graph.weight"() {handle = "bias.half"} : () -> tensor<6xf32>
// CHECK: "graph.element"(%[[EVEN]])
// CHECK: "graph.weight"() {handle = "bias.half.1"} : () -> tensor<6xf32>
// CHECK: "graph.element"(%[[ODD]])
// CHECK: arith.mulf
func.func @main(%x: !x) -> !y {
  %both = "graph.weight"() {handle = "both"} : () -> !w
  %bias = "graph.weight"() {handle = "bias"} : () -> !row
  %0 = "graph.matmul"(%x, %both) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !wide
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!wide) -> f32
    %b = "graph.element"(%bias) : (!row) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !wide
  %2 = "graph.slice"(%1) {starts = ["0", "0"], steps = array<i64: 1, 1>} : (!wide) -> !y
  %3 = "graph.slice"(%1) {starts = ["0", "6"], steps = array<i64: 1, 1>} : (!wide) -> !y
  %4 = "graph.map"() ({
    %a = "graph.element"(%2) : (!y) -> f32
    %b = "graph.element"(%3) : (!y) -> f32
    %c = arith.mulf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !y
  return %4 : !y
}
