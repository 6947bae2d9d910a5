// RUN: tilewright opt %s --from merge-matmuls
// Products of one tensor with several weights become one with the weights side by side, one bias, and a slice for each.

!x = tensor<?x8xf32, ["n", "8"]>
!w = tensor<8x8xf32>
!row = tensor<8xf32>
!heads = tensor<?x2x4xf32, ["n", "2", "4"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[W:.*]] = "graph.weight"() {handle = "q.merged"} : () -> tensor<8x16xf32>
// CHECK: %[[PRODUCT:.*]] = "graph.matmul"(%arg0, %[[W]])
// CHECK: %[[BIAS:.*]] = "graph.weight"() {handle = "q.bias.merged"} : () -> tensor<16xf32>
// CHECK: %[[BOTH:.*]] = "graph.map"
// CHECK-DAG: "graph.element"(%[[PRODUCT]])
// CHECK-DAG: "graph.element"(%[[BIAS]])
// CHECK-DAG: "graph.slice"(%[[BOTH]]) {starts = ["0", "0"]
// CHECK-DAG: "graph.slice"(%[[BOTH]]) {starts = ["0", "8"]
// CHECK-NOT: graph.matmul
// CHECK: return
func.func @main(%x: !x) -> (!heads, !heads) {
  %q = "graph.weight"() {handle = "q"} : () -> !w
  %qb = "graph.weight"() {handle = "q.bias"} : () -> !row
  %k = "graph.weight"() {handle = "k"} : () -> !w
  %kb = "graph.weight"() {handle = "k.bias"} : () -> !row
  %0 = "graph.matmul"(%x, %q) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!x) -> f32
    %b = "graph.element"(%qb) : (!row) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  %2 = "graph.matmul"(%x, %k) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  %3 = "graph.map"() ({
    %a = "graph.element"(%2) : (!x) -> f32
    %b = "graph.element"(%kb) : (!row) -> f32
    %c = arith.addf %b, %a : f32
    gpu.yield %c : f32
  }) : () -> !x
  %4 = "graph.reshape"(%1) : (!x) -> !heads
  %5 = "graph.reshape"(%3) : (!x) -> !heads
  return %4, %5 : !heads, !heads
}

// -----
// Two different tensors have two products.

!x = tensor<?x8xf32, ["n", "8"]>
!w = tensor<8x8xf32>
!flat = tensor<?xf32, ["8*n"]>

// CHECK-LABEL: func.func @main
// CHECK: "graph.matmul"(%arg0,
// CHECK: "graph.matmul"(%arg1,
// CHECK-NOT: graph.slice
func.func @main(%x: !x, %y: !x) -> (!flat, !flat) {
  %q = "graph.weight"() {handle = "q"} : () -> !w
  %k = "graph.weight"() {handle = "k"} : () -> !w
  %0 = "graph.matmul"(%x, %q) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  %1 = "graph.matmul"(%y, %k) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  %2 = "graph.reshape"(%0) : (!x) -> !flat
  %3 = "graph.reshape"(%1) : (!x) -> !flat
  return %2, %3 : !flat, !flat
}

// -----
// A product whose reader is an activation keeps its kernel: the activation is its epilogue.

!x = tensor<?x8xf32, ["n", "8"]>
!w = tensor<8x8xf32>
!flat = tensor<?xf32, ["8*n"]>

// CHECK-LABEL: func.func @main
// CHECK-COUNT-2: "graph.matmul"(%arg0,
// CHECK-NOT: graph.slice
func.func @main(%x: !x) -> (!x, !flat) {
  %q = "graph.weight"() {handle = "q"} : () -> !w
  %k = "graph.weight"() {handle = "k"} : () -> !w
  %0 = "graph.matmul"(%x, %q) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  %1 = "graph.matmul"(%x, %k) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  %2 = "graph.map"() ({
    %a = "graph.element"(%0) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %3 = "graph.reshape"(%1) : (!x) -> !flat
  return %2, %3 : !x, !flat
}

// -----
// A matrix that is no weight is not copied beside another one.

!x = tensor<?x8xf32, ["n", "8"]>
!w = tensor<8x8xf32>
!flat = tensor<?xf32, ["8*n"]>

// CHECK-LABEL: func.func @main
// CHECK: "graph.matmul"(%arg0, %arg1)
// CHECK: "graph.matmul"(%arg0, %arg2)
func.func @main(%x: !x, %q: !w, %k: !w) -> (!flat, !flat) {
  %0 = "graph.matmul"(%x, %q) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  %1 = "graph.matmul"(%x, %k) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  %2 = "graph.reshape"(%0) : (!x) -> !flat
  %3 = "graph.reshape"(%1) : (!x) -> !flat
  return %2, %3 : !flat, !flat
}

// -----
// Without biases; weights that are stored transposed are joined along their rows.

!x = tensor<?x8xf32, ["n", "8"]>
!w = tensor<8x8xf32>
!v = tensor<4x8xf32>
!y = tensor<?x4xf32, ["n", "4"]>
!flat = tensor<?xf32, ["8*n"]>
!small = tensor<?xf32, ["4*n"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[W:.*]] = "graph.weight"() {handle = "q.merged"} : () -> tensor<12x8xf32>
// CHECK: %[[BOTH:.*]] = "graph.matmul"(%arg0, %[[W]]) {{.*}}transpose_right = 1
// CHECK-DAG: "graph.slice"(%[[BOTH]]) {starts = ["0", "0"]
// CHECK-DAG: "graph.slice"(%[[BOTH]]) {starts = ["0", "8"]
// CHECK-NOT: graph.map
func.func @main(%x: !x) -> (!flat, !small) {
  %q = "graph.weight"() {handle = "q"} : () -> !w
  %v = "graph.weight"() {handle = "v"} : () -> !v
  %0 = "graph.matmul"(%x, %q) {transpose_left = 0 : i64, transpose_right = 1 : i64} : (!x, !w) -> !x
  %1 = "graph.matmul"(%x, %v) {transpose_left = 0 : i64, transpose_right = 1 : i64} : (!x, !v) -> !y
  %2 = "graph.reshape"(%0) : (!x) -> !flat
  %3 = "graph.reshape"(%1) : (!y) -> !small
  return %2, %3 : !flat, !small
}
