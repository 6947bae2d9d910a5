// RUN: tilewright opt %s --from simplify
// A concatenation within a concatenation along the same axis is copied once, and empty parts are left out.

!x = tensor<?x3xf32, ["n", "3"]>
!empty = tensor<?x0xf32, ["n", "0"]>
!two = tensor<?x6xf32, ["n", "6"]>
!three = tensor<?x9xf32, ["n", "9"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: "graph.concatenate"
// CHECK-NEXT: gpu.yield %arg0, %arg1, %arg0 :
// CHECK-NOT: graph.concatenate
// CHECK: return
func.func @main(%x: !x, %y: !x, %none: !empty) -> !three {
  %inner = "graph.concatenate"() ({
    gpu.yield %x, %y : !x, !x
  }) {axis = 1 : i64} : () -> !two
  %outer = "graph.concatenate"() ({
    gpu.yield %inner, %none, %x : !two, !empty, !x
  }) {axis = 1 : i64} : () -> !three
  return %outer : !three
}

// -----
// Not when something else reads the inner one, which then exists anyway.

!x = tensor<?x3xf32, ["n", "3"]>
!two = tensor<?x6xf32, ["n", "6"]>
!three = tensor<?x9xf32, ["n", "9"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[INNER:.*]] = "graph.concatenate"
// CHECK: "graph.concatenate"
// CHECK-NEXT: gpu.yield %[[INNER]], %arg0
func.func @main(%x: !x, %y: !x) -> (!two, !three) {
  %inner = "graph.concatenate"() ({
    gpu.yield %x, %y : !x, !x
  }) {axis = 1 : i64} : () -> !two
  %outer = "graph.concatenate"() ({
    gpu.yield %inner, %x : !two, !x
  }) {axis = 1 : i64} : () -> !three
  return %inner, %outer : !two, !three
}

// -----
// One part alone is that part.

!x = tensor<?x3xf32, ["n", "3"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: return %arg0
func.func @main(%x: !x) -> !x {
  %0 = "graph.concatenate"() ({
    gpu.yield %x : !x
  }) {axis = 0 : i64} : () -> !x
  return %0 : !x
}

// -----
// One along another axis stays whole.

!x = tensor<2x3xf32>
!two = tensor<4x3xf32>
!three = tensor<4x6xf32>

// CHECK-LABEL: func.func @main
// CHECK: %[[INNER:.*]] = "graph.concatenate"
// CHECK: {axis = 0 : i64}
// CHECK: "graph.concatenate"
// CHECK-NEXT: gpu.yield %[[INNER]], %arg1
func.func @main(%x: !x, %y: !two) -> !three {
  %inner = "graph.concatenate"() ({
    gpu.yield %x, %x : !x, !x
  }) {axis = 0 : i64} : () -> !two
  %outer = "graph.concatenate"() ({
    gpu.yield %inner, %y : !two, !two
  }) {axis = 1 : i64} : () -> !three
  return %outer : !three
}

// -----
// Slices that follow each other are one; all of a tensor is the tensor.

!x = tensor<2x8xf32>
!half = tensor<2x4xf32>
!quarter = tensor<2x2xf32>
!y = tensor<2x18xf32>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[LAST:.*]] = "graph.slice"(%arg0) {starts = ["0", "4"]
// CHECK-NEXT: %[[MIDDLE:.*]] = "graph.slice"(%arg0) {starts = ["0", "2"], steps = array<i64: 1, 1>} : (tensor<2x8xf32>) -> tensor<2x6xf32>
// CHECK-NEXT: "graph.concatenate"
// CHECK-NEXT: gpu.yield %arg0, %[[MIDDLE]], %[[LAST]]
func.func @main(%x: !x) -> !y {
  %0 = "graph.slice"(%x) {starts = ["0", "0"], steps = array<i64: 1, 1>} : (!x) -> !half
  %1 = "graph.slice"(%x) {starts = ["0", "4"], steps = array<i64: 1, 1>} : (!x) -> !half
  %2 = "graph.slice"(%x) {starts = ["0", "2"], steps = array<i64: 1, 1>} : (!x) -> !quarter
  %3 = "graph.concatenate"() ({
    gpu.yield %0, %1, %2, %1, %1 : !half, !half, !quarter, !half, !half
  }) {axis = 1 : i64} : () -> tensor<2x18xf32>
  return %3 : !y
}
