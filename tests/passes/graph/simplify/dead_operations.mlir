// RUN: tilewright opt %s --from simplify
// What nobody reads goes, and so does what only that read.

!x = tensor<?x8xf32, ["n", "8"]>
!y = tensor<8x?xf32, ["8", "n"]>

// CHECK-LABEL: func.func @main
// CHECK-NOT: graph.transpose
// CHECK-NOT: math.exp
// CHECK: arith.addf
// CHECK-NOT: graph.map
// CHECK: return
func.func @main(%x: !x) -> !x {
  %used = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = arith.addf %a, %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %turned = "graph.transpose"(%x) {permutation = array<i64: 1, 0>} : (!x) -> !y
  %dead = "graph.map"() ({
    %a = "graph.element"(%turned) : (!y) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !y
  return %used : !x
}
