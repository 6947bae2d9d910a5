// RUN: tilewright opt %s --from fuse
// A softmax is one kernel: two reductions over one axis of one shape and the maps before, between and after them.

!x = tensor<?x32xf32, ["n", "32"]>
!line = tensor<?x1xf32, ["n", "1"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = call @row_0(%arg0)
// CHECK-NEXT: return %[[Y]]
// CHECK: @row_0
// CHECK-SAME: graph.kernel = "row"
// CHECK: arith.mulf
// CHECK: kind = "max"
// CHECK: math.exp
// CHECK: kind = "sum"
// CHECK: arith.divf
func.func @main(%x: !x) -> !x {
  %scaled = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = arith.mulf %a, %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %top = "graph.reduce"(%scaled) {kind = "max", axes = array<i64: 1>} : (!x) -> !line
  %power = "graph.map"() ({
    %a = "graph.element"(%scaled) : (!x) -> f32
    %b = "graph.element"(%top) : (!line) -> f32
    %c = arith.subf %a, %b : f32
    %d = math.exp %c : f32
    gpu.yield %d : f32
  }) : () -> !x
  %sum = "graph.reduce"(%power) {kind = "sum", axes = array<i64: 1>} : (!x) -> !line
  %y = "graph.map"() ({
    %a = "graph.element"(%power) : (!x) -> f32
    %b = "graph.element"(%sum) : (!line) -> f32
    %c = arith.divf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %y : !x
}

// -----
// Reductions over different axes are different kernels, though they read the same tensor.

!x = tensor<?x32xf32, ["n", "32"]>
!line = tensor<?x1xf32, ["n", "1"]>
!column = tensor<1x32xf32>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: call @row_0(%arg0)
// CHECK-NEXT: call @row_1(%arg0)
// CHECK-NEXT: return
func.func @main(%x: !x) -> (!line, !column) {
  %0 = "graph.reduce"(%x) {kind = "sum", axes = array<i64: 1>} : (!x) -> !line
  %1 = "graph.reduce"(%x) {kind = "sum", axes = array<i64: 0>} : (!x) -> !column
  return %0, %1 : !line, !column
}

// -----
// A residual is added and normalised in one pass, and the sum is a second result for those who read it later.

!x = tensor<?x32xf32, ["n", "32"]>
!line = tensor<?x1xf32, ["n", "1"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[BOTH:.*]]:2 = call @row_0(%arg0, %arg1)
// CHECK-NEXT: return
func.func @main(%x: !x, %residual: !x) -> (!x, !x) {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = "graph.element"(%residual) : (!x) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  %sum = "graph.reduce"(%0) {kind = "sum", axes = array<i64: 1>} : (!x) -> !line
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!x) -> f32
    %b = "graph.element"(%sum) : (!line) -> f32
    %c = arith.subf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %0, %1 : !x, !x
}

// -----
// A row reads through a transpose that nothing else needs.

!x = tensor<32x?xf32, ["32", "n"]>
!turned = tensor<?x32xf32, ["n", "32"]>
!line = tensor<?x1xf32, ["n", "1"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: call @row_0(%arg0)
// CHECK-NEXT: return
// CHECK: @row_0
// CHECK: graph.transpose
// CHECK: graph.reduce
func.func @main(%x: !x) -> !line {
  %0 = "graph.transpose"(%x) {permutation = array<i64: 1, 0>} : (!x) -> !turned
  %1 = "graph.reduce"(%0) {kind = "sum", axes = array<i64: 1>} : (!turned) -> !line
  return %1 : !line
}

// -----
// Not through one that is stored anyway.

!x = tensor<32x?xf32, ["32", "n"]>
!turned = tensor<?x32xf32, ["n", "32"]>
!line = tensor<?x1xf32, ["n", "1"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[TURNED:.*]] = call @loop_0(%arg0)
// CHECK-NEXT: %[[SUM:.*]] = call @row_0(%[[TURNED]])
// CHECK-NEXT: return %[[SUM]], %[[TURNED]]
func.func @main(%x: !x) -> (!line, !turned) {
  %0 = "graph.transpose"(%x) {permutation = array<i64: 1, 0>} : (!x) -> !turned
  %1 = "graph.reduce"(%0) {kind = "sum", axes = array<i64: 1>} : (!turned) -> !line
  return %1, %0 : !line, !turned
}

// -----
// A map that gathers from the row's result needs all of it: another kernel.

!x = tensor<?x32xf32, ["n", "32"]>
!line = tensor<?x1xf32, ["n", "1"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[SUM:.*]] = call @row_0(%arg0)
// CHECK-NEXT: call @loop_0(%[[SUM]])
func.func @main(%x: !x) -> !line {
  %0 = "graph.reduce"(%x) {kind = "sum", axes = array<i64: 1>} : (!x) -> !line
  %1 = "graph.map"() ({
    %zero = arith.constant 0 : i64
    %a = "graph.element_at"(%0, %zero, %zero) : (!line, i64, i64) -> f32
    gpu.yield %a : f32
  }) : () -> !line
  return %1 : !line
}

// -----
// A map leads from one reduction to another over the other axis: it ends the first kernel.

!x = tensor<?x32xf32, ["n", "32"]>
!line = tensor<?x1xf32, ["n", "1"]>
!column = tensor<1x32xf32>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[CENTRED:.*]] = call @row_0(%arg0) {{.*}} -> tensor<?x32xf32
// CHECK-NEXT: call @row_1(%[[CENTRED]])
// CHECK-NEXT: return
func.func @main(%x: !x) -> !column {
  %0 = "graph.reduce"(%x) {kind = "sum", axes = array<i64: 1>} : (!x) -> !line
  %1 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = "graph.element"(%0) : (!line) -> f32
    %c = arith.subf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  %2 = "graph.reduce"(%1) {kind = "sum", axes = array<i64: 0>} : (!x) -> !column
  return %2 : !column
}

// -----
// Lines of another length are another kernel; what adds up both sums is in one of them.

!x = tensor<?x32xf32, ["n", "32"]>
!y = tensor<?x64xf32, ["n", "64"]>
!line = tensor<?x1xf32, ["n", "1"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[SUM:.*]] = call @row_{{[01]}}
// CHECK-NEXT: call @row_{{[01]}}({{.*}}%[[SUM]]
// CHECK-NEXT: return
func.func @main(%x: !x, %y: !y) -> !line {
  %0 = "graph.reduce"(%x) {kind = "sum", axes = array<i64: 1>} : (!x) -> !line
  %1 = "graph.reduce"(%y) {kind = "sum", axes = array<i64: 1>} : (!y) -> !line
  %2 = "graph.map"() ({
    %a = "graph.element"(%0) : (!line) -> f32
    %b = "graph.element"(%1) : (!line) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !line
  return %2 : !line
}

// -----
// A map that stretches the sums to a third shape is a loop.

!x = tensor<?x32xf32, ["n", "32"]>
!line = tensor<?x1xf32, ["n", "1"]>
!wide = tensor<?x8xf32, ["n", "8"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[SUM:.*]] = call @row_0(%arg0)
// CHECK-NEXT: call @loop_0({{.*}}%[[SUM]]
func.func @main(%x: !x, %wide: !wide) -> !wide {
  %0 = "graph.reduce"(%x) {kind = "sum", axes = array<i64: 1>} : (!x) -> !line
  %1 = "graph.map"() ({
    %a = "graph.element"(%wide) : (!wide) -> f32
    %b = "graph.element"(%0) : (!line) -> f32
    %c = arith.mulf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !wide
  return %1 : !wide
}
