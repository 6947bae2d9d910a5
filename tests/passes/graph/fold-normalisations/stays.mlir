// RUN: tilewright opt %s --from fold-normalisations --precision f16
// RUN: tilewright opt %s --from fold-normalisations --precision tf32
// A scale of lines stays in front of a product where something else reads what it makes.

!x = tensor<64x128xf32>
!line = tensor<64x1xf32>
!w = tensor<128x256xf32>
!y = tensor<64x256xf32>

// CHECK-LABEL: func.func @main
// CHECK: %[[NORMAL:.*]] = "graph.map"() ({
// CHECK: "graph.matmul"(%[[NORMAL]], %{{.*}})
// CHECK-NOT: normalised
func.func @main(%x: !x, %scale: !line) -> (!x, !y) {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %normal = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = "graph.element"(%scale) : (!line) -> f32
    %c = arith.mulf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  %y = "graph.matmul"(%normal, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !y
  return %normal, %y : !x, !y
}
