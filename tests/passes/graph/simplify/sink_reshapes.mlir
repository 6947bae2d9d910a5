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

// -----
// Positions along a kept dimension are renamed with it; one along a dimension that goes away keeps the map where it is.

!x = tensor<?x4x5xf32, ["n", "4", "5"]>
!kept = tensor<?x4x1xf32, ["n", "4", "1"]>
!dropped = tensor<?x1x4xf32, ["n", "1", "4"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[SUM:.*]] = "graph.reduce"
// CHECK: %[[FLAT:.*]] = "graph.reshape"(%[[SUM]])
// CHECK: graph.map
// CHECK: "graph.element"(%[[SUM]])
// CHECK: "graph.index"() {axis = 1 : i64}
// CHECK: graph.map
// CHECK: "graph.element"(%[[FLAT]])
// CHECK: "graph.index"() {axis = 1 : i64}
func.func @main(%x: !x) -> (!kept, !kept) {
  %sum = "graph.reduce"(%x) {kind = "sum", axes = array<i64: 2>} : (!x) -> !kept
  %flat = "graph.reshape"(%sum) : (!kept) -> !dropped
  %0 = "graph.map"() ({
    %a = "graph.element"(%flat) : (!dropped) -> f32
    %i = "graph.index"() {axis = 2 : i64} : () -> i64
    %b = arith.sitofp %i : i64 to f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !dropped
  %1 = "graph.map"() ({
    %a = "graph.element"(%flat) : (!dropped) -> f32
    %i = "graph.index"() {axis = 1 : i64} : () -> i64
    %b = arith.sitofp %i : i64 to f32
    %c = arith.subf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !dropped
  %2 = "graph.reshape"(%0) : (!dropped) -> !kept
  %3 = "graph.reshape"(%1) : (!dropped) -> !kept
  return %2, %3 : !kept, !kept
}
