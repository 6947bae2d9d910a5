// RUN: tilewright opt %s --from fold-normalisations --precision model | FileCheck %s --check-prefix=MODEL
// RUN: tilewright opt %s --from fold-normalisations --precision strict | FileCheck %s --check-prefix=STRICT
// A model in f16 that normalises in f32: the product reads the tensor as it is stored. One that keeps the tensor in f32
// beside such products has a reason to.

// MODEL: "graph.matmul"(%arg0, %{{.*}}) {{.*}} : (tensor<64x128xf16>, tensor<128x256xf16>) -> tensor<64x256xf32>
// MODEL: "graph.matmul"(%{{[0-9]+}}, %{{.*}}) {{.*}} : (tensor<64x128xf16>, tensor<128x256xf16>) -> tensor<64x256xf16>
// STRICT-COUNT-2: -> tensor<64x256xf16>
func.func @main(%x: tensor<64x128xf16>, %y: tensor<64x128xf32>) -> (tensor<64x256xf16>, tensor<64x256xf16>) {
  %w = "graph.weight"() {handle = "w"} : () -> tensor<128x256xf16>
  %v = "graph.weight"() {handle = "v"} : () -> tensor<128x256xf16>
  %gamma = "graph.weight"() {handle = "gamma"} : () -> tensor<128xf32>
  %wide = "graph.map"() ({
    %a = "graph.element"(%x) : (tensor<64x128xf16>) -> f16
    %b = arith.extf %a : f16 to f32
    gpu.yield %b : f32
  }) : () -> tensor<64x128xf32>
  %squared = "graph.map"() ({
    %a = "graph.element"(%wide) : (tensor<64x128xf32>) -> f32
    %b = arith.mulf %a, %a : f32
    gpu.yield %b : f32
  }) : () -> tensor<64x128xf32>
  %sum = "graph.reduce"(%squared) {axes = array<i64: 1>, kind = "sum"} : (tensor<64x128xf32>) -> tensor<64x1xf32>
  %scale = "graph.map"() ({
    %a = "graph.element"(%sum) : (tensor<64x1xf32>) -> f32
    %c = math.rsqrt %a : f32
    gpu.yield %c : f32
  }) : () -> tensor<64x1xf32>
  %first = "graph.map"() ({
    %a = "graph.element"(%wide) : (tensor<64x128xf32>) -> f32
    %b = "graph.element"(%scale) : (tensor<64x1xf32>) -> f32
    %c = arith.mulf %a, %b : f32
    %d = "graph.element"(%gamma) : (tensor<128xf32>) -> f32
    %e = arith.mulf %c, %d : f32
    %f = arith.truncf %e : f32 to f16
    gpu.yield %f : f16
  }) : () -> tensor<64x128xf16>
  %second = "graph.map"() ({
    %a = "graph.element"(%y) : (tensor<64x128xf32>) -> f32
    %b = "graph.element"(%scale) : (tensor<64x1xf32>) -> f32
    %c = arith.mulf %a, %b : f32
    %f = arith.truncf %c : f32 to f16
    gpu.yield %f : f16
  }) : () -> tensor<64x128xf16>
  %0 = "graph.matmul"(%first, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (tensor<64x128xf16>, tensor<128x256xf16>) -> tensor<64x256xf16>
  %1 = "graph.matmul"(%second, %v) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (tensor<64x128xf16>, tensor<128x256xf16>) -> tensor<64x256xf16>
  return %0, %1 : tensor<64x256xf16>, tensor<64x256xf16>
}
