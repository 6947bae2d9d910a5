// RUN: tilewright opt %s --from fuse --to fuse
// A pointwise chain becomes one kernel, called once from @main.

// CHECK-LABEL: func.func @main
// CHECK: call @[[KERNEL:[a-z_0-9]+]](%arg0)
// CHECK-NOT: call
// CHECK: return
// CHECK: func.func private @[[KERNEL]]
// CHECK-SAME: graph.kernel = "loop"
// CHECK: math.exp
// CHECK: arith.addf
func.func @main(%x: tensor<?xf32, ["n"]> {graph.name = "x"}) -> (tensor<?xf32, ["n"]> {graph.name = "y"})
    attributes {graph.symbols = ["n"]} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (tensor<?xf32, ["n"]>) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> tensor<?xf32, ["n"]>
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (tensor<?xf32, ["n"]>) -> f32
    %b = "graph.element"(%x) : (tensor<?xf32, ["n"]>) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> tensor<?xf32, ["n"]>
  return %1 : tensor<?xf32, ["n"]>
}
