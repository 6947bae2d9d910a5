// RUN: tilewright opt %s --from simplify
// A mean whose exporter dropped the dimension and added it again: what lies between computes in the kept shape.

!x = tensor<?x4x5xf32, ["n", "4", "5"]>
!kept = tensor<?x4x1xf32, ["n", "4", "1"]>
!dropped = tensor<?x4xf32, ["n", "4"]>

// CHECK-LABEL: func.func @main
// CHECK-NOT: graph.reshape
// CHECK: %[[SUM:.*]] = "graph.reduce"
// CHECK: %[[MEAN:.*]] = "graph.map"
// CHECK: "graph.element"(%[[SUM]])
// CHECK: tensor<?x4x1xf32, ["n", "4", "1"]>
// CHECK: graph.map
// CHECK: "graph.element"(%[[MEAN]])
func.func @main(%x: !x) -> !x {
  %sum = "graph.reduce"(%x) {kind = "sum", axes = array<i64: 2>} : (!x) -> !kept
  %flat = "graph.reshape"(%sum) : (!kept) -> !dropped
  %mean = "graph.map"() ({
    %a = "graph.element"(%flat) : (!dropped) -> f32
    %fifth = arith.constant 0.2 : f32
    %b = arith.mulf %a, %fifth : f32
    gpu.yield %b : f32
  }) : () -> !dropped
  %again = "graph.reshape"(%mean) : (!dropped) -> !kept
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = "graph.element"(%again) : (!kept) -> f32
    %c = arith.subf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %0 : !x
}
