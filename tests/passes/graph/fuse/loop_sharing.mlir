// RUN: tilewright opt %s --from fuse
// Two results of one shape are two stores of one loop when one is computed from the other.

!x = tensor<?x8xf32, ["n", "8"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[BOTH:.*]]:2 = call @loop_0(%arg0)
// CHECK-NEXT: return
func.func @main(%x: !x) -> (!x, !x) {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!x) -> f32
    %b = arith.negf %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  return %0, %1 : !x, !x
}

// -----
// A cheap map is computed again by each of its readers, which then have the same input.

!x = tensor<?x8xf32, ["n", "8"]>
!turned = tensor<8x?xf32, ["8", "n"]>

// CHECK-LABEL: func.func @main
// CHECK-DAG: call @loop_{{[01]}}(%arg0) {{.*}} -> tensor<8x?xf32
// CHECK-DAG: call @loop_{{[01]}}(%arg0) {{.*}} -> tensor<?x8xf32
// CHECK: return
// CHECK: func.func private
// CHECK: arith.mulf
// CHECK: func.func private
// CHECK: arith.mulf
func.func @main(%x: !x) -> (!turned, !x) {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %half = arith.constant 0.5 : f32
    %b = arith.mulf %a, %half : f32
    gpu.yield %b : f32
  }) : () -> !x
  %1 = "graph.transpose"(%0) {permutation = array<i64: 1, 0>} : (!x) -> !turned
  %2 = "graph.map"() ({
    %a = "graph.element"(%0) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  return %1, %2 : !turned, !x
}

// -----
// An expensive row that is stretched is not computed for every element: it has its own kernel.

!x = tensor<?x8xf32, ["n", "8"]>
!row = tensor<8xf32>

// CHECK-LABEL: func.func @main
// CHECK: %[[ROW:.*]] = call @{{.*}}(%arg1) {{.*}} -> tensor<8xf32>
// CHECK: call @{{.*}}(%arg0, %[[ROW]])
func.func @main(%x: !x, %row: !row) -> !x {
  %0 = "graph.map"() ({
    %a = "graph.element"(%row) : (!row) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !row
  %1 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = "graph.element"(%0) : (!row) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %1 : !x
}

// -----
// Nor is what is read at computed positions, several of which may be the same.

!x = tensor<?x8xf32, ["n", "8"]>
!indices = tensor<?xi64, ["k"]>
!y = tensor<?x8xf32, ["k", "8"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[EXP:.*]] = call @{{.*}}(%arg0)
// CHECK: call @{{.*}}({{.*}}%[[EXP]]
func.func @main(%x: !x, %indices: !indices) -> !y {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %column = "graph.reshape"(%indices) : (!indices) -> tensor<?x1xi64, ["k", "1"]>
  %1 = "graph.map"() ({
    %i = "graph.element"(%column) : (tensor<?x1xi64, ["k", "1"]>) -> i64
    %j = "graph.index"() {axis = 1 : i64} : () -> i64
    %a = "graph.element_at"(%0, %i, %j) : (!x, i64, i64) -> f32
    gpu.yield %a : f32
  }) : () -> !y
  return %1 : !y
}
