// RUN: tilewright opt %s --from narrow-storage --precision f16
// A product that rounded its operand now reads it as it is stored: the two casts cancel.

!x = tensor<?x8xf32, ["n", "8"]>
!half = tensor<?x8xf16, ["n", "8"]>
!w = tensor<8x8xf16>

// CHECK: func.func private @dot_0(%[[X:.*]]: tensor<?x8xf16, ["n", "8"]>, %[[W:.*]]: tensor<8x8xf16>)
// CHECK-NOT: graph.map
// CHECK: "graph.matmul"(%[[X]], %[[W]])
func.func @main(%x: !x, %w: !w) -> !x {
  %0 = call @loop_0(%x) : (!x) -> !x
  %1 = call @dot_0(%0, %w) : (!x, !w) -> !x
  return %1 : !x
}
func.func private @loop_0(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  return %0 : !x
}
func.func private @dot_0(%x: !x, %w: !w) -> !x attributes {graph.kernel = "dot", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = arith.truncf %a : f32 to f16
    gpu.yield %b : f16
  }) : () -> !half
  %1 = "graph.matmul"(%0, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!half, !w) -> !x
  return %1 : !x
}

// -----
// A rounding behind other arithmetic is a part of it and stays.

!x = tensor<?x8xf32, ["n", "8"]>
!half = tensor<?x8xf16, ["n", "8"]>
!w = tensor<8x8xf16>

// CHECK: func.func private @dot_0(%[[X:.*]]: tensor<?x8xf16, ["n", "8"]>, %[[W:.*]]: tensor<8x8xf16>)
// CHECK: arith.extf
// CHECK: arith.maximumf
// CHECK: arith.truncf
// CHECK: "graph.matmul"
func.func @main(%x: !x, %w: !w) -> !x {
  %0 = call @loop_0(%x) : (!x) -> !x
  %1 = call @dot_0(%0, %w) : (!x, !w) -> !x
  return %1 : !x
}
func.func private @loop_0(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  return %0 : !x
}
func.func private @dot_0(%x: !x, %w: !w) -> !x attributes {graph.kernel = "dot", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %zero = arith.constant 0.0 : f32
    %b = arith.maximumf %a, %zero : f32
    %c = arith.truncf %b : f32 to f16
    gpu.yield %c : f16
  }) : () -> !half
  %1 = "graph.matmul"(%0, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!half, !w) -> !x
  return %1 : !x
}
