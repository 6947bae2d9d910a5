// RUN: tilewright opt %s --from pair-products
// Two products of one tensor that a map joins: one product with the weights' columns in turn, and every other column of it
// for each side. What lies between, here an activation of one side, stays as it is.

!x = tensor<?x8xf32, ["n", "8"]>
!w = tensor<8x6xf32>
!y = tensor<?x6xf32, ["n", "6"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[W:.*]] = "graph.weight"() {handle = "gate.paired"} : () -> tensor<8x12xf32>
// CHECK: %[[PRODUCT:.*]] = "graph.matmul"(%arg0, %[[W]])
// CHECK: %[[EVEN:.*]] = "graph.slice"(%[[PRODUCT]]) {starts = ["0", "0"], steps = array<i64: 1, 2>}
// CHECK: %[[ODD:.*]] = "graph.slice"(%[[PRODUCT]]) {starts = ["0", "1"], steps = array<i64: 1, 2>}
// CHECK-NOT: graph.matmul
// CHECK: "graph.element"(%[[EVEN]])
// CHECK: math.tanh
// CHECK: "graph.element"(%[[ODD]])
func.func @main(%x: !x) -> !y {
  %gate = "graph.weight"() {handle = "gate"} : () -> !w
  %up = "graph.weight"() {handle = "up"} : () -> !w
  %0 = "graph.matmul"(%x, %gate) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !y
  %1 = "graph.matmul"(%x, %up) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !y
  %2 = "graph.map"() ({
    %a = "graph.element"(%0) : (!y) -> f32
    %b = math.tanh %a : f32
    gpu.yield %b : f32
  }) : () -> !y
  %3 = "graph.map"() ({
    %a = "graph.element"(%2) : (!y) -> f32
    %b = "graph.element"(%1) : (!y) -> f32
    %c = arith.mulf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !y
  return %3 : !y
}

// -----
// One of the products is needed by itself as well: nothing is gained.

!x = tensor<?x8xf32, ["n", "8"]>
!w = tensor<8x6xf32>
!y = tensor<?x6xf32, ["n", "6"]>

// CHECK-LABEL: func.func @main
// CHECK-COUNT-2: "graph.matmul"
// CHECK-NOT: graph.slice
// CHECK: return
func.func @main(%x: !x) -> (!y, !y) {
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
  return %2, %1 : !y, !y
}
