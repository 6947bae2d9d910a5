// RUN: tilewright opt %s --from merge-matmuls
// A scale by a constant row is no bias: it stays with its product.

!x = tensor<?x8xf32, ["n", "8"]>
!w = tensor<8x8xf32>
!row = tensor<8xf32>
!flat = tensor<?xf32, ["8*n"]>

// CHECK-LABEL: func.func @main
// CHECK-COUNT-2: "graph.matmul"(%arg0,
// CHECK-NOT: graph.slice
func.func @main(%x: !x) -> (!flat, !flat) {
  %q = "graph.weight"() {handle = "q"} : () -> !w
  %k = "graph.weight"() {handle = "k"} : () -> !w
  %row = "graph.weight"() {handle = "row"} : () -> !row
  %0 = "graph.matmul"(%x, %q) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  %1 = "graph.matmul"(%x, %k) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  %2 = "graph.map"() ({
    %a = "graph.element"(%0) : (!x) -> f32
    %b = "graph.element"(%row) : (!row) -> f32
    %c = arith.mulf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  %3 = "graph.map"() ({
    %a = "graph.element"(%1) : (!x) -> f32
    %b = "graph.element"(%row) : (!row) -> f32
    %c = arith.mulf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  %4 = "graph.reshape"(%2) : (!x) -> !flat
  %5 = "graph.reshape"(%3) : (!x) -> !flat
  return %4, %5 : !flat, !flat
}

// -----
// Nor is what comes from the model's inputs a constant row.

!x = tensor<?x8xf32, ["n", "8"]>
!w = tensor<8x8xf32>
!row = tensor<8xf32>
!flat = tensor<?xf32, ["8*n"]>

// CHECK-LABEL: func.func @main
// CHECK-COUNT-2: "graph.matmul"(%arg0,
// CHECK-NOT: graph.slice
func.func @main(%x: !x, %row: !row) -> (!flat, !flat) {
  %q = "graph.weight"() {handle = "q"} : () -> !w
  %k = "graph.weight"() {handle = "k"} : () -> !w
  %0 = "graph.matmul"(%x, %q) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  %1 = "graph.matmul"(%x, %k) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  %2 = "graph.map"() ({
    %a = "graph.element"(%0) : (!x) -> f32
    %b = "graph.element"(%row) : (!row) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  %3 = "graph.map"() ({
    %a = "graph.element"(%1) : (!x) -> f32
    %b = "graph.element"(%row) : (!row) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  %4 = "graph.reshape"(%2) : (!x) -> !flat
  %5 = "graph.reshape"(%3) : (!x) -> !flat
  return %4, %5 : !flat, !flat
}

// -----
// Matrices of a batch lie one behind the other, not side by side.

!x = tensor<2x4x8xf32>
!w = tensor<2x8x8xf32>
!flat = tensor<64xf32>

// CHECK-LABEL: func.func @main
// CHECK-COUNT-2: "graph.matmul"(%arg0,
// CHECK-NOT: graph.slice
func.func @main(%x: !x) -> (!flat, !flat) {
  %q = "graph.weight"() {handle = "q"} : () -> !w
  %k = "graph.weight"() {handle = "k"} : () -> !w
  %0 = "graph.matmul"(%x, %q) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  %1 = "graph.matmul"(%x, %k) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  %2 = "graph.reshape"(%0) : (!x) -> !flat
  %3 = "graph.reshape"(%1) : (!x) -> !flat
  return %2, %3 : !flat, !flat
}
