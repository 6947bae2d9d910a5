// RUN: tilewright opt %s --from join-statistics --precision f16
// A product of 256 columns adds up the lines of its result by parts as wide as its tiles; the kernel of statistics is
// gone, and the product behind it has what that computed in front of its epilogue.

// CHECK-LABEL: func.func @main
// CHECK: %[[MADE:.*]]:3 = call @dot_0(
// CHECK-SAME: -> (tensor<256x256xf16>, tensor<256x[[PARTS:[0-9]+]]xf32>, tensor<256x[[PARTS]]xf32>)
// CHECK-NOT: @row_0
// CHECK: call @dot_1(%[[MADE]]#0, %{{.*}}, %{{.*}}, %{{.*}}, %[[MADE]]#1, %[[MADE]]#2)

// CHECK-LABEL: func.func private @dot_0
// CHECK: %[[LINES:.*]] = "graph.reshape"(%{{.*}}) : (tensor<256x256xf32>) -> tensor<256x[[PARTS]]x{{[0-9]+}}xf32>
// CHECK: %[[SUMS:.*]] = "graph.reduce"(%[[LINES]]) {axes = array<i64: 2>, kind = "sum"}
// CHECK: "graph.element"(%[[LINES]])
// CHECK: "graph.element"(%[[SUMS]])
// CHECK: arith.subf
// CHECK: "graph.reduce"(%{{.*}}) {axes = array<i64: 2>, kind = "sum"}
// CHECK: return %{{.*}}, %{{.*}}, %{{.*}} : tensor<256x256xf16>, tensor<256x[[PARTS]]xf32>

