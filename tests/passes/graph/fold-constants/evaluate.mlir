// RUN: tilewright opt %s --from fold-constants
// What depends on constants only is computed now; small results are written out, larger ones become weights.

// CHECK-LABEL: func.func @main
// CHECK-DAG: %[[SUM:.*]] = "graph.constant"() {value = dense<6.000000e+00>
// CHECK-DAG: %[[WIDE:.*]] = "graph.weight"() {handle = "folded"} : () -> tensor<8x3xf32>
// CHECK: return %[[SUM]], %[[WIDE]]
func.func @main() -> (tensor<1x1xf32>, tensor<8x3xf32>) {
  %c = "graph.constant"() {value = dense<[[1.0, 2.0, 3.0]]> : tensor<1x3xf32>} : () -> tensor<1x3xf32>
  %sum = "graph.reduce"(%c) {kind = "sum", axes = array<i64: 1>} : (tensor<1x3xf32>) -> tensor<1x1xf32>
  %wide = "graph.broadcast"(%c) : (tensor<1x3xf32>) -> tensor<8x3xf32>
  return %sum, %wide : tensor<1x1xf32>, tensor<8x3xf32>
}

// -----
// A weight is turned or reshaped when its bytes are asked for, not now: this module comes without the weight's file.

!turned = tensor<16x8xf32>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[W:.*]] = "graph.weight"() {handle = "w.{{.*}}"} : () -> tensor<2x64xf32>
// CHECK-NEXT: return %[[W]]
func.func @main() -> tensor<2x64xf32> {
  %w = "graph.weight"() {handle = "w"} : () -> tensor<8x16xf32>
  %turned = "graph.transpose"(%w) {permutation = array<i64: 1, 0>} : (tensor<8x16xf32>) -> !turned
  %split = "graph.reshape"(%turned) : (!turned) -> tensor<2x64xf32>
  return %split : tensor<2x64xf32>
}

// -----
// A constant that grows beyond a megabyte is computed at run time: the engine would have to carry it.

!big = tensor<1024x1024xf32>

// CHECK-LABEL: func.func @main
// CHECK: "graph.constant"
// CHECK: "graph.broadcast"
func.func @main() -> !big {
  %c = "graph.constant"() {value = dense<[[1.0], [2.0]]> : tensor<2x1xf32>} : () -> tensor<2x1xf32>
  %rows = "graph.slice"(%c) {starts = ["0", "0"], steps = array<i64: 1, 1>} : (tensor<2x1xf32>) -> tensor<1x1xf32>
  %0 = "graph.broadcast"(%rows) : (tensor<1x1xf32>) -> !big
  return %0 : !big
}

// -----
// A number that stands for all elements of what maps read, such as a mask that hides nothing, moves into their bodies;
// what something else reads, or differs, is a weight.

!x = tensor<8x32xf32>

// CHECK-LABEL: func.func @main
// CHECK: "graph.map"
// CHECK-NEXT: "graph.element"(%arg0)
// CHECK-NEXT: arith.constant 2.500000e+00
// CHECK-NEXT: arith.mulf
// CHECK: "graph.weight"() {{.*}} -> tensor<256xf32>
func.func @main(%x: !x) -> (!x, tensor<256xf32>) {
  %c = "graph.constant"() {value = dense<1.5> : tensor<1x1xf32>} : () -> tensor<1x1xf32>
  %d = "graph.constant"() {value = dense<1.0> : tensor<8x1xf32>} : () -> tensor<8x1xf32>
  %same = "graph.map"() ({
    %a = "graph.element"(%c) : (tensor<1x1xf32>) -> f32
    %b = "graph.element"(%d) : (tensor<8x1xf32>) -> f32
    %s = arith.addf %a, %b : f32
    gpu.yield %s : f32
  }) : () -> !x
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = "graph.element"(%same) : (!x) -> f32
    %s = arith.mulf %a, %b : f32
    gpu.yield %s : f32
  }) : () -> !x
  %other = "graph.map"() ({
    %i = "graph.index"() {axis = 0 : i64} : () -> i64
    %a = "graph.element"(%d) : (tensor<8x1xf32>) -> f32
    %b = arith.sitofp %i : i64 to f32
    %s = arith.addf %a, %b : f32
    gpu.yield %s : f32
  }) : () -> !x
  %flat = "graph.reshape"(%other) : (!x) -> tensor<256xf32>
  return %0, %flat : !x, tensor<256xf32>
}
