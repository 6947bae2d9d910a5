// RUN: tilewright opt %s --from tile --to plan-host
// An operation that fusion gave no kernel is our bug, named with its place.

!x = tensor<?xf32, ["n"]>

// ERROR: stage 'plan-host'
// ERROR: 'graph.reduce' is left in @main after fusion
func.func @main(%x: !x {graph.name = "x"}) -> (tensor<1xf32> {graph.name = "y"}) {
  %0 = "graph.reduce"(%x) {kind = "sum", axes = array<i64: 0>} : (!x) -> tensor<1xf32>
  return %0 : tensor<1xf32>
}
