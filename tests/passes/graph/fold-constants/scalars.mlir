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

// -----
// A tensor of one value, whatever its shape, is that value; of a size that only a run knows it cannot be written out.

!x = tensor<?x8xf32, ["n", "8"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[SPLAT:.*]] = "graph.map"
// CHECK: arith.constant 2.0
// CHECK: graph.map
// CHECK: %[[TWO:.*]] = arith.constant 2.0
// CHECK: arith.mulf %{{.*}}, %[[TWO]]
// CHECK: return %{{.*}}, %[[SPLAT]]
func.func @main(%x: !x) -> (!x, !x) {
  %two = "graph.map"() ({
    %a = arith.constant 2.0 : f32
    gpu.yield %a : f32
  }) : () -> !x
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = "graph.element"(%two) : (!x) -> f32
    %c = arith.mulf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %0, %two : !x, !x
}

// -----
// Unsigned numbers keep their bits.

!x = tensor<?xui8, ["n"]>

// CHECK-LABEL: func.func @main
// CHECK: arith.constant -1 : i8
func.func @main(%x: !x) -> !x {
  %most = "graph.constant"() {value = dense<255> : tensor<ui8>} : () -> tensor<ui8>
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> i8
    %b = "graph.element"(%most) : (tensor<ui8>) -> i8
    %c = arith.andi %a, %b : i8
    gpu.yield %c : i8
  }) : () -> !x
  return %0 : !x
}
