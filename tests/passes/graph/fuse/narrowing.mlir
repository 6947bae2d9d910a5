// RUN: tilewright opt %s --from fuse
// Rounding to f16 for the next product is done by whoever reads, so that a value with other readers is stored once.

!x = tensor<?x8xf32, ["n", "8"]>
!half = tensor<?x8xf16, ["n", "8"]>
!w = tensor<8x8xf16>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[FIRST:.*]] = call @dot_0({{.*}}) {{.*}} -> tensor<?x8xf32
// CHECK-NEXT: %[[SECOND:.*]] = call @dot_1({{.*}}%[[FIRST]]
// CHECK-NEXT: return %[[SECOND]], %[[FIRST]]
// CHECK: @dot_0
// CHECK: @dot_1
// CHECK: arith.truncf
// CHECK: graph.matmul
func.func @main(%x: !half, %w: !w) -> (!x, !x) {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!half, !w) -> !x
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!x) -> f32
    %b = arith.truncf %a : f32 to f16
    gpu.yield %b : f16
  }) : () -> !half
  %2 = "graph.matmul"(%1, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!half, !w) -> !x
  return %2, %0 : !x, !x
}

// -----
// For others than products it is the end of the kernel that computed the value.

!x = tensor<?x8xf32, ["n", "8"]>
!half = tensor<?x8xf16, ["n", "8"]>
!w = tensor<8x8xf16>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = call @dot_0({{.*}}) {{.*}} -> tensor<?x8xf16
// CHECK-NEXT: return %[[Y]]
// CHECK: graph.matmul
// CHECK: arith.truncf
func.func @main(%x: !half, %w: !w) -> !half {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!half, !w) -> !x
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!x) -> f32
    %b = arith.truncf %a : f32 to f16
    gpu.yield %b : f16
  }) : () -> !half
  return %1 : !half
}

// -----
// A reduction leaves its wide result to the product that rounds it, too.

!x = tensor<?x8x8xf32, ["n", "8", "8"]>
!sum = tensor<?x1x8xf32, ["n", "1", "8"]>
!half = tensor<?x1x8xf16, ["n", "1", "8"]>
!w = tensor<8x8xf16>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[SUM:.*]] = call @row_0(%arg0) {{.*}} -> tensor<?x1x8xf32
// CHECK-NEXT: call @dot_0(%[[SUM]], %arg1)
// CHECK: @dot_0
// CHECK: arith.truncf
func.func @main(%x: !x, %w: !w) -> !sum {
  %0 = "graph.reduce"(%x) {kind = "sum", axes = array<i64: 1>} : (!x) -> !sum
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!sum) -> f32
    %b = arith.truncf %a : f32 to f16
    gpu.yield %b : f16
  }) : () -> !half
  %2 = "graph.matmul"(%1, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!half, !w) -> !sum
  return %2 : !sum
}
