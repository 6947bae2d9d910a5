// RUN: tilewright opt %s --from fuse
// What is only like a softmax between two products is no attention, because an attention kernel computes a softmax.
// Here the smallest score is subtracted.

!q = tensor<2x4x32x64xf32>
!scores = tensor<2x4x32x32xf32>
!line = tensor<2x4x32x1xf32>

// CHECK-LABEL: func.func @main
// CHECK-NOT: call @attention
// CHECK: call @dot_0
// CHECK: call @row_0
// CHECK: call @dot_1
func.func @main(%q: !q, %k: !q, %v: !q) -> !q {
  %scores = "graph.matmul"(%q, %k) {transpose_left = 0 : i64, transpose_right = 1 : i64} : (!q, !q) -> !scores
  %top = "graph.reduce"(%scores) {kind = "min", axes = array<i64: 3>} : (!scores) -> !line
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
// Powers of two instead of e.

!q = tensor<2x4x32x64xf32>
!scores = tensor<2x4x32x32xf32>
!line = tensor<2x4x32x1xf32>

// CHECK-LABEL: func.func @main
// CHECK-NOT: call @attention
// CHECK: call @dot_0
// CHECK: call @row_0
// CHECK: call @dot_1
func.func @main(%q: !q, %k: !q, %v: !q) -> !q {
  %scores = "graph.matmul"(%q, %k) {transpose_left = 0 : i64, transpose_right = 1 : i64} : (!q, !q) -> !scores
  %top = "graph.reduce"(%scores) {kind = "max", axes = array<i64: 3>} : (!scores) -> !line
  %power = "graph.map"() ({
    %a = "graph.element"(%scores) : (!scores) -> f32
    %b = "graph.element"(%top) : (!line) -> f32
    %c = arith.subf %a, %b : f32
    %d = math.exp2 %c : f32
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
// A product of the powers instead of their sum.

!q = tensor<2x4x32x64xf32>
!scores = tensor<2x4x32x32xf32>
!line = tensor<2x4x32x1xf32>

// CHECK-LABEL: func.func @main
// CHECK-NOT: call @attention
// CHECK: call @dot_0
// CHECK: call @row_0
// CHECK: call @dot_1
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
  %sum = "graph.reduce"(%power) {kind = "product", axes = array<i64: 3>} : (!scores) -> !line
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
// The powers multiplied by their sum.

!q = tensor<2x4x32x64xf32>
!scores = tensor<2x4x32x32xf32>
!line = tensor<2x4x32x1xf32>

// CHECK-LABEL: func.func @main
// CHECK-NOT: call @attention
// CHECK: call @dot_0
// CHECK: call @row_0
// CHECK: call @dot_1
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
    %c = arith.mulf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !scores
  %y = "graph.matmul"(%weights, %v) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!scores, !q) -> !q
  return %y : !q
}

// -----
// The weights transposed: they add up to one over the wrong axis.

!q = tensor<2x4x32x64xf32>
!scores = tensor<2x4x32x32xf32>
!line = tensor<2x4x32x1xf32>

// CHECK-LABEL: func.func @main
// CHECK-NOT: call @attention
// CHECK: call @dot_0
// CHECK: call @row_0
// CHECK: call @dot_1
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
  %y = "graph.matmul"(%weights, %v) {transpose_left = 1 : i64, transpose_right = 0 : i64} : (!scores, !q) -> !q
  return %y : !q
}
