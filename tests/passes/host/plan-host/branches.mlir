// RUN: tilewright opt %s --from tile --to plan-host
// Both branches of an if leave their result in the same buffer, here the model's output; a branch that computes nothing
// copies. Lifetimes count the if as one instruction, then those of both branches: what is read in the second branch
// (instruction 4) must live until then.

!x = tensor<?x8xf32, ["n", "8"]>

// CHECK-DAG: %[[X:.*]] = "host.declare"(){{.*}}kind = "input", name = "x"
// CHECK-DAG: %[[C:.*]] = "host.declare"(){{.*}}element = "i1", kind = "input"
// CHECK-DAG: %[[Y:.*]] = "host.declare"(){{.*}}kind = "output"
// CHECK-DAG: %[[FIRST:.*]] = "host.declare"() {element = "f32", first = 0 : i64, kind = "temporary", last = 4 : i64
// CHECK-DAG: %[[INNER:.*]] = "host.declare"() {element = "f32", first = 2 : i64, kind = "temporary", last = 3 : i64
// CHECK: "host.launch"(%[[X]], %[[FIRST]])
// CHECK-NEXT: "host.if"(%[[C]]) ({
// CHECK-NEXT: "host.launch"(%[[FIRST]], %[[INNER]])
// CHECK-NEXT: "host.launch"(%[[INNER]], %[[Y]])
// CHECK-NEXT: gpu.yield
// CHECK-NEXT: }, {
// CHECK-NEXT: "host.copy"(%[[FIRST]], %[[Y]])
// CHECK-NEXT: gpu.yield
func.func @main(%x: !x {graph.name = "x"}, %condition: tensor<i1> {graph.name = "c"}) -> (!x {graph.name = "y"}) {
  %0 = call @loop_0(%x) : (!x) -> !x
  %bit = tensor.extract %condition[] : tensor<i1>
  %1 = scf.if %bit -> !x {
    %2 = func.call @loop_0(%0) : (!x) -> !x
    %3 = func.call @loop_0(%2) : (!x) -> !x
    scf.yield %3 : !x
  } else {
    scf.yield %0 : !x
  }
  return %1 : !x
}
func.func private @loop_0(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = ["Exp_0"]} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  return %0 : !x
}
