// RUN: tilewright opt %s --from fold-constants
// A constant of one element that a map captures becomes a scalar of its body, whatever its rank.

!x = tensor<?x8xf32, ["n", "8"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: graph.map
// CHECK-DAG: %[[X:.*]] = "graph.element"(%arg0)
// CHECK-DAG: %[[HALF:.*]] = arith.constant 5.000000e-01 : f32
// CHECK: arith.mulf %[[X]], %[[HALF]]
func.func @main(%x: !x) -> !x {
  %half = "graph.constant"() {value = dense<0.5> : tensor<1x1xf32>} : () -> tensor<1x1xf32>
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = "graph.element"(%half) : (tensor<1x1xf32>) -> f32
    %c = arith.mulf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %0 : !x
}

// -----
// A row of constants stays a tensor.

!x = tensor<?x2xf32, ["n", "2"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[ROW:.*]] = "graph.constant"
// CHECK: "graph.element"(%[[ROW]])
func.func @main(%x: !x) -> !x {
  %row = "graph.constant"() {value = dense<[0.5, 1.5]> : tensor<2xf32>} : () -> tensor<2xf32>
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = "graph.element"(%row) : (tensor<2xf32>) -> f32
    %c = arith.mulf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %0 : !x
}
