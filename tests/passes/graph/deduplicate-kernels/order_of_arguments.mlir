// RUN: tilewright opt %s --from deduplicate-kernels
// Kernels that take their arguments in another order, and compute in another order, are the same; the call gives each
// argument to the one that reads it, and keeps the names of its own nodes.

!x = tensor<?x8xf32, ["n", "8"]>
!s = tensor<?x1xf32, ["n", "1"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[A:.*]] = call @loop_0(%arg0, %arg1)
// CHECK: %[[B:.*]] = call @loop_0(%[[A]], %arg1) {graph.nodes = ["second"]}
// CHECK: call @loop_2(%[[A]], %[[B]])
// CHECK: call @loop_2(%[[B]], %[[A]]) {graph.nodes = ["fourth"]}
// CHECK-NOT: func.func private @loop_1
// CHECK-NOT: func.func private @loop_3
func.func @main(%x: !x, %s: !s) -> (!x, !x) {
  %0 = call @loop_0(%x, %s) : (!x, !s) -> !x
  %1 = call @loop_1(%s, %0) : (!s, !x) -> !x
  %2 = call @loop_2(%0, %1) : (!x, !x) -> !x
  %3 = call @loop_3(%0, %1) : (!x, !x) -> !x
  return %2, %3 : !x, !x
}
func.func private @loop_0(%x: !x, %s: !s) -> !x attributes {graph.kernel = "loop", graph.nodes = ["first"]} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %1 = "graph.map"() ({
    %a = "graph.element"(%s) : (!s) -> f32
    %b = math.sqrt %a : f32
    gpu.yield %b : f32
  }) : () -> !s
  %2 = "graph.map"() ({
    %a = "graph.element"(%0) : (!x) -> f32
    %b = "graph.element"(%1) : (!s) -> f32
    %c = arith.divf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %2 : !x
}
func.func private @loop_1(%s: !s, %x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = ["second"]} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%s) : (!s) -> f32
    %b = math.sqrt %a : f32
    gpu.yield %b : f32
  }) : () -> !s
  %1 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %2 = "graph.map"() ({
    %a = "graph.element"(%1) : (!x) -> f32
    %b = "graph.element"(%0) : (!s) -> f32
    %c = arith.divf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %2 : !x
}
func.func private @loop_2(%x: !x, %y: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = ["third"]} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = "graph.element"(%y) : (!x) -> f32
    %c = arith.subf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %0 : !x
}
func.func private @loop_3(%x: !x, %y: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = ["fourth"]} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%y) : (!x) -> f32
    %b = "graph.element"(%x) : (!x) -> f32
    %c = arith.subf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %0 : !x
}
