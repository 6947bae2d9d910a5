// RUN: tilewright opt %s --from fuse --to fuse
// A causal mask with padding, as GPT-2's export computes it once for all layers: every attention computes it for itself
// from what is smaller than queries x keys, here the padding of every key, and no mask is stored.

!q = tensor<?x4x?x64xf32, ["n", "4", "s", "64"]>
!scores = tensor<?x4x?x?xf32, ["n", "4", "s", "s"]>
!line = tensor<?x4x?x1xf32, ["n", "4", "s", "1"]>
!mask = tensor<?x1x?x?xf32, ["n", "1", "s", "s"]>
!places = tensor<?xi64, ["s"]>
!rows = tensor<1x1x?x1xi64, ["1", "1", "s", "1"]>
!causal = tensor<1x1x?x?xi1, ["1", "1", "s", "s"]>
!padding = tensor<?x1x1x?xi1, ["n", "1", "1", "s"]>

// CHECK-LABEL: func.func @main
// CHECK-SAME: %[[PADDING:[a-z0-9]*]]: tensor<?x1x1x?xi1
// CHECK-NEXT: call @attention_0({{.*}}%[[PADDING]]
// CHECK-NEXT: call @attention_1({{.*}}%[[PADDING]]
// CHECK-NEXT: return
// CHECK: func.func private @attention_0
// CHECK: arith.cmpi sle
// CHECK: arith.andi
// CHECK: arith.addf
func.func @main(%q: !q, %k: !q, %v: !q, %padding: !padding) -> !q {
  %places = "graph.map"() ({
    %i = "graph.index"() {axis = 0 : i64} : () -> i64
    gpu.yield %i : i64
  }) : () -> !places
  %rows = "graph.reshape"(%places) : (!places) -> !rows
  %causal = "graph.map"() ({
    %i = "graph.element"(%rows) : (!rows) -> i64
    %j = "graph.element"(%places) : (!places) -> i64
    %c = arith.cmpi sle, %j, %i : i64
    gpu.yield %c : i1
  }) : () -> !causal
  %mask = "graph.map"() ({
    %a = "graph.element"(%causal) : (!causal) -> i1
    %b = "graph.element"(%padding) : (!padding) -> i1
    %c = arith.andi %a, %b : i1
    %zero = arith.constant 0.0 : f32
    %lowest = arith.constant 0xFF800000 : f32
    %d = arith.select %c, %zero, %lowest : f32
    gpu.yield %d : f32
  }) : () -> !mask
  %scores0 = "graph.matmul"(%q, %k) {transpose_left = 0 : i64, transpose_right = 1 : i64} : (!q, !q) -> !scores
  %seen0 = "graph.map"() ({
    %a = "graph.element"(%scores0) : (!scores) -> f32
    %b = "graph.element"(%mask) : (!mask) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !scores
  %top0 = "graph.reduce"(%seen0) {kind = "max", axes = array<i64: 3>} : (!scores) -> !line
  %power0 = "graph.map"() ({
    %a = "graph.element"(%seen0) : (!scores) -> f32
    %b = "graph.element"(%top0) : (!line) -> f32
    %c = arith.subf %a, %b : f32
    %d = math.exp %c : f32
    gpu.yield %d : f32
  }) : () -> !scores
  %sum0 = "graph.reduce"(%power0) {kind = "sum", axes = array<i64: 3>} : (!scores) -> !line
  %weights0 = "graph.map"() ({
    %a = "graph.element"(%power0) : (!scores) -> f32
    %b = "graph.element"(%sum0) : (!line) -> f32
    %c = arith.divf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !scores
  %y0 = "graph.matmul"(%weights0, %v) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!scores, !q) -> !q
  %scores1 = "graph.matmul"(%y0, %k) {transpose_left = 0 : i64, transpose_right = 1 : i64} : (!q, !q) -> !scores
  %seen1 = "graph.map"() ({
    %a = "graph.element"(%scores1) : (!scores) -> f32
    %b = "graph.element"(%mask) : (!mask) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !scores
  %top1 = "graph.reduce"(%seen1) {kind = "max", axes = array<i64: 3>} : (!scores) -> !line
  %power1 = "graph.map"() ({
    %a = "graph.element"(%seen1) : (!scores) -> f32
    %b = "graph.element"(%top1) : (!line) -> f32
    %c = arith.subf %a, %b : f32
    %d = math.exp %c : f32
    gpu.yield %d : f32
  }) : () -> !scores
  %sum1 = "graph.reduce"(%power1) {kind = "sum", axes = array<i64: 3>} : (!scores) -> !line
  %weights1 = "graph.map"() ({
    %a = "graph.element"(%power1) : (!scores) -> f32
    %b = "graph.element"(%sum1) : (!line) -> f32
    %c = arith.divf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !scores
  %y1 = "graph.matmul"(%weights1, %v) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!scores, !q) -> !q
  return %y1 : !q
}
