// RUN: tilewright opt %s --from narrow-storage --precision f16 | FileCheck %s
// A kernel that somebody wrote reads and writes the types that it was written for.

!x = tensor<8xf32>

// CHECK: %[[A:.*]] = call @loop_0(%{{.*}}) : (tensor<8xf32>) -> tensor<8xf32>
// CHECK-NEXT: %[[B:.*]] = call @custom_0_k(%[[A]]) : (tensor<8xf32>) -> tensor<8xf32>
// CHECK-NEXT: call @loop_0(%[[B]]) : (tensor<8xf32>) -> tensor<8xf32>
func.func @main(%x: !x {graph.name = "x"}) -> (!x {graph.name = "y"}) {
  %0 = call @loop_0(%x) : (!x) -> !x
  %1 = call @custom_0_k(%0) : (!x) -> !x
  %2 = call @loop_0(%1) : (!x) -> !x
  return %2 : !x
}
func.func private @loop_0(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  return %0 : !x
}
func.func private @custom_0_k(!x) -> !x attributes {graph.kernel = "custom", graph.nodes = [], graph.given = {
  arguments = ["input 0", "output 0"], block = ["32", "1", "1"], entry = "k", grid = ["1", "1", "1"],
  parameters = ["pointer", "pointer"], prepared = [], ptx = ".visible .entry k()", shared_bytes = 0 : i64}}
