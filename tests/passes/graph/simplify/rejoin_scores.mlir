// RUN: tilewright opt %s --from simplify
// Scores that are split to add relative positions of rows and columns, and joined again for the softmax: what is added
// is joined instead.

!heads = tensor<?x2x12x8xf32, ["n", "2", "12", "8"]>
!scores = tensor<?x2x12x12xf32, ["n", "2", "12", "12"]>
!split = tensor<?x2x3x4x3x4xf32, ["n", "2", "3", "4", "3", "4"]>
!rows = tensor<?x2x3x4x3x1xf32, ["n", "2", "3", "4", "3", "1"]>
!columns = tensor<4x1x4xf32>

// CHECK-LABEL: func.func @main
// CHECK-SAME: %[[ROWS:[a-z0-9]*]]: tensor<?x2x3x4x3x1xf32
// CHECK: %[[PRODUCT:.*]] = "graph.matmul"
// CHECK-NOT: "graph.reshape"(%[[PRODUCT]])
// CHECK: "graph.broadcast"(%[[ROWS]]) {{.*}} -> tensor<?x2x3x4x3x4xf32
// CHECK: graph.map
// CHECK: "graph.element"(%[[PRODUCT]])
// CHECK: }) : () -> tensor<?x2x12x12xf32
// CHECK: "graph.broadcast"{{.*}} -> tensor<{{.*}}3x4x3x4xf32
// CHECK: graph.map
// CHECK: }) : () -> tensor<?x2x12x12xf32
// CHECK-NEXT: return
func.func @main(%q: !heads, %k: !heads, %rows: !rows, %columns: !columns) -> !scores {
  %product = "graph.matmul"(%q, %k) {transpose_left = 0 : i64, transpose_right = 1 : i64} : (!heads, !heads) -> !scores
  %split = "graph.reshape"(%product) : (!scores) -> !split
  %0 = "graph.map"() ({
    %a = "graph.element"(%split) : (!split) -> f32
    %b = "graph.element"(%rows) : (!rows) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !split
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!split) -> f32
    %b = "graph.element"(%columns) : (!columns) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !split
  %joined = "graph.reshape"(%1) : (!split) -> !scores
  return %joined : !scores
}

// -----
// Something else that reads the split scores keeps them split; so does a map that asks for its position.

!heads = tensor<1x6x8xf32>
!scores = tensor<1x6x6xf32>
!split = tensor<1x2x3x6xf32>

// CHECK-LABEL: func.func @main
// CHECK: %[[PRODUCT:.*]] = "graph.matmul"
// CHECK: %[[SPLIT:.*]] = "graph.reshape"(%[[PRODUCT]])
// CHECK: "graph.element"(%[[SPLIT]])
// CHECK: }) : () -> tensor<1x2x3x6xf32>
// CHECK: "graph.element"(%[[SPLIT]])
// CHECK: }) : () -> tensor<1x2x3x6xf32>
func.func @main(%q: !heads, %k: !heads) -> (!scores, !split) {
  %product = "graph.matmul"(%q, %k) {transpose_left = 0 : i64, transpose_right = 1 : i64} : (!heads, !heads) -> !scores
  %split = "graph.reshape"(%product) : (!scores) -> !split
  %0 = "graph.map"() ({
    %a = "graph.element"(%split) : (!split) -> f32
    %i = "graph.index"() {axis = 1 : i64} : () -> i64
    %b = arith.sitofp %i : i64 to f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !split
  %1 = "graph.map"() ({
    %a = "graph.element"(%split) : (!split) -> f32
    %c = math.exp %a : f32
    gpu.yield %c : f32
  }) : () -> !split
  %joined = "graph.reshape"(%0) : (!split) -> !scores
  return %joined, %1 : !scores, !split
}
