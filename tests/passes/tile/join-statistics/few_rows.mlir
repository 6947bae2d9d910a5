// RUN: tilewright opt %s --from join-statistics --precision f16
// RUN: tilewright opt %s --from join-statistics --precision f16 --target sm_80
// A product of two rows has the whole of them in every block: it computes the mean and the scale of each itself.

// CHECK-LABEL: func.func @main
// CHECK-NOT: @row_0
// CHECK: call @dot_1(%arg0, %{{.*}}, %{{.*}}, %{{.*}}) : (tensor<2x256xf16>, tensor<512x256xf16>, tensor<512xf32>, tensor<512xf32>)

// CHECK-LABEL: func.func private @dot_1
// CHECK: arith.extf
// CHECK: %[[SUM:.*]] = "graph.reduce"(%{{.*}}) {axes = array<i64: 1>, kind = "sum"} : (tensor<2x256xf32>)
// CHECK: arith.subf
// CHECK: "graph.reduce"(%{{.*}}) {axes = array<i64: 1>, kind = "sum"} : (tensor<2x256xf32>)
// CHECK: math.sqrt
// CHECK: "graph.matmul"(%arg0, %arg1)
func.func @main(%arg0: tensor<2x256xf16> {graph.name = "x"}) -> (tensor<2x512xf32> {graph.name = "y"}) attributes {graph.symbols = []} {
  %0 = "graph.weight"() {handle = "w"} : () -> tensor<512x256xf16>
  %1 = "graph.weight"() {handle = "w.shift"} : () -> tensor<512xf32>
  %2 = "graph.weight"() {handle = "w.offset"} : () -> tensor<512xf32>
  %3:2 = call @row_0(%arg0) : (tensor<2x256xf16>) -> (tensor<2x1xf32>, tensor<2x1xf32>)
  %4 = call @dot_1(%arg0, %0, %3#1, %3#0, %1, %2) : (tensor<2x256xf16>, tensor<512x256xf16>, tensor<2x1xf32>, tensor<2x1xf32>, tensor<512xf32>, tensor<512xf32>) -> tensor<2x512xf32>
  return %4 : tensor<2x512xf32>
}
func.func private @row_0(%arg0: tensor<2x256xf16>) -> (tensor<2x1xf32>, tensor<2x1xf32>) attributes {graph.kernel = "row"} {
  %0 = "graph.map"() ({
    %6 = "graph.element"(%arg0) : (tensor<2x256xf16>) -> f16
    %7 = arith.extf %6 : f16 to f32
    gpu.yield %7 : f32
  }) : () -> tensor<2x256xf32>
  %1 = "graph.reduce"(%0) {axes = array<i64: 1>, kind = "sum"} : (tensor<2x256xf32>) -> tensor<2x1xf32>
  %2 = "graph.map"() ({
    %6 = "graph.element"(%1) : (tensor<2x1xf32>) -> f32
    %cst = arith.constant 2.560000e+02 : f32
    %7 = arith.divf %6, %cst : f32
    gpu.yield %7 : f32
  }) : () -> tensor<2x1xf32>
  %3 = "graph.map"() ({
    %6 = "graph.element"(%2) : (tensor<2x1xf32>) -> f32
    %7 = "graph.element"(%0) : (tensor<2x256xf32>) -> f32
    %8 = arith.subf %7, %6 : f32
    %9 = arith.mulf %8, %8 : f32
    gpu.yield %9 : f32
  }) : () -> tensor<2x256xf32>
  %4 = "graph.reduce"(%3) {axes = array<i64: 1>, kind = "sum"} : (tensor<2x256xf32>) -> tensor<2x1xf32>
  %5 = "graph.map"() ({
    %6 = "graph.element"(%4) : (tensor<2x1xf32>) -> f32
    %cst = arith.constant 2.560000e+02 : f32
    %7 = arith.divf %6, %cst : f32
    %cst_0 = arith.constant 1.000000e-03 : f32
    %8 = arith.addf %7, %cst_0 : f32
    %9 = math.sqrt %8 : f32
    %cst_1 = arith.constant 1.000000e+00 : f32
    %10 = arith.divf %cst_1, %9 : f32
    gpu.yield %10 : f32
  }) : () -> tensor<2x1xf32>
  return %2, %5 : tensor<2x1xf32>, tensor<2x1xf32>
}
func.func private @dot_1(%arg0: tensor<2x256xf16>, %arg1: tensor<512x256xf16>, %arg2: tensor<2x1xf32>, %arg3: tensor<2x1xf32>, %arg4: tensor<512xf32>, %arg5: tensor<512xf32>) -> tensor<2x512xf32> attributes {graph.kernel = "dot"} {
  %0 = "graph.matmul"(%arg0, %arg1) {transpose_left = 0 : i64, transpose_right = 1 : i64} : (tensor<2x256xf16>, tensor<512x256xf16>) -> tensor<2x512xf32>
  %1 = "graph.map"() ({
    %2 = "graph.element"(%0) : (tensor<2x512xf32>) -> f32
    %3 = "graph.element"(%arg2) : (tensor<2x1xf32>) -> f32
    %4 = "graph.element"(%arg3) : (tensor<2x1xf32>) -> f32
    %5 = "graph.element"(%arg4) : (tensor<512xf32>) -> f32
    %6 = "graph.element"(%arg5) : (tensor<512xf32>) -> f32
    %7 = arith.mulf %4, %5 : f32
    %8 = arith.addf %2, %7 : f32
    %9 = arith.mulf %3, %8 : f32
    %10 = arith.addf %6, %9 : f32
    gpu.yield %10 : f32
  }) : () -> tensor<2x512xf32>
  return %1 : tensor<2x512xf32>
}
