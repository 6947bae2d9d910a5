// RUN: tilewright opt %s --from tile --to plan-host
// A call is a launch: buffers in the order of the kernel's parameters, sizes and the grid as expressions over the
// symbols of the inputs. The last kernel writes the model's output itself; what lies between is a temporary that lives
// from the instruction that writes it to the last that reads it.

!x = tensor<?x8xf32, ["n", "8"]>

// CHECK: module attributes {host.equalities = [], host.symbols = {n = ["x", 0]}}
// CHECK-DAG: %[[X:.*]] = "host.declare"() {binding = "x", element = "f32", kind = "input"{{.*}}shape = ["n", "8"]}
// CHECK-DAG: %[[Y:.*]] = "host.declare"() {binding = "y", element = "f32", kind = "output"{{.*}}shape = ["n", "8"]}
// CHECK-DAG: %[[A:.*]] = "host.declare"() {element = "f32", first = 0 : i64, kind = "temporary", last = 2 : i64
// CHECK-DAG: %[[B:.*]] = "host.declare"() {element = "f32", first = 1 : i64, kind = "temporary", last = 2 : i64
// CHECK: "host.launch"(%[[X]], %[[A]]) {arguments = [0, 1, "n"], grid = ["(8*n + 1023)//1024", "1", "1"],
// CHECK-SAME: kernel = "loop_0", nodes = ["Exp_0"]}
// CHECK-NEXT: "host.launch"(%[[A]], %[[B]]) {{.*}}nodes = ["Exp_7"]
// CHECK-NEXT: "host.launch"(%[[A]], %[[B]], %[[Y]]) {arguments = [0, 1, 2, "n"]{{.*}}kernel = "loop_1"
func.func @main(%x: !x {graph.name = "x"}) -> (!x {graph.name = "y"}) {
  %0 = call @loop_0(%x) : (!x) -> !x
  %1 = call @loop_0(%0) {graph.nodes = ["Exp_7"]} : (!x) -> !x
  %2 = call @loop_1(%0, %1) : (!x, !x) -> !x
  return %2 : !x
}
func.func private @loop_0(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = ["Exp_0"]} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  return %0 : !x
}
func.func private @loop_1(%x: !x, %y: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = ["Add_1"]} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = "graph.element"(%y) : (!x) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %0 : !x
}

// -----
// A weight is declared once, whoever reads it; nothing depends on a symbol here.

!x = tensor<4x8xf32>
!y = tensor<8xf32>

// CHECK: module attributes {host.equalities = [], host.symbols = {}}
// CHECK: %[[W:.*]] = "host.declare"() {element = "f32", handle = "bias", kind = "weight", name = "bias", shape = ["8"]}
// CHECK-NOT: kind = "weight"
// CHECK: "host.launch"(%{{.*}}, %[[W]], %{{.*}}) {arguments = [0, 1, 2], grid = ["1", "1", "1"]
// CHECK: "host.launch"(%{{.*}}, %[[W]], %{{.*}})
func.func @main(%x: !x {graph.name = "x"}) -> (!x {graph.name = "y"}) {
  %w = "graph.weight"() {handle = "bias"} : () -> !y
  %0 = call @loop_0(%x, %w) : (!x, !y) -> !x
  %again = "graph.weight"() {handle = "bias"} : () -> !y
  %1 = call @loop_0(%0, %again) : (!x, !y) -> !x
  return %1 : !x
}
func.func private @loop_0(%x: !x, %y: !y) -> !x attributes {graph.kernel = "loop", graph.nodes = ["Add_0"]} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = "graph.element"(%y) : (!y) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %0 : !x
}
