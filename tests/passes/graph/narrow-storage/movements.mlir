// RUN: tilewright opt %s --from narrow-storage --precision f16
// A rounding behind movements of what was stored narrow goes, too: a product reads half of a tensor as it is, and a
// concatenation moves halves. A part that nobody stored is rounded on its own.

!x = tensor<?x8xf32, ["n", "8"]>
!left = tensor<?x4xf32, ["n", "4"]>
!half = tensor<?x4xf16, ["n", "4"]>
!w = tensor<4x8xf16>
!y = tensor<?x20xf32, ["n", "20"]>

// CHECK: func.func private @loop_1(%[[A:.*]]: tensor<?x8xf16, ["n", "8"]>, %[[B:.*]]: tensor<?x8xf16, ["n", "8"]>, %[[C:.*]]: tensor<?x4xf32, ["n", "4"]>) -> tensor<?x20xf16, ["n", "20"]>
// CHECK: %[[ROUNDED:.*]] = "graph.map"
// CHECK-NEXT: graph.element"(%[[C]])
// CHECK-NEXT: arith.truncf
// CHECK: "graph.concatenate"
// CHECK-NEXT: gpu.yield %[[A]], %[[B]], %[[ROUNDED]] : tensor<?x8xf16
// CHECK: func.func private @dot_0(%[[X:.*]]: tensor<?x8xf16, ["n", "8"]>, %[[W:.*]]: tensor<4x8xf16>)
// CHECK-NEXT: %[[SLICE:.*]] = "graph.slice"(%[[X]])
// CHECK-NEXT: "graph.matmul"(%[[SLICE]], %[[W]])
func.func @main(%x: !x, %z: !left, %w: !w) -> !y {
  %0 = call @loop_0(%x) : (!x) -> !x
  %1 = call @dot_0(%0, %w) : (!x, !w) -> !x
  %2 = call @loop_1(%0, %1, %z) : (!x, !x, !left) -> !y
  %3 = call @loop_2(%2) : (!y) -> !y
  return %3 : !y
}
func.func private @loop_0(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  return %0 : !x
}
func.func private @loop_1(%a: !x, %b: !x, %c: !left) -> !y attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.concatenate"() ({
    gpu.yield %a, %b, %c : !x, !x, !left
  }) {axis = 1 : i64} : () -> !y
  return %0 : !y
}
func.func private @loop_2(%y: !y) -> !y attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%y) : (!y) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !y
  return %0 : !y
}
func.func private @dot_0(%x: !x, %w: !w) -> !x attributes {graph.kernel = "dot", graph.nodes = []} {
  %s = "graph.slice"(%x) {starts = ["0", "4"], steps = array<i64: 1, 1>} : (!x) -> !left
  %0 = "graph.map"() ({
    %a = "graph.element"(%s) : (!left) -> f32
    %b = arith.truncf %a : f32 to f16
    gpu.yield %b : f16
  }) : () -> !half
  %1 = "graph.matmul"(%0, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!half, !w) -> !x
  return %1 : !x
}
