// RUN: tilewright opt %s --from deduplicate-kernels
// Two layers of the same kind share one kernel; the second call keeps the names of its own nodes. A kernel of another
// type or with another constant stays.

!x = tensor<?x8xf32, ["n", "8"]>
!h = tensor<?x8xf16, ["n", "8"]>

// CHECK-LABEL: func.func @main
// CHECK: call @loop_0(%arg0)
// CHECK: call @loop_0(%{{.*}}) {graph.nodes = ["Exp_1"]}
// CHECK: call @loop_2(
// CHECK: call @loop_3(
// CHECK: func.func private @loop_0
// CHECK-NOT: @loop_1
// CHECK: func.func private @loop_2
// CHECK: func.func private @loop_3
func.func @main(%x: !x, %h: !h) -> (!x, !h) {
  %0 = call @loop_0(%x) : (!x) -> !x
  %1 = call @loop_1(%0) : (!x) -> !x
  %2 = call @loop_2(%1) : (!x) -> !x
  %3 = call @loop_3(%h) : (!h) -> !h
  return %2, %3 : !x, !h
}
func.func private @loop_0(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = ["Exp_0"]} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %half = arith.constant 0.5 : f32
    %b = arith.mulf %a, %half : f32
    gpu.yield %b : f32
  }) : () -> !x
  return %0 : !x
}
func.func private @loop_1(%y: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = ["Exp_1"]} {
  %0 = "graph.map"() ({
    %other = "graph.element"(%y) : (!x) -> f32
    %half = arith.constant 0.5 : f32
    %b = arith.mulf %other, %half : f32
    gpu.yield %b : f32
  }) : () -> !x
  return %0 : !x
}
func.func private @loop_2(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = ["Exp_2"]} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %third = arith.constant 0.3 : f32
    %b = arith.mulf %a, %third : f32
    gpu.yield %b : f32
  }) : () -> !x
  return %0 : !x
}
func.func private @loop_3(%x: !h) -> !h attributes {graph.kernel = "loop", graph.nodes = ["Exp_3"]} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!h) -> f16
    %half = arith.constant 0.5 : f16
    %b = arith.mulf %a, %half : f16
    gpu.yield %b : f16
  }) : () -> !h
  return %0 : !h
}
