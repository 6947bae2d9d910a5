// RUN: tilewright opt %s --from fuse
// A product stores its result once: what only extends it belongs to the normalisation that asks for it.

!x = tensor<64x128xf16>
!w = tensor<128x128xf16>
!y = tensor<64x128xf32>
!s = tensor<64x1xf32>

// CHECK-LABEL: func.func @main
// CHECK: %[[SUM:.*]] = call @dot_0({{.*}} -> tensor<64x128xf16>
// CHECK: call @row_0(%[[SUM]])
// CHECK: func.func private @row_0
// CHECK: arith.extf
func.func @main(%x: !x, %w: !w, %r: !x) -> (!x, !y) {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !y
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!y) -> f32
    %b = "graph.element"(%r) : (!x) -> f16
    %c = arith.extf %b : f16 to f32
    %d = arith.addf %a, %c : f32
    %e = arith.truncf %d : f32 to f16
    gpu.yield %e : f16
  }) : () -> !x
  %2 = "graph.map"() ({
    %a = "graph.element"(%1) : (!x) -> f16
    %b = arith.extf %a : f16 to f32
    gpu.yield %b : f32
  }) : () -> !y
  %3 = "graph.reduce"(%2) {kind = "sum", axes = array<i64: 1>} : (!y) -> !s
  %4 = "graph.map"() ({
    %a = "graph.element"(%2) : (!y) -> f32
    %b = "graph.element"(%3) : (!s) -> f32
    %c = arith.subf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !y
  return %1, %4 : !x, !y
}

// -----
// Keys and values of one tensor, each put behind an input of the model, are one loop with two results.

!m = tensor<1x1x64xf16>
!half = tensor<1x1x32xf16>
!past = tensor<1x7x32xf16>
!present = tensor<1x8x32xf16>

// CHECK-LABEL: func.func @main
// CHECK: %[[BOTH:.*]] = call @loop_0(%arg0)
// CHECK: call @loop_1(%[[BOTH]], %arg1, %arg2) {{.*}} -> (tensor<1x8x32xf16>, tensor<1x8x32xf16>)
// CHECK-NOT: call
func.func @main(%m0: !m, %pk: !past, %pv: !past) -> (!present, !present) {
  %m = "graph.map"() ({
    %a = "graph.element"(%m0) : (!m) -> f16
    %b = math.exp %a : f16
    gpu.yield %b : f16
  }) : () -> !m
  %k = "graph.slice"(%m) {starts = ["0", "0", "0"], steps = array<i64: 1, 1, 1>} : (!m) -> !half
  %v = "graph.slice"(%m) {starts = ["0", "0", "32"], steps = array<i64: 1, 1, 1>} : (!m) -> !half
  %0 = "graph.concatenate"() ({
    gpu.yield %pk, %k : !past, !half
  }) {axis = 1 : i64} : () -> !present
  %1 = "graph.concatenate"() ({
    gpu.yield %pv, %v : !past, !half
  }) {axis = 1 : i64} : () -> !present
  return %0, %1 : !present, !present
}
