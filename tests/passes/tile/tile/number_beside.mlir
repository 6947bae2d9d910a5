// RUN: tilewright opt %s --from tile --target sm_90a --precision f16
// A number without dimensions that a kernel computes for its epilogue: no line, and nothing to look for one in.

// CHECK-LABEL: func.func @dot_0
// CHECK: "tile.dot"
// CHECK: "tile.map"
// CHECK: math.sqrt
func.func @main(%a: tensor<128x64xf16>, %b: tensor<64x128xf16>, %s: tensor<f32>) -> tensor<128x128xf16> {
  %0 = call @dot_0(%a, %b, %s) : (tensor<128x64xf16>, tensor<64x128xf16>, tensor<f32>) -> tensor<128x128xf16>
  return %0 : tensor<128x128xf16>
}
func.func private @dot_0(%a: tensor<128x64xf16>, %b: tensor<64x128xf16>, %s: tensor<f32>) -> tensor<128x128xf16>
    attributes {graph.kernel = "dot", graph.nodes = ["product"]} {
  %0 = "graph.matmul"(%a, %b) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (tensor<128x64xf16>, tensor<64x128xf16>) -> tensor<128x128xf32>
  %1 = "graph.map"() ({
    %2 = "graph.element"(%s) : (tensor<f32>) -> f32
    %3 = math.sqrt %2 : f32
    gpu.yield %3 : f32
  }) : () -> tensor<f32>
  %4 = "graph.map"() ({
    %5 = "graph.element"(%0) : (tensor<128x128xf32>) -> f32
    %6 = "graph.element"(%1) : (tensor<f32>) -> f32
    %7 = arith.mulf %5, %6 : f32
    %8 = arith.truncf %7 : f32 to f16
    gpu.yield %8 : f16
  }) : () -> tensor<128x128xf16>
  return %4 : tensor<128x128xf16>
}
