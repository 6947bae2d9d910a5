// RUN: tilewright opt %s --from share-numbers
// Left alone: floats, of which layers seldom differ in numbers; kernels of attention, which look for scale factors;
// numbers that other operations than arithmetic read; infinities.

!x = tensor<?x8xf32, ["n", "8"]>
!q = tensor<?x8xi8, ["n", "8"]>

// CHECK-LABEL: func.func @main
// CHECK-NOT: graph.weight
// CHECK: call @loop_0(
// CHECK: call @loop_1(
// CHECK: call @attention_0(
// CHECK: call @attention_1(
// CHECK: call @loop_2(
// CHECK: call @loop_3(
// CHECK: call @loop_4(
// CHECK: call @loop_5(
func.func @main(%x: !x, %q: !q) -> (!x, !x, !x, !x, !x, !x, !x, !x) {
  %0 = call @loop_0(%x) : (!x) -> !x
  %1 = call @loop_1(%x) : (!x) -> !x
  %2 = call @attention_0(%q) : (!q) -> !x
  %3 = call @attention_1(%q) : (!q) -> !x
  %4 = call @loop_2(%q) : (!q) -> !x
  %5 = call @loop_3(%q) : (!q) -> !x
  %6 = call @loop_4(%q) : (!q) -> !x
  %7 = call @loop_5(%q) : (!q) -> !x
  return %0, %1, %2, %3, %4, %5, %6, %7 : !x, !x, !x, !x, !x, !x, !x, !x
}
func.func private @loop_0(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %f = arith.negf %a : f32
    %number = arith.constant 0.5 : f32
    %c = arith.mulf %f, %number : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %0 : !x
}
func.func private @loop_1(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %f = arith.negf %a : f32
    %number = arith.constant 0.25 : f32
    %c = arith.mulf %f, %number : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %0 : !x
}
func.func private @attention_0(%x: !q) -> !x attributes {graph.kernel = "attention", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!q) -> i8
    %w = arith.extsi %a : i8 to i32
    %f = arith.sitofp %w : i32 to f32
    %number = arith.constant 0.5 : f32
    %c = arith.mulf %f, %number : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %0 : !x
}
func.func private @attention_1(%x: !q) -> !x attributes {graph.kernel = "attention", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!q) -> i8
    %w = arith.extsi %a : i8 to i32
    %f = arith.sitofp %w : i32 to f32
    %number = arith.constant 0.25 : f32
    %c = arith.mulf %f, %number : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %0 : !x
}
func.func private @loop_2(%x: !q) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!q) -> i8
    %w = arith.extsi %a : i8 to i32
    %f = arith.sitofp %w : i32 to f32
    %number = arith.constant 2.0 : f32
    %c = math.powf %f, %number : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %0 : !x
}
func.func private @loop_3(%x: !q) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!q) -> i8
    %w = arith.extsi %a : i8 to i32
    %f = arith.sitofp %w : i32 to f32
    %number = arith.constant 3.0 : f32
    %c = math.powf %f, %number : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %0 : !x
}
func.func private @loop_4(%x: !q) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!q) -> i8
    %w = arith.extsi %a : i8 to i32
    %f = arith.sitofp %w : i32 to f32
    %number = arith.constant 0x7F800000 : f32
    %c = arith.maximumf %f, %number : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %0 : !x
}
func.func private @loop_5(%x: !q) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!q) -> i8
    %w = arith.extsi %a : i8 to i32
    %f = arith.sitofp %w : i32 to f32
    %number = arith.constant 0xFF800000 : f32
    %c = arith.maximumf %f, %number : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %0 : !x
}
