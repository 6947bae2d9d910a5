// RUN: tilewright opt %s --from simplify
// A linear layer that flattens its input and restores the result multiplies the tensor as it is, bias included.

!x = tensor<?x?x32xf32, ["b", "s", "32"]>
!flat = tensor<?x32xf32, ["b*s", "32"]>
!wide = tensor<?x64xf32, ["b*s", "64"]>
!y = tensor<?x?x64xf32, ["b", "s", "64"]>
!w = tensor<32x64xf32>
!bias = tensor<64xf32>

// CHECK-LABEL: func.func @main
// CHECK-NOT: graph.reshape
// CHECK: %[[PRODUCT:.*]] = "graph.matmul"(%arg0, %arg1) {{.*}} -> tensor<?x?x64xf32, ["b", "s", "64"]>
// CHECK: %[[SUM:.*]] = "graph.map"
// CHECK: "graph.element"(%[[PRODUCT]])
// CHECK: "graph.element"(%arg2)
// CHECK: tensor<?x?x64xf32, ["b", "s", "64"]>
// CHECK: return %[[SUM]]
func.func @main(%x: !x, %w: !w, %bias: !bias) -> !y {
  %0 = "graph.reshape"(%x) : (!x) -> !flat
  %1 = "graph.matmul"(%0, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!flat, !w) -> !wide
  %2 = "graph.map"() ({
    %a = "graph.element"(%1) : (!wide) -> f32
    %b = "graph.element"(%bias) : (!bias) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !wide
  %3 = "graph.reshape"(%2) : (!wide) -> !y
  return %3 : !y
}

// -----
// Where the flat product has another reader, or no reshape in front of it, or a map asks where it is, it stays.

!x = tensor<2x3x32xf32>
!flat = tensor<6x32xf32>
!wide = tensor<6x64xf32>
!y = tensor<2x3x64xf32>
!w = tensor<32x64xf32>

// CHECK-LABEL: func.func @main
// CHECK-COUNT-3: -> tensor<6x64xf32>
// CHECK-NOT: graph.matmul
func.func @main(%x: !x, %w: !w, %given: !flat) -> (!y, !wide, !y, !y) {
  %0 = "graph.reshape"(%x) : (!x) -> !flat
  %1 = "graph.matmul"(%0, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!flat, !w) -> !wide
  %2 = "graph.reshape"(%1) : (!wide) -> !y
  %3 = "graph.matmul"(%given, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!flat, !w) -> !wide
  %4 = "graph.reshape"(%3) : (!wide) -> !y
  %v = "graph.weight"() {handle = "v"} : () -> !w
  %5 = "graph.matmul"(%0, %v) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!flat, !w) -> !wide
  %6 = "graph.map"() ({
    %a = "graph.element"(%5) : (!wide) -> f32
    %i = "graph.index"() {axis = 0 : i64} : () -> i64
    %b = arith.sitofp %i : i64 to f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !wide
  %7 = "graph.reshape"(%6) : (!wide) -> !y
  return %2, %1, %4, %7 : !y, !wide, !y, !y
}
