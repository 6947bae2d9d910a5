// RUN: tilewright opt %s --from fuse
// Softmax of scaled and masked scores between two products is one kernel: the scores never reach memory.

!q = tensor<?x4x?x64xf32, ["n", "4", "s", "64"]>
!scores = tensor<?x4x?x?xf32, ["n", "4", "s", "s"]>
!line = tensor<?x4x?x1xf32, ["n", "4", "s", "1"]>
!mask = tensor<?x1x1x?xf32, ["n", "1", "1", "s"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = call @attention_0(
// CHECK-NEXT: return %[[Y]]
// CHECK: @attention_0
// CHECK-SAME: graph.kernel = "attention"
// CHECK-COUNT-2: graph.matmul
func.func @main(%q: !q, %k: !q, %v: !q, %mask: !mask) -> !q {
  %scores = "graph.matmul"(%q, %k) {transpose_left = 0 : i64, transpose_right = 1 : i64} : (!q, !q) -> !scores
  %scaled = "graph.map"() ({
    %a = "graph.element"(%scores) : (!scores) -> f32
    %b = "graph.element"(%mask) : (!mask) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !scores
  %top = "graph.reduce"(%scaled) {kind = "max", axes = array<i64: 3>} : (!scores) -> !line
  %power = "graph.map"() ({
    %a = "graph.element"(%scaled) : (!scores) -> f32
    %b = "graph.element"(%top) : (!line) -> f32
    %c = arith.subf %a, %b : f32
    %d = math.exp %c : f32
    gpu.yield %d : f32
  }) : () -> !scores
  %sum = "graph.reduce"(%power) {kind = "sum", axes = array<i64: 3>} : (!scores) -> !line
  %weights = "graph.map"() ({
    %a = "graph.element"(%power) : (!scores) -> f32
    %b = "graph.element"(%sum) : (!line) -> f32
    %c = arith.divf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !scores
  %y = "graph.matmul"(%weights, %v) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!scores, !q) -> !q
  return %y : !q
}

// -----
// A head of more columns than the accumulators of a block hold: two products and a softmax.

!q = tensor<?x4x?x320xf32, ["n", "4", "s", "320"]>
!scores = tensor<?x4x?x?xf32, ["n", "4", "s", "s"]>
!line = tensor<?x4x?x1xf32, ["n", "4", "s", "1"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: call @dot_0(
// CHECK-NEXT: call @row_0(
// CHECK-NEXT: call @dot_1(
// CHECK-NEXT: return
func.func @main(%q: !q, %k: !q, %v: !q) -> !q {
  %scores = "graph.matmul"(%q, %k) {transpose_left = 0 : i64, transpose_right = 1 : i64} : (!q, !q) -> !scores
  %top = "graph.reduce"(%scores) {kind = "max", axes = array<i64: 3>} : (!scores) -> !line
  %power = "graph.map"() ({
    %a = "graph.element"(%scores) : (!scores) -> f32
    %b = "graph.element"(%top) : (!line) -> f32
    %c = arith.subf %a, %b : f32
    %d = math.exp %c : f32
    gpu.yield %d : f32
  }) : () -> !scores
  %sum = "graph.reduce"(%power) {kind = "sum", axes = array<i64: 3>} : (!scores) -> !line
  %weights = "graph.map"() ({
    %a = "graph.element"(%power) : (!scores) -> f32
    %b = "graph.element"(%sum) : (!line) -> f32
    %c = arith.divf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !scores
  %y = "graph.matmul"(%weights, %v) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!scores, !q) -> !q
  return %y : !q
}

// -----
// Weights that the model also returns have to be stored.

!q = tensor<?x4x?x64xf32, ["n", "4", "s", "64"]>
!scores = tensor<?x4x?x?xf32, ["n", "4", "s", "s"]>
!line = tensor<?x4x?x1xf32, ["n", "4", "s", "1"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: call @dot_0(
// CHECK-NEXT: %[[WEIGHTS:.*]] = call @row_0(
// CHECK-NEXT: %[[Y:.*]] = call @dot_1({{.*}}%[[WEIGHTS]]
// CHECK-NEXT: return %[[Y]], %[[WEIGHTS]]
func.func @main(%q: !q, %k: !q, %v: !q) -> (!q, !scores) {
  %scores = "graph.matmul"(%q, %k) {transpose_left = 0 : i64, transpose_right = 1 : i64} : (!q, !q) -> !scores
  %top = "graph.reduce"(%scores) {kind = "max", axes = array<i64: 3>} : (!scores) -> !line
  %power = "graph.map"() ({
    %a = "graph.element"(%scores) : (!scores) -> f32
    %b = "graph.element"(%top) : (!line) -> f32
    %c = arith.subf %a, %b : f32
    %d = math.exp %c : f32
    gpu.yield %d : f32
  }) : () -> !scores
  %sum = "graph.reduce"(%power) {kind = "sum", axes = array<i64: 3>} : (!scores) -> !line
  %weights = "graph.map"() ({
    %a = "graph.element"(%power) : (!scores) -> f32
    %b = "graph.element"(%sum) : (!line) -> f32
    %c = arith.divf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !scores
  %y = "graph.matmul"(%weights, %v) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!scores, !q) -> !q
  return %y, %weights : !q, !scores
}
