// RUN: tilewright opt %s --from tile --to plan-host
// A kernel that somebody wrote is launched as it says. What its result holds before is put there first: here the bytes
// of the operand which is no argument of the launch.

!x = tensor<?x8xf32, ["n", "8"]>

// CHECK-DAG: %[[X:.*]] = "host.declare"(){{.*}}kind = "input", name = "x"
// CHECK-DAG: %[[Z:.*]] = "host.declare"(){{.*}}kind = "input", name = "z"
// CHECK-DAG: %[[Y:.*]] = "host.declare"(){{.*}}kind = "output"
// CHECK: "host.copy"(%[[Z]], %[[Y]])
// CHECK-NEXT: "host.launch"(%[[X]], %[[Y]]) {arguments = [0, 1, "8*n"], grid = ["n", "1", "1"], kernel = "custom_0_ramp", nodes = ["r"]}
func.func @main(%x: !x {graph.name = "x"}, %z: !x {graph.name = "z"}) -> (!x {graph.name = "y"}) {
  %0 = call @custom_0_ramp(%x, %z) : (!x, !x) -> !x
  return %0 : !x
}
func.func private @custom_0_ramp(!x, !x) -> !x attributes {graph.kernel = "custom", graph.nodes = ["r"], graph.given = {
  arguments = ["input 0", "output 0", "8*n"], block = ["32", "1", "1"], entry = "ramp", grid = ["n", "1", "1"],
  parameters = ["pointer", "pointer", "i32"], prepared = ["0 copy 1"], ptx = ".visible .entry ramp()", shared_bytes = 0 : i64}}

// -----
// A byte that fills it.

!y = tensor<4xi32>

// CHECK: "host.fill"(%[[Y:.*]]) {byte = 255 : i64}
// CHECK-NEXT: "host.launch"(%[[Y]])
func.func @main() -> (!y {graph.name = "y"}) {
  %0 = call @custom_0_count() : () -> !y
  return %0 : !y
}
func.func private @custom_0_count() -> !y attributes {graph.kernel = "custom", graph.nodes = ["c"], graph.given = {
  arguments = ["output 0"], block = ["32", "1", "1"], entry = "count", grid = ["1", "1", "1"],
  parameters = ["pointer"], prepared = ["0 fill 255"], ptx = ".visible .entry count()", shared_bytes = 0 : i64}}
