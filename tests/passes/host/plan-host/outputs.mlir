// RUN: tilewright opt %s --from tile --to plan-host
// A reshape is another name for the same buffer: the kernel before it writes the output.

!x = tensor<?x8xf32, ["n", "8"]>
!flat = tensor<?xf32, ["8*n"]>

// CHECK-DAG: %[[X:.*]] = "host.declare"(){{.*}}kind = "input"
// CHECK-DAG: %[[Y:.*]] = "host.declare"(){{.*}}kind = "output"{{.*}}shape = ["8*n"]
// CHECK: "host.launch"(%[[X]], %[[Y]])
// CHECK-NOT: "host.
func.func @main(%x: !x {graph.name = "x"}) -> (!flat {graph.name = "y"}) {
  %0 = call @loop_0(%x) : (!x) -> !x
  %1 = "graph.reshape"(%0) : (!x) -> !flat
  return %1 : !flat
}
func.func private @loop_0(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = ["Exp_0"]} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  return %0 : !x
}

// -----
// What no kernel writes for it alone is copied: an input, a weight, and a result that is returned twice.

!x = tensor<?x8xf32, ["n", "8"]>
!w = tensor<8xf32>

// CHECK-DAG: %[[X:.*]] = "host.declare"(){{.*}}kind = "input", name = "x"
// CHECK-DAG: %[[W:.*]] = "host.declare"(){{.*}}kind = "weight"
// CHECK-DAG: %[[SAME:.*]] = "host.declare"() {binding = "same"
// CHECK-DAG: %[[WEIGHT:.*]] = "host.declare"() {binding = "weight"
// CHECK-DAG: %[[Y:.*]] = "host.declare"() {binding = "y"
// CHECK-DAG: %[[TWIN:.*]] = "host.declare"() {binding = "twin"
// CHECK: "host.launch"(%[[X]], %[[Y]])
// CHECK-DAG: "host.copy"(%[[X]], %[[SAME]])
// CHECK-DAG: "host.copy"(%[[W]], %[[WEIGHT]])
// CHECK-DAG: "host.copy"(%[[Y]], %[[TWIN]])
func.func @main(%x: !x {graph.name = "x"})
    -> (!x {graph.name = "same"}, !w {graph.name = "weight"}, !x {graph.name = "y"}, !x {graph.name = "twin"}) {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %0 = call @loop_0(%x) : (!x) -> !x
  return %x, %w, %0, %0 : !x, !w, !x, !x
}
func.func private @loop_0(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = ["Exp_0"]} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  return %0 : !x
}

// -----
// A constant that the model returns is a weight of the engine.

// CHECK-DAG: %[[Y:.*]] = "host.declare"(){{.*}}kind = "output"
// CHECK-DAG: %[[C:.*]] = "host.declare"() {element = "i64", handle = "constant", kind = "weight"
// CHECK: "host.copy"(%[[C]], %[[Y]])
func.func @main() -> (tensor<2xi64> {graph.name = "y"}) {
  %0 = "graph.constant"() {value = dense<[1, 2]> : tensor<2xi64>} : () -> tensor<2xi64>
  return %0 : tensor<2xi64>
}
