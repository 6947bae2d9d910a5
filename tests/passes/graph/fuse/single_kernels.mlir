// RUN: tilewright opt %s --from fuse
// Scans have a program of their own, and compute what only they read while reading it.

!x = tensor<?x32xf32, ["n", "32"]>

// CHECK-LABEL: func.func @main
// CHECK: call @scan_0(%arg0)
// CHECK-NOT: call
// CHECK: @scan_0
// CHECK-SAME: graph.kernel = "scan"
// CHECK: math.exp
// CHECK: graph.scan
func.func @main(%x: !x) -> !x {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %1 = "graph.scan"(%0) {kind = "sum", axis = 1 : i64, exclusive = 0 : i64, reverse = 0 : i64} : (!x) -> !x
  return %1 : !x
}

// -----
// A recurrence is one launch for all its steps; neither the maps before nor those after it join.

!gates = tensor<?x2x32xf32, ["t", "2", "32"]>
!w = tensor<32x8xf32>
!h = tensor<2x8xf32>
!p = tensor<24xf32>
!y = tensor<?x2x8xf32, ["t", "2", "8"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[GATES:.*]] = call @loop_{{.}}(%arg0)
// CHECK-NEXT: %[[Y:.*]] = call @recurrent_0(%[[GATES]], %arg1, %arg2, %arg3, %arg4)
// CHECK-NEXT: call @loop_{{.}}(%[[Y]])
func.func @main(%x: !gates, %w: !w, %h: !h, %c: !h, %p: !p) -> !y {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!gates) -> f32
    %b = arith.addf %a, %a : f32
    gpu.yield %b : f32
  }) : () -> !gates
  %1:3 = "graph.lstm"(%0, %w, %h, %c, %p) {reverse = 0 : i64} : (!gates, !w, !h, !h, !p) -> (!y, !h, !h)
  %2 = "graph.map"() ({
    %a = "graph.element"(%1#0) : (!y) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !y
  return %2 : !y
}