// CHECK-LABEL: func.func private @dot_1
// CHECK: "graph.reduce"(%arg4) {axes = array<i64: 1>, kind = "sum"}
// CHECK: "graph.reduce"(%{{.*}}) {axes = array<i64: 1>, kind = "sum"}
// CHECK: math.sqrt
// CHECK: "graph.matmul"(%arg0, %arg1)
func.func @main(%arg0: tensor<256x64xf16> {graph.name = "xh"}, %arg1: tensor<256x256xf16> {graph.name = "rh"}) -> (tensor<256x192xf32> {graph.name = "y"}) attributes {graph.symbols = []} {
  %0 = "graph.weight"() {handle = "bias"} : () -> tensor<256xf32>
  %1 = "graph.weight"() {handle = "w.f16.1"} : () -> tensor<256x64xf16>
  %2 = "graph.weight"() {handle = "w2.normalised.f16.1"} : () -> tensor<192x256xf16>
  %3 = "graph.weight"() {handle = "w2.shift"} : () -> tensor<192xf32>
  %4 = "graph.weight"() {handle = "w2.offset"} : () -> tensor<192xf32>
  %5 = call @dot_0(%arg0, %1, %0, %arg1) : (tensor<256x64xf16>, tensor<256x64xf16>, tensor<256xf32>, tensor<256x256xf16>) -> tensor<256x256xf16>
  %6:2 = call @row_0(%5) : (tensor<256x256xf16>) -> (tensor<256x1xf32>, tensor<256x1xf32>)
  %7 = call @dot_1(%5, %2, %6#1, %6#0, %3, %4) : (tensor<256x256xf16>, tensor<192x256xf16>, tensor<256x1xf32>, tensor<256x1xf32>, tensor<192xf32>, tensor<192xf32>) -> tensor<256x192xf32>
  return %7 : tensor<256x192xf32>
}
func.func private @dot_0(%arg0: tensor<256x64xf16>, %arg1: tensor<256x64xf16>, %arg2: tensor<256xf32>, %arg3: tensor<256x256xf16>) -> tensor<256x256xf16> attributes {graph.kernel = "dot"} {
  %0 = "graph.matmul"(%arg0, %arg1) {transpose_left = 0 : i64, transpose_right = 1 : i64} : (tensor<256x64xf16>, tensor<256x64xf16>) -> tensor<256x256xf32>
  %1 = "graph.map"() ({
    %4 = "graph.element"(%0) : (tensor<256x256xf32>) -> f32
    %5 = "graph.element"(%arg2) : (tensor<256xf32>) -> f32
    %6 = arith.addf %4, %5 : f32
    gpu.yield %6 : f32
  }) : () -> tensor<256x256xf32>
  %2 = "graph.map"() ({
    %4 = "graph.element"(%1) : (tensor<256x256xf32>) -> f32
    %5 = "graph.element"(%arg3) : (tensor<256x256xf16>) -> f16
    %6 = arith.extf %5 : f16 to f32
    %7 = arith.addf %4, %6 : f32
    gpu.yield %7 : f32
  }) : () -> tensor<256x256xf32>
  %3 = "graph.map"() ({
    %4 = "graph.element"(%2) : (tensor<256x256xf32>) -> f32
    %5 = arith.truncf %4 : f32 to f16
    gpu.yield %5 : f16
  }) : () -> tensor<256x256xf16>
  return %3 : tensor<256x256xf16>
}
func.func private @row_0(%arg0: tensor<256x256xf16>) -> (tensor<256x1xf32>, tensor<256x1xf32>) attributes {graph.kernel = "row"} {
  %0 = "graph.map"() ({
    %6 = "graph.element"(%arg0) : (tensor<256x256xf16>) -> f16
    %7 = arith.extf %6 : f16 to f32
    gpu.yield %7 : f32
  }) : () -> tensor<256x256xf32>
  %1 = "graph.reduce"(%0) {axes = array<i64: 1>, kind = "sum"} : (tensor<256x256xf32>) -> tensor<256x1xf32>
  %2 = "graph.map"() ({
    %6 = "graph.element"(%1) : (tensor<256x1xf32>) -> f32
    %cst = arith.constant 2.560000e+02 : f32
    %7 = arith.divf %6, %cst : f32
    gpu.yield %7 : f32
  }) : () -> tensor<256x1xf32>
  %3 = "graph.map"() ({
    %6 = "graph.element"(%2) : (tensor<256x1xf32>) -> f32
    %7 = "graph.element"(%0) : (tensor<256x256xf32>) -> f32
    %8 = arith.subf %7, %6 : f32
    %9 = arith.mulf %8, %8 : f32
    gpu.yield %9 : f32
  }) : () -> tensor<256x256xf32>
  %4 = "graph.reduce"(%3) {axes = array<i64: 1>, kind = "sum"} : (tensor<256x256xf32>) -> tensor<256x1xf32>
  %5 = "graph.map"() ({
    %6 = "graph.element"(%4) : (tensor<256x1xf32>) -> f32
    %cst = arith.constant 2.560000e+02 : f32
    %7 = arith.divf %6, %cst : f32
    %cst_0 = arith.constant 1.000000e-03 : f32
    %8 = arith.addf %7, %cst_0 : f32
    %9 = math.sqrt %8 : f32
    %cst_1 = arith.constant 1.000000e+00 : f32
    %10 = arith.divf %cst_1, %9 : f32
    gpu.yield %10 : f32
  }) : () -> tensor<256x1xf32>
  return %2, %5 : tensor<256x1xf32>, tensor<256x1xf32>
}
func.func private @dot_1(%arg0: tensor<256x256xf16>, %arg1: tensor<192x256xf16>, %arg2: tensor<256x1xf32>, %arg3: tensor<256x1xf32>, %arg4: tensor<192xf32>, %arg5: tensor<192xf32>) -> tensor<256x192xf32> attributes {graph.kernel = "dot"} {
  %0 = "graph.matmul"(%arg0, %arg1) {transpose_left = 0 : i64, transpose_right = 1 : i64} : (tensor<256x256xf16>, tensor<192x256xf16>) -> tensor<256x192xf32>
  %1 = "graph.map"() ({
    %2 = "graph.element"(%0) : (tensor<256x192xf32>) -> f32
    %3 = "graph.element"(%arg2) : (tensor<256x1xf32>) -> f32
    %4 = "graph.element"(%arg3) : (tensor<256x1xf32>) -> f32
    %5 = "graph.element"(%arg4) : (tensor<192xf32>) -> f32
    %6 = "graph.element"(%arg5) : (tensor<192xf32>) -> f32
    %7 = arith.mulf %4, %5 : f32
    %8 = arith.addf %2, %7 : f32
    %9 = arith.mulf %3, %8 : f32
    %10 = arith.addf %6, %9 : f32
    gpu.yield %10 : f32
  }) : () -> tensor<256x192xf32>
  return %1 : tensor<256x192xf32>
}
