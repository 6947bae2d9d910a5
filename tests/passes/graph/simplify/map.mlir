// RUN: tilewright opt %s --from simplify
// A map broadcasts by itself: it reads the small tensor, not the stretched one, and without leading ones of a reshape.

!x = tensor<?x4x8xf32, ["n", "4", "8"]>
!row = tensor<8xf32>
!same = tensor<1x1x8xf32>

// CHECK-LABEL: func.func @main
// CHECK-NOT: graph.broadcast
// CHECK-NOT: graph.reshape
// CHECK: "graph.element"(%arg1) : (tensor<8xf32>) -> f32
func.func @main(%x: !x, %row: !row) -> !x {
  %same = "graph.reshape"(%row) : (!row) -> !same
  %wide = "graph.broadcast"(%same) : (!same) -> !x
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = "graph.element"(%wide) : (!x) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %0 : !x
}

// -----
// A tensor of one value is a scalar of the body.

!x = tensor<?x8xf32, ["n", "8"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: graph.map
// CHECK: %[[X:.*]] = "graph.element"(%arg0)
// CHECK: %[[TWO:.*]] = arith.constant 2.0
// CHECK: arith.mulf %[[X]], %[[TWO]]
// CHECK-NOT: graph.map
// CHECK: return
func.func @main(%x: !x) -> !x {
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
  return %0 : !x
}

// -----
// A map that repeats its only tensor is that tensor, or a broadcast of it.

!x = tensor<?x8xf32, ["n", "8"]>
!row = tensor<8xf32>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[WIDE:.*]] = "graph.broadcast"(%arg1)
// CHECK-NEXT: return %arg0, %[[WIDE]]
func.func @main(%x: !x, %row: !row) -> (!x, !x) {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    gpu.yield %a : f32
  }) : () -> !x
  %1 = "graph.map"() ({
    %a = "graph.element"(%row) : (!row) -> f32
    gpu.yield %a : f32
  }) : () -> !x
  return %0, %1 : !x, !x
}

// -----
// A reshape that does more than add leading ones is read as it is.

!x = tensor<?x8xf32, ["n", "8"]>
!flat = tensor<?xf32, ["8*n"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[X:.*]] = "graph.reshape"(%arg0)
// CHECK: "graph.element"(%[[X]])
func.func @main(%flat: !flat) -> !x {
  %x = "graph.reshape"(%flat) : (!flat) -> !x
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  return %0 : !x
}
