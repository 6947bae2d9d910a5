// RUN: tilewright opt %s --from tile --target sm_90a | FileCheck %s --check-prefix=HOPPER
// RUN: tilewright opt %s --from tile --target sm_80 | FileCheck %s --check-prefix=AMPERE
// On targets with dependent launches a kernel lets the next one start with its first operation, and waits for those in
// front of it before it touches memory; barriers and tensor maps are made ready meanwhile.

!x = tensor<1024x1024xf16>
!w = tensor<1024x1024xf16>

// HOPPER: func.func @dot_0({{.*}}, %[[LEFT:[^:]*]]: !tile.tensor_map<{{[^>]*}}>, %[[RIGHT:[^:]*]]: !tile.tensor_map<
// HOPPER-NEXT: "tile.begin_next"()
// HOPPER: "tile.make_barriers"
// HOPPER: "tile.cluster_barrier"() {relaxed}
// HOPPER: "tile.prefetch_map"(%[[LEFT]])
// HOPPER-NEXT: "tile.prefetch_map"(%[[RIGHT]])
// HOPPER: "tile.await_previous"()
// HOPPER-NEXT: "tile.warps"
// AMPERE: func.func @dot_0
// AMPERE-NOT: tile.await_previous
func.func private @dot_0(%x: !x, %w: !w) -> !x attributes {graph.kernel = "dot", graph.nodes = []} {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  return %0 : !x
}

// -----

!x = tensor<4096xf32>

// HOPPER: func.func @loop_0
// HOPPER-NEXT: "tile.begin_next"()
// HOPPER: "tile.program_id"
// HOPPER-NOT: tile.load
// HOPPER: "tile.await_previous"()
// HOPPER-NEXT: "tile.map"
// AMPERE: func.func @loop_0
// AMPERE-NOT: tile.begin_next
func.func private @loop_0(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = arith.addf %a, %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  return %0 : !x
}
