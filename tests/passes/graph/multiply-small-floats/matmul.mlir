// RUN: tilewright opt %s --from multiply-small-floats --target sm_90a --precision f16 | FileCheck %s --check-prefix=ROUGH
// RUN: tilewright opt %s --from multiply-small-floats --target sm_89 --precision bf16 | FileCheck %s --check-prefix=ROUGH
// RUN: tilewright opt %s --from multiply-small-floats --target sm_90a --precision strict | FileCheck %s --check-prefix=EXACT
// RUN: tilewright opt %s --from multiply-small-floats --target sm_86 --precision f16 | FileCheck %s --check-prefix=EXACT
// Bytes that both operands decode are multiplied themselves; how they are decoded does not matter (here e5m2 as the upper
// half of a float16). Where sums have to be exact, everything stays.

!x = tensor<?x64xf8E5M2, ["n", "64"]>
!a = tensor<?x64xf32, ["n", "64"]>
!w = tensor<64x32xf8E5M2>
!s = tensor<1x32xf32>
!b = tensor<64x32xf32>
!y = tensor<?x32xf32, ["n", "32"]>

// ROUGH-LABEL: func.func @main
// ROUGH: %[[W:.*]] = "graph.weight"() {handle = "w"}
// ROUGH: %[[S:.*]] = "graph.weight"() {handle = "s"}
// ROUGH-NOT: arith.bitcast
// ROUGH: %[[C:.*]] = "graph.matmul"(%arg0, %[[W]]) {{.*}} -> tensor<?x32xf32, ["n", "32"]>
// ROUGH: %[[SCALES:.*]] = "graph.reshape"(%[[S]])
// ROUGH: "graph.map"() ({
// ROUGH-DAG: %[[TOTAL:.*]] = "graph.element"(%[[C]])
// ROUGH-DAG: %[[SCALE:.*]] = "graph.element"(%[[SCALES]])
// ROUGH: %[[BOTH:.*]] = arith.mulf %[[SCALE]], %cst
// ROUGH: arith.mulf %[[TOTAL]], %[[BOTH]]
// EXACT: graph.matmul{{.*}} : (tensor<?x64xf32
func.func @main(%x: !x) -> !y {
  %w = "graph.weight"() {handle = "w"} : () -> !w
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
  %y = "graph.matmul"(%a, %b) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!a, !b) -> !y
  return %y : !y
}
