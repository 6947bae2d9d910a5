// RUN: tilewright opt %s --from tile --to plan-host
// The importer had to assume that m is n + 1: m is replaced everywhere, so that a run which checks b's shape checks it.

!a = tensor<?xf32, ["n"]>
!b = tensor<?xf32, ["m"]>

// CHECK: module attributes {host.equalities = [], host.symbols = {n = ["a", 0]}}
// CHECK: "host.declare"(){{.*}}name = "b", shape = ["n + 1"]
// CHECK: "host.launch"{{.*}}arguments = [0, 1, "n + 1"], grid = ["(n//256) + 1", "1", "1"]
func.func @main(%a: !a {graph.name = "a"}, %b: !b {graph.name = "b"}) -> (!b {graph.name = "y"})
    attributes {graph.constraints = [["m", "n + 1"]]} {
  %0 = call @loop_0(%b) : (!b) -> !b
  return %0 : !b
}
func.func private @loop_0(%x: !b) -> !b attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!b) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !b
  return %0 : !b
}

// -----
// What cannot be solved for a symbol is left for the run to check.

!a = tensor<?xf32, ["n"]>
!b = tensor<?xf32, ["m"]>

// CHECK: module attributes {host.equalities = {{\[\[}}"2*n", "3*m"{{\]\]}},
// CHECK-SAME: host.symbols = {m = ["b", 0], n = ["a", 0]}}
func.func @main(%a: !a {graph.name = "a"}, %b: !b {graph.name = "b"}) -> (!b {graph.name = "y"})
    attributes {graph.constraints = [["2*n", "3*m"]]} {
  return %b : !b
}
