// RUN: tilewright opt %s --from unfold-reshapes
// A group normalisation joins channels of a group with all positions; the reductions then run over the dimensions
// themselves, so that channels-last planning can follow.

!x = tensor<?x8x?x?xf32, ["n", "8", "h", "w"]>
!joined = tensor<?x4x?xf32, ["n", "4", "2*h*w"]>
!sum = tensor<?x4x1xf32, ["n", "4", "1"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[FINE:.*]] = "graph.reshape"(%arg0) {{.*}} -> tensor<?x4x2x?x?xf32, ["n", "4", "2", "h", "w"]>
// CHECK: %[[SUM:.*]] = "graph.reduce"(%[[FINE]]) {axes = array<i64: 2, 3, 4>, kind = "sum"}
// CHECK-SAME: -> tensor<?x4x1x1x1xf32
// CHECK: graph.map
// CHECK-DAG: "graph.element"(%[[FINE]])
// CHECK-DAG: "graph.element"(%[[SUM]])
// CHECK: }) : () -> tensor<?x4x2x?x?xf32
// CHECK-NEXT: "graph.reshape"{{.*}} -> tensor<?x8x?x?xf32
func.func @main(%x: !x) -> !x {
  %joined = "graph.reshape"(%x) : (!x) -> !joined
  %sum = "graph.reduce"(%joined) {kind = "sum", axes = array<i64: 2>} : (!joined) -> !sum
  %0 = "graph.map"() ({
    %a = "graph.element"(%joined) : (!joined) -> f32
    %b = "graph.element"(%sum) : (!sum) -> f32
    %c = arith.subf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !joined
  %1 = "graph.reshape"(%0) : (!joined) -> !x
  return %1 : !x
}

// -----
// Nothing is unfolded for a reduction over a dimension that no reshape joined.

!x = tensor<2x3x8xf32>
!joined = tensor<6x8xf32>
!sum = tensor<6x1xf32>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[JOINED:.*]] = "graph.reshape"(%arg0) {{.*}} -> tensor<6x8xf32>
// CHECK-NEXT: "graph.reduce"(%[[JOINED]]) {axes = array<i64: 1>
// CHECK-NEXT: return
func.func @main(%x: !x) -> !sum {
  %joined = "graph.reshape"(%x) : (!x) -> !joined
  %sum = "graph.reduce"(%joined) {kind = "sum", axes = array<i64: 1>} : (!joined) -> !sum
  return %sum : !sum
}

// -----
// Sizes that cannot be shown to divide each other stay joined.

!x = tensor<?x?xf32, ["a", "b"]>
!joined = tensor<?xf32, ["a*b"]>
!other = tensor<?x6xf32, ["c", "6"]>
!sum = tensor<?x1xf32, ["c", "1"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[OTHER:.*]] = "graph.reshape"{{.*}} -> tensor<?x6xf32, ["c", "6"]>
// CHECK-NEXT: "graph.reduce"(%[[OTHER]]) {axes = array<i64: 1>
func.func @main(%x: !x) -> !sum {
  %joined = "graph.reshape"(%x) : (!x) -> !joined
  %other = "graph.reshape"(%joined) : (!joined) -> !other
  %sum = "graph.reduce"(%other) {kind = "sum", axes = array<i64: 1>} : (!other) -> !sum
  return %sum : !sum
}

// -----
// A map that asks for its position in the joined shape is computed there.

!x = tensor<?x8x?xf32, ["n", "8", "w"]>
!joined = tensor<?x4x?xf32, ["n", "4", "2*w"]>
!sum = tensor<?x4x1xf32, ["n", "4", "1"]>

// CHECK-LABEL: func.func @main
// CHECK: graph.reduce
// CHECK: graph.map
// CHECK: "graph.index"() {axis = 2 : i64}
// CHECK: }) : () -> tensor<?x4x?xf32, ["n", "4", "2*w"]>
func.func @main(%x: !x) -> !joined {
  %joined = "graph.reshape"(%x) : (!x) -> !joined
  %sum = "graph.reduce"(%joined) {kind = "sum", axes = array<i64: 2>} : (!joined) -> !sum
  %0 = "graph.map"() ({
    %a = "graph.element"(%joined) : (!joined) -> f32
    %b = "graph.element"(%sum) : (!sum) -> f32
    %i = "graph.index"() {axis = 2 : i64} : () -> i64
    %c = arith.sitofp %i : i64 to f32
    %d = arith.subf %a, %b : f32
    %e = arith.mulf %d, %c : f32
    gpu.yield %e : f32
  }) : () -> !joined
  return %0 : !joined
}

// -----
// So is one that stretches the sums to another shape.

!x = tensor<?x8x?xf32, ["n", "8", "w"]>
!joined = tensor<?x4x?xf32, ["n", "4", "2*w"]>
!sum = tensor<?x4x1xf32, ["n", "4", "1"]>
!y = tensor<?x4x7xf32, ["n", "4", "7"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[SUM:.*]] = "graph.reduce"
// CHECK: %[[JOINED:.*]] = "graph.reshape"(%[[SUM]]) {{.*}} -> tensor<?x4x1xf32
// CHECK: graph.map
// CHECK: "graph.element"(%[[JOINED]])
// CHECK: }) : () -> tensor<?x4x7xf32
func.func @main(%x: !x, %y: !y) -> !y {
  %joined = "graph.reshape"(%x) : (!x) -> !joined
  %sum = "graph.reduce"(%joined) {kind = "sum", axes = array<i64: 2>} : (!joined) -> !sum
  %0 = "graph.map"() ({
    %a = "graph.element"(%y) : (!y) -> f32
    %b = "graph.element"(%sum) : (!sum) -> f32
    %c = arith.subf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !y
  return %0 : !y
}

// -----
// A joined bias of scores stays joined: the product would have to be split, and the softmax with it.

!q = tensor<2x6x8xf32>
!bias = tensor<2x6x2x3xf32>
!scores = tensor<2x6x6xf32>
!line = tensor<2x6x1xf32>

// CHECK-LABEL: func.func @main
// CHECK: "graph.reduce"{{.*}} {axes = array<i64: 2>, kind = "max"} : (tensor<2x6x6xf32>)
func.func @main(%q: !q, %k: !q, %bias: !bias) -> !line {
  %product = "graph.matmul"(%q, %k) {transpose_left = 0 : i64, transpose_right = 1 : i64} : (!q, !q) -> !scores
  %joined = "graph.reshape"(%bias) : (!bias) -> !scores
  %0 = "graph.map"() ({
    %a = "graph.element"(%product) : (!scores) -> f32
    %b = "graph.element"(%joined) : (!scores) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !scores
  %1 = "graph.reduce"(%0) {axes = array<i64: 2>, kind = "max"} : (!scores) -> !line
  return %1 : !line
}
