// RUN: tilewright opt %s --from fold-normalisations --precision bf16
// The product of a gate has its columns in turn: what finishes its sums stands behind each half, and RMSNorm, written as
// a quotient, has no mean.

!x = tensor<?x128xf32, ["n", "128"]>
!line = tensor<?x1xf32, ["n", "1"]>
!w = tensor<256x128xf32>
!wide = tensor<?x256xf32, ["n", "256"]>
!y = tensor<?x128xf32, ["n", "128"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[X:.*]] = "graph.map"() ({
// CHECK: %[[W:.*]] = "graph.weight"() {handle = "w.normalised"}
// CHECK: %[[SUMS:.*]] = "graph.matmul"(%[[X]], %[[W]])
// CHECK: %[[SCALE:.*]] = "graph.map"() ({
// CHECK: "graph.element"(%arg1)
// CHECK: arith.divf
// CHECK: %[[EVEN:.*]] = "graph.slice"(%[[SUMS]]) {starts = ["0", "0"]
// CHECK: "graph.element"(%[[EVEN]])
// CHECK: "graph.element"(%[[SCALE]])
// CHECK: %[[ODD:.*]] = "graph.slice"(%[[SUMS]]) {starts = ["0", "1"]
// CHECK: "graph.element"(%[[ODD]])
// CHECK: "graph.element"(%[[SCALE]])
// CHECK-NOT: graph.matmul
func.func @main(%given: !x, %norm: !line) -> !y {
  %x = "graph.map"() ({
    %a = "graph.element"(%given) : (!x) -> f32
    %b = arith.addf %a, %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %gamma = "graph.weight"() {handle = "gamma"} : () -> tensor<128xf32>
  %scaled = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = "graph.element"(%norm) : (!line) -> f32
    %c = arith.divf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  %normal = "graph.map"() ({
    %a = "graph.element"(%gamma) : (tensor<128xf32>) -> f32
    %b = "graph.element"(%scaled) : (!x) -> f32
    %c = arith.mulf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  %0 = "graph.matmul"(%normal, %w) {transpose_left = 0 : i64, transpose_right = 1 : i64} : (!x, !w) -> !wide
  %1 = "graph.slice"(%0) {starts = ["0", "0"], steps = array<i64: 1, 2>} : (!wide) -> !y
  %2 = "graph.slice"(%0) {starts = ["0", "1"], steps = array<i64: 1, 2>} : (!wide) -> !y
  %3 = "graph.map"() ({
    %a = "graph.element"(%1) : (!y) -> f32
    %b = "graph.element"(%2) : (!y) -> f32
    %c = arith.mulf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !y
  return %3 : !y
}
