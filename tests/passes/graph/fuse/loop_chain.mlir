// RUN: tilewright opt %s --from fuse
// A pointwise chain becomes one kernel, called once from @main, which knows its nodes.

!x = tensor<?xf32, ["n"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[Y:.*]] = call @[[KERNEL:[a-z_0-9]+]](%arg0)
// CHECK-NEXT: return %[[Y]]
// CHECK: func.func private @[[KERNEL]]
// CHECK-SAME: graph.kernel = "loop", graph.nodes = ["Exp_1", "Add_2"]
// CHECK: math.exp
// CHECK: arith.addf
func.func @main(%x: !x) -> !x {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x loc("Exp_1")
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!x) -> f32
    %b = "graph.element"(%x) : (!x) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x loc("Add_2")
  return %1 : !x
}

// -----
// Movements are index arithmetic of the loop: a transpose, two slices of it and their concatenation are one kernel.

!x = tensor<?x8xf32, ["n", "8"]>
!turned = tensor<8x?xf32, ["8", "n"]>
!part = tensor<3x?xf32, ["3", "n"]>
!y = tensor<6x?xf32, ["6", "n"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: call @loop_0(%arg0)
// CHECK-NEXT: return
// CHECK: @loop_0
// CHECK: graph.transpose
// CHECK-COUNT-2: graph.slice
// CHECK: graph.concatenate
func.func @main(%x: !x) -> !y {
  %turned = "graph.transpose"(%x) {permutation = array<i64: 1, 0>} : (!x) -> !turned
  %0 = "graph.slice"(%turned) {starts = ["0", "0"], steps = array<i64: 1, 1>} : (!turned) -> !part
  %1 = "graph.slice"(%turned) {starts = ["5", "0"], steps = array<i64: 1, 1>} : (!turned) -> !part
  %2 = "graph.concatenate"() ({
    gpu.yield %0, %1 : !part, !part
  }) {axis = 0 : i64} : () -> !y
  return %2 : !y
}

// -----
// A reshape at the edge is another name for the same memory: it stays in @main, and alone it is no kernel.

!x = tensor<?x8xf32, ["n", "8"]>
!flat = tensor<?xf32, ["8*n"]>

// CHECK-LABEL: func.func @main
// CHECK-DAG: %[[NAME:.*]] = "graph.reshape"(%arg0)
// CHECK-DAG: %[[EXP:.*]] = call @loop_0(%arg0)
// CHECK-DAG: %[[FLAT:.*]] = "graph.reshape"(%[[EXP]])
// CHECK: return %[[NAME]], %[[FLAT]]
// CHECK-NOT: graph.reshape
func.func @main(%x: !x) -> (!flat, !flat) {
  %0 = "graph.reshape"(%x) : (!x) -> !flat
  %1 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %2 = "graph.reshape"(%1) : (!x) -> !flat
  return %0, %2 : !flat, !flat
}
