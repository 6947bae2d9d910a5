// RUN: tilewright opt %s --from fuse
// Bias, activation and residual are computed on the accumulators of the product that they follow.

!x = tensor<?x8xf32, ["n", "8"]>
!w = tensor<8x8xf32>
!row = tensor<8xf32>

// CHECK-LABEL: func.func @main
// CHECK: %[[Y:.*]] = call @dot_0(
// CHECK-NEXT: return %[[Y]]
// CHECK: @dot_0
// CHECK-SAME: graph.kernel = "dot"
// CHECK: graph.matmul
// CHECK: arith.maximumf
// CHECK: arith.addf
func.func @main(%x: !x, %residual: !x, %row: !row) -> !x {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!x) -> f32
    %b = "graph.element"(%row) : (!row) -> f32
    %c = arith.maximumf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  %2 = "graph.map"() ({
    %a = "graph.element"(%1) : (!x) -> f32
    %b = "graph.element"(%residual) : (!x) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %2 : !x
}

// -----
// The product stores in the order of its only reader: heads cost no pass over memory.

!x = tensor<?x8xf32, ["n", "8"]>
!w = tensor<8x8xf32>
!split = tensor<?x2x4xf32, ["n", "2", "4"]>
!heads = tensor<2x?x4xf32, ["2", "n", "4"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = call @dot_0(
// CHECK-NEXT: return %[[Y]]
// CHECK: @dot_0
// CHECK: graph.matmul
// CHECK: graph.reshape
// CHECK: graph.transpose
func.func @main(%x: !x, %w: !w) -> !heads {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  %1 = "graph.reshape"(%0) : (!x) -> !split
  %2 = "graph.transpose"(%1) {permutation = array<i64: 1, 0, 2>} : (!split) -> !heads
  return %2 : !heads
}

// -----
// Not when the product itself is needed, too: data that has moved is a kernel's only result.

!x = tensor<?x8xf32, ["n", "8"]>
!w = tensor<8x8xf32>
!turned = tensor<8x?xf32, ["8", "n"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = call @dot_0(
// CHECK-NEXT: %[[TURNED:.*]] = call @loop_0(%[[Y]])
// CHECK-NEXT: return %[[Y]], %[[TURNED]]
func.func @main(%x: !x, %w: !w) -> (!x, !turned) {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  %1 = "graph.transpose"(%0) {permutation = array<i64: 1, 0>} : (!x) -> !turned
  return %0, %1 : !x, !turned
}

// -----
// A slice is not taken: the product would compute what it must not store.

!x = tensor<?x8xf32, ["n", "8"]>
!w = tensor<8x8xf32>
!part = tensor<?x4xf32, ["n", "4"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = call @dot_0(
// CHECK-NEXT: call @loop_0(%[[Y]])
func.func @main(%x: !x, %w: !w) -> !part {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  %1 = "graph.slice"(%0) {starts = ["0", "4"], steps = array<i64: 1, 1>} : (!x) -> !part
  return %1 : !part
}

// -----
// A map that stretches the product is another kernel.

!row = tensor<1x8xf32>
!x = tensor<?x8xf32, ["n", "8"]>
!w = tensor<8x8xf32>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[ROW:.*]] = call @dot_0(
// CHECK-NEXT: call @loop_0({{.*}}%[[ROW]]
func.func @main(%row: !row, %x: !x, %w: !w) -> !x {
  %0 = "graph.matmul"(%row, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!row, !w) -> !row
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!row) -> f32
    %b = "graph.element"(%x) : (!x) -> f32
    %c = arith.mulf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %1 : !x
}

// -----
// The sum of two products in a row joins the second: joining the first, it would wait for itself.

!x = tensor<?x8xf32, ["n", "8"]>
!w = tensor<8x8xf32>

// CHECK-LABEL: func.func @main
// CHECK: %[[FIRST:.*]] = call @dot_0(%arg0, %arg1)
// CHECK: %[[SUM:.*]] = call @dot_1(%[[FIRST]], %arg2)
// CHECK-NEXT: return %[[SUM]]
// CHECK: @dot_0
// CHECK-NOT: arith.addf
// CHECK: @dot_1
// CHECK: arith.addf
func.func @main(%x: !x, %w: !w, %v: !w) -> !x {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  %1 = "graph.matmul"(%0, %v) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  %2 = "graph.map"() ({
    %a = "graph.element"(%0) : (!x) -> f32
    %b = "graph.element"(%1) : (!x) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %2 : !x
}

// -----
// Behind data that has moved one more map is computed, but not two: a kernel stores only one such result.

!x = tensor<?x8xf32, ["n", "8"]>
!w = tensor<8x8xf32>
!turned = tensor<8x?xf32, ["8", "n"]>

// CHECK-LABEL: func.func @main
// CHECK-DAG: %[[ONE:.*]] = call @dot_0(%arg0, %arg1)
// CHECK-DAG: %[[TURNED:.*]] = call @dot_1(%arg0, %arg2)
// CHECK-DAG: %[[TWO:.*]]:2 = call @loop_0(%[[TURNED]])
// CHECK: return %[[ONE]], %[[TWO]]#0, %[[TWO]]#1
func.func @main(%x: !x, %w: !w, %v: !w) -> (!turned, !turned, !turned) {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  %1 = "graph.transpose"(%0) {permutation = array<i64: 1, 0>} : (!x) -> !turned
  %2 = "graph.map"() ({
    %a = "graph.element"(%1) : (!turned) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !turned
  %3 = "graph.matmul"(%x, %v) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  %4 = "graph.transpose"(%3) {permutation = array<i64: 1, 0>} : (!x) -> !turned
  %5 = "graph.map"() ({
    %a = "graph.element"(%4) : (!turned) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !turned
  %6 = "graph.map"() ({
    %a = "graph.element"(%4) : (!turned) -> f32
    %b = "graph.element"(%5) : (!turned) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !turned
  return %2, %5, %6 : !turned, !turned, !turned
}

// -----
// A map that reads the product at computed positions needs all of it: another kernel.

!x = tensor<?x8xf32, ["n", "8"]>
!w = tensor<8x8xf32>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = call @dot_0(
// CHECK-NEXT: call @loop_0(%[[Y]])
func.func @main(%x: !x, %w: !w) -> !x {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  %1 = "graph.map"() ({
    %i = "graph.index"() {axis = 0 : i64} : () -> i64
    %zero = arith.constant 0 : i64
    %a = "graph.element_at"(%0, %i, %zero) : (!x, i64, i64) -> f32
    gpu.yield %a : f32
  }) : () -> !x
  return %1 : !x
}
