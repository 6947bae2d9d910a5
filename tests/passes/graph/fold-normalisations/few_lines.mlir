// RUN: tilewright opt %s --from fold-normalisations --precision f16 --target sm_80
// RUN: tilewright opt %s --from fold-normalisations --precision f16
// Two lines, as in decoding: their products are bound by weights, and compute mean and scale themselves, on any target.

!x = tensor<2x256xf32>
!line = tensor<2x1xf32>
!w = tensor<256x256xf32>
!y = tensor<2x256xf32>

// CHECK-LABEL: func.func @main
// CHECK: %[[X:.*]] = "graph.map"() ({
// CHECK: %[[SUM:.*]] = "graph.reduce"(%[[X]])
// CHECK: %[[MEAN:.*]] = "graph.map"() ({
// CHECK: arith.divf
// CHECK: "graph.reduce"
// CHECK: %[[SCALE:.*]] = "graph.map"() ({
// CHECK: math.rsqrt
// CHECK: %[[W:.*]] = "graph.weight"() {handle = "w.normalised"}
// CHECK: %[[SUMS:.*]] = "graph.matmul"(%[[X]], %[[W]])
// CHECK: %[[S:.*]] = "graph.weight"() {handle = "w.shift"} : () -> tensor<256xf32>
// CHECK: %[[B:.*]] = "graph.weight"() {handle = "w.offset"} : () -> tensor<256xf32>
// CHECK: "graph.map"() ({
// CHECK: "graph.element"(%[[SUMS]])
// CHECK: "graph.element"(%[[SCALE]])
// CHECK: "graph.element"(%[[MEAN]])
// CHECK: "graph.element"(%[[S]])
// CHECK: "graph.element"(%[[B]])
func.func @main(%given: !x) -> !y {
  %x = "graph.map"() ({
    %a = "graph.element"(%given) : (!x) -> f32
    %b = arith.addf %a, %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %gamma = "graph.weight"() {handle = "gamma"} : () -> tensor<256xf32>
  %beta = "graph.weight"() {handle = "beta"} : () -> tensor<256xf32>
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %bias = "graph.weight"() {handle = "bias"} : () -> tensor<256xf32>
  %0 = "graph.reduce"(%x) {axes = array<i64: 1>, kind = "sum"} : (!x) -> !line
  %mean = "graph.map"() ({
    %a = "graph.element"(%0) : (!line) -> f32
    %c = arith.constant 256.0 : f32
    %d = arith.divf %a, %c : f32
    gpu.yield %d : f32
  }) : () -> !line
  %centred = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = "graph.element"(%mean) : (!line) -> f32
    %c = arith.subf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  %squared = "graph.map"() ({
    %a = "graph.element"(%centred) : (!x) -> f32
    %b = arith.mulf %a, %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %1 = "graph.reduce"(%squared) {axes = array<i64: 1>, kind = "sum"} : (!x) -> !line
  %scale = "graph.map"() ({
    %a = "graph.element"(%1) : (!line) -> f32
    %c = math.rsqrt %a : f32
    gpu.yield %c : f32
  }) : () -> !line
  %normal = "graph.map"() ({
    %a = "graph.element"(%centred) : (!x) -> f32
    %b = "graph.element"(%scale) : (!line) -> f32
    %c = arith.mulf %a, %b : f32
    %d = "graph.element"(%gamma) : (tensor<256xf32>) -> f32
    %e = arith.mulf %c, %d : f32
    %f = "graph.element"(%beta) : (tensor<256xf32>) -> f32
    %g = arith.addf %e, %f : f32
    gpu.yield %g : f32
  }) : () -> !x
  %2 = "graph.matmul"(%normal, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !y
  %y = "graph.map"() ({
    %a = "graph.element"(%2) : (!y) -> f32
    %b = "graph.element"(%bias) : (tensor<256xf32>) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !y
  return %y : !y
}
