// RUN: tilewright opt %s --from fuse
// Constants of several elements become weights, so that kernels which differ in them only are one kernel later; one of
// a single element stays in the body.

!x = tensor<?x2xf32, ["n", "2"]>
!row = tensor<2xf32>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[ROW:.*]] = "graph.weight"() {handle = "Add_1"}
// CHECK-NEXT: call @loop_0(%arg0, %[[ROW]])
// CHECK: @loop_0
// CHECK: %[[ONE:.*]] = "graph.constant"
// CHECK: "graph.pad"(%{{.*}}, %[[ONE]])
func.func @main(%x: !x) -> tensor<?x4xf32, ["n", "4"]> {
  %row = "graph.constant"() {value = dense<[0.5, 1.5]> : !row} : () -> !row loc("Add_1")
  %one = "graph.constant"() {value = dense<1.0> : tensor<f32>} : () -> tensor<f32>
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = "graph.element"(%row) : (!row) -> f32
    %c = arith.mulf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  %1 = "graph.pad"(%0, %one) {low = ["0", "1"]} : (!x, tensor<f32>) -> tensor<?x4xf32, ["n", "4"]>
  return %1 : tensor<?x4xf32, ["n", "4"]>
}
