// RUN: tilewright opt %s --from round-quotients
// A quotient that is rounded and clamped comes from multiplications and the bits of a sum; back to a float it is that
// sum again. One that is not clamped stays a division.

!x = tensor<8xf32>
!q = tensor<8xi8>

// CHECK-LABEL: func.func @main
// CHECK: func.func private @loop_0
// CHECK-NOT: arith.divf
// CHECK: %[[LOW:.*]] = arith.maxnumf
// CHECK: %[[X:.*]] = arith.minnumf %[[LOW]]
// CHECK: %[[FIRST:.*]] = arith.mulf %[[X]], %[[R:.*]] : f32
// CHECK: %[[REST:.*]] = math.fma %{{.*}}, %[[FIRST]], %[[X]]
// CHECK: %[[SECOND:.*]] = math.fma %[[REST]], %[[R]], %[[FIRST]]
// CHECK: %[[SUM:.*]] = arith.addf %[[SECOND]], %[[ROUNDER:.*]] : f32
// CHECK-NOT: arith.fptosi
// CHECK: %[[BITS:.*]] = arith.bitcast %[[SUM]] : f32 to i32
// CHECK: %[[NUMBER:.*]] = arith.subi %[[BITS]], %{{.*}} : i32
// CHECK: %[[BYTE:.*]] = arith.trunci %[[NUMBER]] : i32 to i8
// CHECK: graph.map
// CHECK: %[[AGAIN:.*]] = arith.addf %{{.*}}, %[[ROUNDER_2:.*]] : f32
// CHECK-NEXT: %[[WHOLE:.*]] = arith.subf %[[AGAIN]], %[[ROUNDER_2]] : f32
// CHECK-NEXT: arith.mulf %[[WHOLE]], %{{.*}} : f32
// CHECK: func.func private @loop_1
// CHECK: arith.divf
func.func @main(%x: !x) -> (!q, !x, !x) {
  %0:2 = call @loop_0(%x) : (!x) -> (!q, !x)
  %1 = call @loop_1(%x) : (!x) -> !x
  return %0#0, %0#1, %1 : !q, !x, !x
}
func.func private @loop_0(%x: !x) -> (!q, !x) attributes {graph.kernel = "loop", graph.nodes = ["quantise"]} {
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
  %9 = "graph.map"() ({
    %1 = "graph.element"(%x) : (!x) -> f32
    %scale = arith.constant 3.0e-02 : f32
    %2 = arith.divf %1, %scale : f32
    %3 = math.roundeven %2 : f32
    %zero = arith.constant 5.0 : f32
    %4 = arith.addf %3, %zero : f32
    %low = arith.constant 0.0 : f32
    %5 = arith.maximumf %4, %low : f32
    %high = arith.constant 2.55e+02 : f32
    %6 = arith.minimumf %5, %high : f32
    %7 = arith.fptosi %6 : f32 to i32
    %8 = arith.trunci %7 : i32 to i8
    %9 = arith.extui %8 : i8 to i32
    %offset = arith.constant 5 : i32
    %10 = arith.subi %9, %offset : i32
    %11 = arith.sitofp %10 : i32 to f32
    %12 = arith.mulf %11, %scale : f32
    gpu.yield %12 : f32
  }) : () -> !x
  return %0, %9 : !q, !x
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
