// RUN: tilewright opt %s --from multiply-integers
// A dequantised activation times a dequantised weight with a scale for each column: the integers are multiplied, and one
// map takes away what the activation's zero point adds and multiplies by both scales.

!x = tensor<?x64xui8, ["n", "64"]>
!a = tensor<?x64xf32, ["n", "64"]>
!w = tensor<64x32xi8>
!s = tensor<1x32xf32>
!b = tensor<64x32xf32>
!y = tensor<?x32xf32, ["n", "32"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[W:.*]] = "graph.weight"() {handle = "w"}
// CHECK: %[[S:.*]] = "graph.weight"() {handle = "s"}
// CHECK: %[[C:.*]] = "graph.matmul"(%arg0, %[[W]]) {{.*}} -> tensor<?x32xi32, ["n", "32"]>
// CHECK: %[[WIDE:.*]] = "graph.map"() ({
// CHECK: arith.extsi
// CHECK: %[[SUMS:.*]] = "graph.reduce"(%[[WIDE]]) {axes = array<i64: 0>, kind = "sum"} : {{.*}} -> tensor<1x32xi32>
// CHECK: "graph.map"() ({
// CHECK-DAG: %[[TOTAL:.*]] = "graph.element"(%[[C]])
// CHECK-DAG: %[[SUM:.*]] = "graph.element"(%[[SUMS]])
// CHECK: %[[ADDED:.*]] = arith.muli %[[SUM]], %c3_i32
// CHECK: %[[EXACT:.*]] = arith.subi %[[TOTAL]], %[[ADDED]]
// CHECK: %[[REAL:.*]] = arith.sitofp %[[EXACT]]
// CHECK: arith.mulf %[[REAL]],
// CHECK-NOT: graph.map
func.func @main(%x: !x) -> !y {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %s = "graph.weight"() {handle = "s"} : () -> !s
  %a = "graph.map"() ({
    %0 = "graph.element"(%x) : (!x) -> i8
    %1 = arith.extui %0 : i8 to i32
    %zero = arith.constant 3 : i32
    %2 = arith.subi %1, %zero : i32
    %3 = arith.sitofp %2 : i32 to f32
    %scale = arith.constant 2.0e-02 : f32
    %4 = arith.mulf %3, %scale : f32
    gpu.yield %4 : f32
  }) : () -> !a
  %b = "graph.map"() ({
    %0 = "graph.element"(%w) : (!w) -> i8
    %1 = "graph.element"(%s) : (!s) -> f32
    %2 = arith.extsi %0 : i8 to i32
    %3 = arith.sitofp %2 : i32 to f32
    %4 = arith.mulf %3, %1 : f32
    gpu.yield %4 : f32
  }) : () -> !b
  %y = "graph.matmul"(%a, %b) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!a, !b) -> !y
  return %y : !y
}

// -----
// A scale for each row of k is no factor of the sums: the product stays one of floats.

!x = tensor<8x64xi8>
!a = tensor<8x64xf32>
!w = tensor<64x32xi8>
!s = tensor<64x1xf32>
!b = tensor<64x32xf32>
!y = tensor<8x32xf32>

// CHECK-LABEL: func.func @main
// CHECK: "graph.matmul"(%{{.*}}, %{{.*}}) {{.*}} : (tensor<8x64xf32>, tensor<64x32xf32>) -> tensor<8x32xf32>
func.func @main(%x: !x) -> !y {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %s = "graph.weight"() {handle = "s"} : () -> !s
  %a = "graph.map"() ({
    %0 = "graph.element"(%x) : (!x) -> i8
    %1 = arith.extsi %0 : i8 to i32
    %2 = arith.sitofp %1 : i32 to f32
    %scale = arith.constant 2.0e-02 : f32
    %3 = arith.mulf %2, %scale : f32
    gpu.yield %3 : f32
  }) : () -> !a
  %b = "graph.map"() ({
    %0 = "graph.element"(%w) : (!w) -> i8
    %1 = "graph.element"(%s) : (!s) -> f32
    %2 = arith.extsi %0 : i8 to i32
    %3 = arith.sitofp %2 : i32 to f32
    %4 = arith.mulf %3, %1 : f32
    gpu.yield %4 : f32
  }) : () -> !b
  %y = "graph.matmul"(%a, %b) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!a, !b) -> !y
  return %y : !y
}

// -----
// Integer forms (MatMulInteger, ConvInteger) have no scales; a convolution whose zero point is 0 needs no correction.

!x = tensor<1x16x8x8xui8>
!a = tensor<1x16x8x8xi32>
!w = tensor<8x16x3x3xi8>
!b = tensor<8x16x3x3xi32>
!y = tensor<1x8x8x8xi32>

// CHECK-LABEL: func.func @main
// CHECK: %[[C:.*]] = "graph.convolution"(%arg0, %0) {{.*}} : (tensor<1x16x8x8xui8>, tensor<8x16x3x3xi8>)
// CHECK: return %[[C]]
func.func @main(%x: !x) -> !y {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %a = "graph.map"() ({
    %0 = "graph.element"(%x) : (!x) -> i8
    %1 = arith.extui %0 : i8 to i32
    gpu.yield %1 : i32
  }) : () -> !a
  %b = "graph.map"() ({
    %0 = "graph.element"(%w) : (!w) -> i8
    %1 = arith.extsi %0 : i8 to i32
    gpu.yield %1 : i32
  }) : () -> !b
  %y = "graph.convolution"(%a, %b) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["1", "1", "1", "1"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!a, !b) -> !y
  return %y : !y
}
