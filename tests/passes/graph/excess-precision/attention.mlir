// RUN: tilewright opt %s --from excess-precision --precision f16 | FileCheck %s --check-prefixes=BOTH,EXCESS
// RUN: tilewright opt %s --from excess-precision --precision model | FileCheck %s --check-prefixes=BOTH,EXCESS
// RUN: tilewright opt %s --from excess-precision --precision strict | FileCheck %s --check-prefixes=BOTH,STRICT
// Scores stay in f32 from the product to the softmax, through a mask of f16 numbers; the weights are rounded for the
// second product, as that multiplies f16. Strictly, the model's roundings stay.

!q = tensor<4x16xf16>
!k = tensor<16x8xf16>
!s = tensor<4x8xf16>
!w = tensor<4x8xf32>
!l = tensor<4x1xf32>
!v = tensor<8x16xf16>

// BOTH-LABEL: func.func private @attention_0
// STRICT: %[[S:.*]] = "graph.matmul"{{.*}} -> tensor<4x8xf16>
// STRICT: arith.truncf {{.*}} : f32 to f16
// EXCESS: %[[M:.*]] = "graph.map"
// EXCESS: arith.constant 0.000000e+00 : f32
// EXCESS: arith.constant -6.550400e+04 : f32
// EXCESS: arith.select {{.*}} : f32
// EXCESS: -> tensor<4x8xf32>
// EXCESS: %[[S:.*]] = "graph.matmul"{{.*}} -> tensor<4x8xf32>
// EXCESS: %[[SEEN:.*]] = "graph.map"
// EXCESS: %[[A:.*]] = "graph.element"(%[[S]]) {{.*}} -> f32
// EXCESS: %[[B:.*]] = "graph.element"(%[[M]]) {{.*}} -> f32
// EXCESS-NOT: arith.truncf
// EXCESS-NOT: arith.extf
// EXCESS: "graph.reduce"(%[[SEEN]])
// BOTH: math.exp
// BOTH: arith.truncf {{.*}} : f32 to f16
// BOTH: "graph.matmul"{{.*}} -> tensor<4x16xf16>
func.func @main(%q: !q, %k: !k, %v: !v) -> !q {
  %0 = call @attention_0(%q, %k, %v) : (!q, !k, !v) -> !q
  return %0 : !q
}
func.func private @attention_0(%q: !q, %k: !k, %v: !v) -> !q attributes {graph.kernel = "attention", graph.nodes = []} {
  %mask = "graph.map"() ({
    %i = "graph.index"() {axis = 0 : i64} : () -> i64
    %j = "graph.index"() {axis = 1 : i64} : () -> i64
    %c = arith.cmpi sle, %j, %i : i64
    %zero = arith.constant 0.0 : f16
    %low = arith.constant -65504.0 : f16
    %b = arith.select %c, %zero, %low : f16
    gpu.yield %b : f16
  }) : () -> !s
  %0 = "graph.matmul"(%q, %k) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!q, !k) -> !s
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!s) -> f16
    %b = "graph.element"(%mask) : (!s) -> f16
    %c = arith.extf %a : f16 to f32
    %d = arith.extf %b : f16 to f32
    %e = arith.addf %c, %d : f32
    %f = arith.truncf %e : f32 to f16
    %g = arith.extf %f : f16 to f32
    gpu.yield %g : f32
  }) : () -> !w
  %2 = "graph.reduce"(%1) {axes = array<i64: 1>, kind = "max"} : (!w) -> !l
  %3 = "graph.map"() ({
    %a = "graph.element"(%1) : (!w) -> f32
    %b = "graph.element"(%2) : (!l) -> f32
    %c = arith.subf %a, %b : f32
    %d = math.exp %c : f32
    gpu.yield %d : f32
  }) : () -> !w
  %4 = "graph.reduce"(%3) {axes = array<i64: 1>, kind = "sum"} : (!w) -> !l
  %5 = "graph.map"() ({
    %a = "graph.element"(%3) : (!w) -> f32
    %b = "graph.element"(%4) : (!l) -> f32
    %c = arith.divf %a, %b : f32
    %d = arith.truncf %c : f32 to f16
    gpu.yield %d : f16
  }) : () -> !s
  %6 = "graph.matmul"(%5, %v) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!s, !v) -> !q
  return %6 : !q
}
