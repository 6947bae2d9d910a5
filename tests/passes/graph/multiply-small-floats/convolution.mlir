// RUN: tilewright opt %s --from multiply-small-floats --target sm_90a --precision f16 | FileCheck %s --check-prefix=ROUGH
// RUN: tilewright opt %s --from multiply-small-floats --target sm_86 --precision f16 | FileCheck %s --check-prefix=EXACT
// A convolution of decoded bytes is one of the bytes, and a scale for each output channel is multiplied behind it. One
// of two groups stays as it is.

!x = tensor<?x16x8x8xf8E5M2, ["n", "16", "8", "8"]>
!a = tensor<?x16x8x8xf32, ["n", "16", "8", "8"]>
!w = tensor<4x16x3x3xf8E5M2>
!b = tensor<4x16x3x3xf32>
!v = tensor<4x8x3x3xf8E5M2>
!d = tensor<4x8x3x3xf32>
!s = tensor<4x1x1x1xf32>
!y = tensor<?x4x8x8xf32, ["n", "4", "8", "8"]>

// ROUGH-LABEL: func.func @main
// ROUGH: %[[W:.*]] = "graph.weight"() {handle = "w"}
// ROUGH: %[[S:.*]] = "graph.weight"() {handle = "s"}
// ROUGH: %[[C:.*]] = "graph.convolution"(%arg0, %[[W]]) {{.*}} -> tensor<?x4x8x8xf32, ["n", "4", "8", "8"]>
// ROUGH: %[[SCALES:.*]] = "graph.reshape"(%[[S]]) {{.*}} -> tensor<4x1x1xf32>
// ROUGH: "graph.map"() ({
// ROUGH-DAG: %[[TOTAL:.*]] = "graph.element"(%[[C]])
// ROUGH-DAG: %[[SCALE:.*]] = "graph.element"(%[[SCALES]])
// ROUGH: %[[BOTH:.*]] = arith.mulf %[[SCALE]], %cst
// ROUGH: arith.mulf %[[TOTAL]], %[[BOTH]]
// ROUGH: graph.convolution{{.*}}groups = 2{{.*}} : (tensor<?x16x8x8xf32
// EXACT: graph.convolution{{.*}}groups = 1{{.*}} : (tensor<?x16x8x8xf32
func.func @main(%x: !x) -> (!y, !y) {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %v = "graph.weight"() {handle = "v"} : () -> !v
  %s = "graph.weight"() {handle = "s"} : () -> !s
  %a = "graph.map"() ({
    %0 = "graph.element"(%x) : (!x) -> i8
    %eight = arith.constant 8 : i16
    %1 = arith.extui %0 : i8 to i16
    %2 = arith.shli %1, %eight : i16
    %3 = arith.bitcast %2 : i16 to f16
    %4 = arith.extf %3 : f16 to f32
    %scale = arith.constant 0.25 : f32
    %5 = arith.mulf %4, %scale : f32
    gpu.yield %5 : f32
  }) : () -> !a
  %b = "graph.map"() ({
    %0 = "graph.element"(%w) : (!w) -> i8
    %eight = arith.constant 8 : i16
    %1 = arith.extui %0 : i8 to i16
    %2 = arith.shli %1, %eight : i16
    %3 = arith.bitcast %2 : i16 to f16
    %4 = arith.extf %3 : f16 to f32
    %scale = "graph.element"(%s) : (!s) -> f32
    %5 = arith.mulf %4, %scale : f32
    gpu.yield %5 : f32
  }) : () -> !b
  %d = "graph.map"() ({
    %0 = "graph.element"(%v) : (!v) -> i8
    %eight = arith.constant 8 : i16
    %1 = arith.extui %0 : i8 to i16
    %2 = arith.shli %1, %eight : i16
    %3 = arith.bitcast %2 : i16 to f16
    %4 = arith.extf %3 : f16 to f32
    gpu.yield %4 : f32
  }) : () -> !d
  %0 = "graph.convolution"(%a, %b) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["1", "1", "1", "1"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!a, !b) -> !y
  %1 = "graph.convolution"(%a, %d) {groups = 2 : i64, strides = array<i64: 1, 1>, pads = ["1", "1", "1", "1"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!a, !d) -> !y
  return %0, %1 : !y, !y
}
