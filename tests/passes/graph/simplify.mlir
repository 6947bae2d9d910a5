// RUN: tilewright opt %s --from simplify --to simplify
// A transpose and its inverse cancel; a map that nobody reads is dead.

// CHECK-LABEL: func.func @main
// CHECK-NOT: graph.transpose
// CHECK-NOT: math.exp
// CHECK: arith.addf
// CHECK-NOT: graph.map
// CHECK: return
func.func @main(%x: tensor<?x4x8xf32, ["n", "4", "8"]> {graph.name = "x"})
    -> (tensor<?x4x8xf32, ["n", "4", "8"]> {graph.name = "y"}) attributes {graph.symbols = ["n"]} {
  %0 = "graph.transpose"(%x) {permutation = array<i64: 1, 2, 0>}
    : (tensor<?x4x8xf32, ["n", "4", "8"]>) -> tensor<4x8x?xf32, ["4", "8", "n"]>
  %1 = "graph.transpose"(%0) {permutation = array<i64: 2, 0, 1>}
    : (tensor<4x8x?xf32, ["4", "8", "n"]>) -> tensor<?x4x8xf32, ["n", "4", "8"]>
  %2 = "graph.map"() ({
    %a = "graph.element"(%1) : (tensor<?x4x8xf32, ["n", "4", "8"]>) -> f32
    %b = arith.addf %a, %a : f32
    gpu.yield %b : f32
  }) : () -> tensor<?x4x8xf32, ["n", "4", "8"]>
  %3 = "graph.map"() ({
    %a = "graph.element"(%1) : (tensor<?x4x8xf32, ["n", "4", "8"]>) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> tensor<?x4x8xf32, ["n", "4", "8"]>
  return %2 : tensor<?x4x8xf32, ["n", "4", "8"]>
}
