// RUN: tilewright opt %s --from fuse
// A scatter computes its places and updates as it reads them, gathers included; what it starts from is copied, and so has
// to lie in memory.

!x = tensor<8xf32>
!i = tensor<3xi64>
!u = tensor<3xf32>

// CHECK-LABEL: func.func @main
// CHECK: %[[START:.*]] = call @loop_0(%arg0)
// CHECK: call @scatter_0(%arg1, %arg2, %[[START]])
// CHECK: @scatter_0
// CHECK-SAME: graph.kernel = "scatter"
// CHECK-COUNT-2: "graph.map"
// CHECK-NOT: "graph.map"
// CHECK: "graph.scatter"
func.func @main(%x: !x, %i: !i, %u: !u) -> !x {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = arith.negf %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %1 = "graph.map"() ({
    %k = "graph.index"() {axis = 0 : i64} : () -> i64
    %a = "graph.element_at"(%i, %k) : (!i, i64) -> i64
    %one = arith.constant 1 : i64
    %b = arith.addi %a, %one : i64
    gpu.yield %b : i64
  }) : () -> !i
  %2 = "graph.map"() ({
    %a = "graph.element"(%u) : (!u) -> f32
    %b = arith.negf %a : f32
    gpu.yield %b : f32
  }) : () -> !u
  %3 = "graph.scatter"(%1, %2, %0) {kind = "sum"} : (!i, !u, !x) -> !x
  return %3 : !x
}
