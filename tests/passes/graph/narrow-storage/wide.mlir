// RUN: tilewright opt %s --from narrow-storage --precision f16
// Sums over many elements stay f32, and so does what a loop makes of them alone: a sum of squares passes 65504, the
// largest f16, while the activations are harmless.

!x = tensor<?x512xf32, ["n", "512"]>
!line = tensor<?x1xf32, ["n", "1"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[SUM:.*]] = call @row_0(%arg0) {{.*}} -> tensor<?x1xf32
// CHECK: %[[ROOT:.*]] = call @loop_0(%[[SUM]]) {{.*}} -> tensor<?x1xf32
// CHECK: call @loop_1(%arg0, %[[ROOT]])
// CHECK-NOT: f16
func.func @main(%x: !x) -> !x {
  %0 = call @row_0(%x) : (!x) -> !line
  %1 = call @loop_0(%0) : (!line) -> !line
  %2 = call @loop_1(%x, %1) : (!x, !line) -> !x
  return %2 : !x
}
func.func private @row_0(%x: !x) -> !line attributes {graph.kernel = "row", graph.nodes = []} {
  %0 = "graph.reduce"(%x) {kind = "sum", axes = array<i64: 1>} : (!x) -> !line
  return %0 : !line
}
func.func private @loop_0(%x: !line) -> !line attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!line) -> f32
    %b = math.rsqrt %a : f32
    gpu.yield %b : f32
  }) : () -> !line
  return %0 : !line
}
func.func private @loop_1(%x: !x, %scale: !line) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = "graph.element"(%scale) : (!line) -> f32
    %c = arith.mulf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %0 : !x
}

// -----
// A recurrence adds up rounding errors step by step: what goes in and what comes out is f32.

!gates = tensor<?x2x32xf32, ["t", "2", "32"]>
!w = tensor<32x8xf32>
!h = tensor<2x8xf32>
!p = tensor<24xf32>
!y = tensor<?x2x8xf32, ["t", "2", "8"]>

// CHECK-LABEL: func.func @main
// CHECK: call @loop_0
// CHECK: call @recurrent_0
// CHECK: call @loop_1
// CHECK-NOT: f16
func.func @main(%x: !gates, %w: !w, %h: !h, %c: !h, %p: !p) -> !y {
  %0 = call @loop_0(%x) : (!gates) -> !gates
  %1 = call @recurrent_0(%0, %w, %h, %c, %p) : (!gates, !w, !h, !h, !p) -> !y
  %2 = call @loop_1(%1) : (!y) -> !y
  return %2 : !y
}
func.func private @loop_0(%x: !gates) -> !gates attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!gates) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !gates
  return %0 : !gates
}
func.func private @recurrent_0(%x: !gates, %w: !w, %h: !h, %c: !h, %p: !p) -> !y
    attributes {graph.kernel = "recurrent", graph.nodes = []} {
  %0:3 = "graph.lstm"(%x, %w, %h, %c, %p) {reverse = 0 : i64} : (!gates, !w, !h, !h, !p) -> (!y, !h, !h)
  return %0#0 : !y
}
func.func private @loop_1(%x: !y) -> !y attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!y) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !y
  return %0 : !y
}

// -----
// A result that the model returns is f32 for every reader of it.

!x = tensor<?x8xf32, ["n", "8"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[FIRST:.*]] = call @loop_0(%arg0) {{.*}} -> tensor<?x8xf32
// CHECK: %[[SECOND:.*]] = call @loop_0(%[[FIRST]]) {{.*}} -> tensor<?x8xf32
// CHECK: return %[[FIRST]], %[[SECOND]]
func.func @main(%x: !x) -> (!x, !x) {
  %0 = call @loop_0(%x) : (!x) -> !x
  %1 = call @loop_0(%0) : (!x) -> !x
  return %0, %1 : !x, !x
}
func.func private @loop_0(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  return %0 : !x
}

// -----
// Also a result that the model returns by another name.

!x = tensor<?x8xf32, ["n", "8"]>
!flat = tensor<?xf32, ["8*n"]>

