// RUN: tilewright opt %s --from plan-precision --precision f16
// A convolution is a product as well, also the one inside a branch; sums and maps keep f32.

!x = tensor<1x8x8x4xf32>
!w = tensor<1x1x4x16xf32>
!y = tensor<1x8x8x16xf32>
!sum = tensor<1x1x1x16xf32>

// CHECK-LABEL: func.func @main
// CHECK: scf.if
// CHECK: %[[X:.*]] = "graph.map"
// CHECK: arith.truncf {{.*}} : f32 to f16
// CHECK: %[[Y:.*]] = "graph.convolution"(%[[X]], %{{.*}}) {{.*}} : (tensor<1x8x8x4xf16>,
// CHECK-SAME: tensor<1x1x4x16xf16>) -> tensor<1x8x8x16xf32>
// CHECK: "graph.reduce"(%[[Y]]) {{.*}} : (tensor<1x8x8x16xf32>) -> tensor<1x1x1x16xf32>
func.func @main(%x: !x, %zero: !sum, %condition: tensor<i1>) -> !sum {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %bit = tensor.extract %condition[] : tensor<i1>
  %0 = scf.if %bit -> !sum {
    %y = "graph.convolution"(%x, %w) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["0", "0", "0", "0"],
      dilations = array<i64: 1, 1>, layout = "channels_last"} : (!x, !w) -> !y
    %sum = "graph.reduce"(%y) {kind = "sum", axes = array<i64: 1, 2>} : (!y) -> !sum
    scf.yield %sum : !sum
  } else {
    scf.yield %zero : !sum
  }
  return %0 : !sum
}

// -----
// A product of 8-bit integers is exact already.

!x = tensor<?x16xi8, ["n", "16"]>
!w = tensor<16x8xi8>
!y = tensor<?x8xi32, ["n", "8"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: "graph.matmul"(%arg0, %arg1) {transpose_left = 0 : i64, transpose_right = 0 : i64}
func.func @main(%x: !x, %w: !w) -> !y {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !y
  return %0 : !y
}
