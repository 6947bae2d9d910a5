// RUN: tilewright opt %s --from round-quotients
// A quotient that is rounded and clamped comes from multiplications; one that is not clamped stays a division.

!x = tensor<8xf32>
!q = tensor<8xi8>

// CHECK-LABEL: func.func @main
// CHECK: func.func private @loop_0
// CHECK-NOT: arith.divf
// CHECK: %[[LOW:.*]] = arith.minimumf
// CHECK: %[[X:.*]] = arith.maximumf %[[LOW]]
// CHECK: %[[FIRST:.*]] = arith.mulf %[[X]], %[[R:.*]] : f32
// CHECK: %[[REST:.*]] = math.fma %{{.*}}, %[[FIRST]], %[[X]]
// CHECK: %[[SECOND:.*]] = math.fma %[[REST]], %[[R]], %[[FIRST]]
// CHECK: %[[LEFT:.*]] = math.fma %{{.*}}, %[[SECOND]], %[[X]]
// CHECK: %[[Q:.*]] = math.fma %[[LEFT]], %[[R]], %[[SECOND]]
// CHECK: math.roundeven %[[Q]]
// CHECK: func.func private @loop_1
// CHECK: arith.divf
func.func @main(%x: !x) -> (!q, !x) {
  %0 = call @loop_0(%x) : (!x) -> !q
  %1 = call @loop_1(%x) : (!x) -> !x
  return %0, %1 : !q, !x
}
func.func private @loop_0(%x: !x) -> !q attributes {graph.kernel = "loop", graph.nodes = ["quantise"]} {
  %0 = "graph.map"() ({
    %1 = "graph.element"(%x) : (!x) -> f32
    %scale = arith.constant 3.0e-02 : f32
    %2 = arith.divf %1, %scale : f32
    %3 = math.roundeven %2 : f32
    %zero = arith.constant -2.0 : f32
    %4 = arith.addf %3, %zero : f32
    %low = arith.constant -1.28e+02 : f32
    %5 = arith.maximumf %4, %low : f32
    %high = arith.constant 1.27e+02 : f32
    %6 = arith.minimumf %5, %high : f32
    %7 = arith.fptosi %6 : f32 to i32
    %8 = arith.trunci %7 : i32 to i8
    gpu.yield %8 : i8
  }) : () -> !q
  return %0 : !q
}
func.func private @loop_1(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = ["round"]} {
  %0 = "graph.map"() ({
    %1 = "graph.element"(%x) : (!x) -> f32
    %scale = arith.constant 3.0e-02 : f32
    %2 = arith.divf %1, %scale : f32
    %3 = math.roundeven %2 : f32
    gpu.yield %3 : f32
  }) : () -> !x
  return %0 : !x
}
