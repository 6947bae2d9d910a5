// RUN: tilewright opt %s --from fuse
// A pool reads through a cheap map and through padding.

!x = tensor<?x8x8x16xf32, ["n", "8", "8", "16"]>
!padded = tensor<?x9x9x16xf32, ["n", "9", "9", "16"]>
!y = tensor<?x4x4x16xf32, ["n", "4", "4", "16"]>

// CHECK-LABEL: func.func @main
// CHECK-NOT: call
// CHECK: call @loop_0(%arg0)
// CHECK-NEXT: return
// CHECK: @loop_0
// CHECK: arith.maximumf
// CHECK: graph.pad
// CHECK: graph.pool
func.func @main(%x: !x) -> !y {
  %low = "graph.constant"() {value = dense<-1.0> : tensor<f32>} : () -> tensor<f32>
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %zero = arith.constant 0.0 : f32
    %b = arith.maximumf %a, %zero : f32
    gpu.yield %b : f32
  }) : () -> !x
  %1 = "graph.pad"(%0, %low) {low = ["0", "1", "1", "0"]} : (!x, tensor<f32>) -> !padded
  %2 = "graph.pool"(%1) {kind = "max", kernel = array<i64: 3, 3>, include_padding = 0 : i64, strides = array<i64: 2, 2>,
    pads = ["0", "0", "0", "0"], dilations = array<i64: 1, 1>, layout = "channels_last"} : (!padded) -> !y
  return %2 : !y
}

// -----
// What is expensive is computed once, not for every window that it lies in.

!x = tensor<?x8x8x16xf32, ["n", "8", "8", "16"]>
!y = tensor<?x4x4x16xf32, ["n", "4", "4", "16"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[EXP:.*]] = call @{{.*}}(%arg0)
// CHECK-NEXT: call @{{.*}}(%[[EXP]])
func.func @main(%x: !x) -> !y {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %1 = "graph.pool"(%0) {kind = "max", kernel = array<i64: 2, 2>, include_padding = 0 : i64, strides = array<i64: 2, 2>,
    pads = ["0", "0", "0", "0"], dilations = array<i64: 1, 1>, layout = "channels_last"} : (!x) -> !y
  return %1 : !y
}