// CHECK-LABEL: func.func @main
// CHECK: call @loop_0(%arg0) {{.*}} -> tensor<?x8xf32
// CHECK-NOT: f16
func.func @main(%x: !x) -> (!flat, !x) {
  %0 = call @loop_0(%x) : (!x) -> !x
  %1 = "graph.reshape"(%0) : (!x) -> !flat
  %2 = call @loop_0(%0) : (!x) -> !x
  return %1, %2 : !flat, !x
}
func.func private @loop_0(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  return %0 : !x
}

// -----
// Doubles and integers are what they are; activations that a sum has scaled are narrow again.

!x = tensor<?x512xf32, ["n", "512"]>
!line = tensor<?x1xf32, ["n", "1"]>
!double = tensor<?x512xf64, ["n", "512"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[SUM:.*]] = call @row_0(%arg0) {{.*}} -> tensor<?x1xf32
// CHECK: %[[SCALED:.*]] = call @loop_0(%arg0, %[[SUM]]) {{.*}} -> tensor<?x512xf16
// CHECK: %[[DOUBLE:.*]] = call @loop_1(%[[SCALED]]) {{.*}} -> tensor<?x512xf64
// CHECK: call @loop_2(%[[DOUBLE]])
func.func @main(%x: !x) -> !double {
  %0 = call @row_0(%x) : (!x) -> !line
  %1 = call @loop_0(%x, %0) : (!x, !line) -> !x
  %2 = call @loop_1(%1) : (!x) -> !double
  %3 = call @loop_2(%2) : (!double) -> !double
  return %3 : !double
}
func.func private @row_0(%x: !x) -> !line attributes {graph.kernel = "row", graph.nodes = []} {
  %0 = "graph.reduce"(%x) {kind = "sum", axes = array<i64: 1>} : (!x) -> !line
  return %0 : !line
}
func.func private @loop_0(%x: !x, %scale: !line) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = "graph.element"(%scale) : (!line) -> f32
    %c = arith.divf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %0 : !x
}
func.func private @loop_1(%x: !x) -> !double attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = arith.extf %a : f32 to f64
    gpu.yield %b : f64
  }) : () -> !double
  return %0 : !double
}
func.func private @loop_2(%x: !double) -> !double attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!double) -> f64
    %b = arith.negf %a : f64
    gpu.yield %b : f64
  }) : () -> !double
  return %0 : !double
}

// -----
// What a row makes of each element that it looks up is no statistic, though none of its operands has that size.

!words = tensor<?xi64, ["n"]>
!table = tensor<1000x512xf32>
!x = tensor<?x512xf32, ["n", "512"]>
!line = tensor<?x1xf32, ["n", "1"]>

// CHECK-LABEL: func.func @main
// CHECK: call @row_0(%arg0, %arg1) {{.*}} -> tensor<?x512xf16
// CHECK: call @loop_0
func.func @main(%words: !words, %table: !table) -> !x {
  %0 = call @row_0(%words, %table) : (!words, !table) -> !x
  %1 = call @loop_0(%0) : (!x) -> !x
  return %1 : !x
}
func.func private @row_0(%words: !words, %table: !table) -> !x attributes {graph.kernel = "row", graph.nodes = []} {
  %0 = "graph.map"() ({
    %line = "graph.index"() {axis = 0 : i64} : () -> i64
    %column = "graph.index"() {axis = 1 : i64} : () -> i64
    %word = "graph.element_at"(%words, %line) : (!words, i64) -> i64
    %a = "graph.element_at"(%table, %word, %column) : (!table, i64, i64) -> f32
    gpu.yield %a : f32
  }) : () -> !x
  %1 = "graph.reduce"(%0) {kind = "sum", axes = array<i64: 1>} : (!x) -> !line
  %2 = "graph.map"() ({
    %a = "graph.element"(%0) : (!x) -> f32
    %b = "graph.element"(%1) : (!line) -> f32
    %c = arith.divf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %2 : !x
}
func.func private @loop_0(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  return %0 : !x
}
