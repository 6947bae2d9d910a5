// RUN: tilewright opt %s --from merge-maps
// A chain of maps is one map, also over symbolic shapes; what both read is read once.

!x = tensor<?x8xf32, ["n", "8"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: graph.map
// CHECK: %[[X:.*]] = "graph.element"(%arg0)
// CHECK-NOT: graph.element
// CHECK: %[[EXP:.*]] = math.exp %[[X]]
// CHECK: arith.addf %[[EXP]], %[[X]]
// CHECK-NOT: graph.map
// CHECK: return
func.func @main(%x: !x) -> !x {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!x) -> f32
    %b = "graph.element"(%x) : (!x) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %1 : !x
}

// -----
// A map that two read stays: it would be computed twice.

!x = tensor<?x8xf32, ["n", "8"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[EXP:.*]] = "graph.map"
// CHECK: math.exp
// CHECK: graph.map
// CHECK: "graph.element"(%[[EXP]])
// CHECK: arith.negf
// CHECK: graph.map
// CHECK: "graph.element"(%[[EXP]])
// CHECK: math.tanh
func.func @main(%x: !x) -> (!x, !x) {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!x) -> f32
    %b = arith.negf %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %2 = "graph.map"() ({
    %a = "graph.element"(%0) : (!x) -> f32
    %b = math.tanh %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  return %1, %2 : !x, !x
}

// -----
// A row that is stretched stays: its exponential is computed once a row and not once an element.

!x = tensor<?x8xf32, ["n", "8"]>
!row = tensor<8xf32>

// CHECK-LABEL: func.func @main
// CHECK: %[[ROW:.*]] = "graph.map"
// CHECK: math.exp
// CHECK: graph.map
// CHECK: "graph.element"(%[[ROW]])
func.func @main(%x: !x, %row: !row) -> !x {
  %0 = "graph.map"() ({
    %a = "graph.element"(%row) : (!row) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !row
  %1 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = "graph.element"(%0) : (!row) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %1 : !x
}

// -----
// A map that is read at other positions stays.

!x = tensor<?x8xf32, ["n", "8"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[EXP:.*]] = "graph.map"
// CHECK: graph.map
// CHECK: "graph.element_at"(%[[EXP]], %{{.*}}, %{{.*}})
func.func @main(%x: !x) -> !x {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %1 = "graph.map"() ({
    %i = "graph.index"() {axis = 0 : i64} : () -> i64
    %j = "graph.index"() {axis = 1 : i64} : () -> i64
    %seven = arith.constant 7 : i64
    %k = arith.subi %seven, %j : i64
    %a = "graph.element_at"(%0, %i, %k) : (!x, i64, i64) -> f32
    gpu.yield %a : f32
  }) : () -> !x
  return %1 : !x
}

// -----
// Nor one that is read in place as well.

!x = tensor<?x8xf32, ["n", "8"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[EXP:.*]] = "graph.map"
// CHECK: graph.map
// CHECK-DAG: "graph.element"(%[[EXP]])
// CHECK-DAG: "graph.element_at"(%[[EXP]], %{{.*}}, %{{.*}})
func.func @main(%x: !x) -> !x {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %1 = "graph.map"() ({
    %i = "graph.index"() {axis = 0 : i64} : () -> i64
    %zero = arith.constant 0 : i64
    %a = "graph.element_at"(%0, %i, %zero) : (!x, i64, i64) -> f32
    %b = "graph.element"(%0) : (!x) -> f32
    %c = arith.subf %b, %a : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %1 : !x
}

// -----
// Sizes that are equal in a run only keep their names: a map over m is not moved into one over n.

!x = tensor<?xf32, ["n"]>
!y = tensor<?xf32, ["m"]>

// CHECK-LABEL: func.func @main
// CHECK: graph.map
// CHECK: }) : () -> tensor<?xf32, ["m"]>
// CHECK: graph.map
// CHECK: }) : () -> tensor<?xf32, ["n"]>
func.func @main(%x: !x, %y: !y) -> !x {
  %0 = "graph.map"() ({
    %a = "graph.element"(%y) : (!y) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !y
  %1 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = "graph.element"(%0) : (!y) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %1 : !x
}
