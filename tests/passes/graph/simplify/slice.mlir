// RUN: tilewright opt %s --from simplify
// A slice of a slice is one slice: starts add up, steps multiply, also downwards and from a symbolic start.

!x = tensor<?x?xf32, ["n", "s"]>
!y = tensor<?x9xf32, ["n", "9"]>
!z = tensor<?x3xf32, ["n", "3"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Z:.*]] = "graph.slice"(%arg0) {starts = ["0", "s - 5"], steps = array<i64: 1, -4>}
// CHECK-NEXT: return %[[Z]]
func.func @main(%x: !x) -> !z {
  %0 = "graph.slice"(%x) {starts = ["0", "s - 1"], steps = array<i64: 1, -2>} : (!x) -> !y
  %1 = "graph.slice"(%0) {starts = ["0", "2"], steps = array<i64: 1, 2>} : (!y) -> !z
  return %1 : !z
}

// -----
// A slice of everything is its source.

!x = tensor<?x?xf32, ["n", "s"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: return %arg0
func.func @main(%x: !x) -> !x {
  %0 = "graph.slice"(%x) {starts = ["0", "0"], steps = array<i64: 1, 1>} : (!x) -> !x
  return %0 : !x
}

// -----
// Everything in reverse is not.

!x = tensor<?x?xf32, ["n", "s"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: "graph.slice"
func.func @main(%x: !x) -> !x {
  %0 = "graph.slice"(%x) {starts = ["0", "s - 1"], steps = array<i64: 1, -1>} : (!x) -> !x
  return %0 : !x
}

// -----
// Exactly one part of a concatenation is that part; a slice across two parts reads the whole.

!x = tensor<?x3xf32, ["n", "3"]>
!y = tensor<?x5xf32, ["n", "5"]>
!joined = tensor<?x8xf32, ["n", "8"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[JOINED:.*]] = "graph.concatenate"
// CHECK: %[[ACROSS:.*]] = "graph.slice"(%[[JOINED]]) {starts = ["0", "2"]
// CHECK: return %arg1, %[[ACROSS]]
func.func @main(%x: !x, %y: !y) -> (!y, !y) {
  %joined = "graph.concatenate"() ({
    gpu.yield %x, %y : !x, !y
  }) {axis = 1 : i64} : () -> !joined
  %part = "graph.slice"(%joined) {starts = ["0", "3"], steps = array<i64: 1, 1>} : (!joined) -> !y
  %across = "graph.slice"(%joined) {starts = ["0", "2"], steps = array<i64: 1, 1>} : (!joined) -> !y
  return %part, %across : !y, !y
}

// -----
// What begins elsewhere or is shorter than a part, or steps through it, is no part.

!x = tensor<4x4xf32>
!joined = tensor<4x8xf32>
!short = tensor<3x4xf32>
!narrow = tensor<4x2xf32>

// CHECK-LABEL: func.func @main
// CHECK: %[[JOINED:.*]] = "graph.concatenate"
// CHECK: "graph.slice"(%[[JOINED]]) {starts = ["1", "4"]
// CHECK: "graph.slice"(%[[JOINED]]) {starts = ["0", "4"]{{.*}} -> tensor<4x2xf32>
// CHECK: "graph.slice"(%[[JOINED]]) {starts = ["0", "0"], steps = array<i64: 1, 2>}
func.func @main(%x: !x, %y: !x) -> (!short, !narrow, !x) {
  %joined = "graph.concatenate"() ({
    gpu.yield %x, %y : !x, !x
  }) {axis = 1 : i64} : () -> !joined
  %0 = "graph.slice"(%joined) {starts = ["1", "4"], steps = array<i64: 1, 1>} : (!joined) -> !short
  %1 = "graph.slice"(%joined) {starts = ["0", "4"], steps = array<i64: 1, 1>} : (!joined) -> !narrow
  %2 = "graph.slice"(%joined) {starts = ["0", "0"], steps = array<i64: 1, 2>} : (!joined) -> !x
  return %0, %1, %2 : !short, !narrow, !x
}
