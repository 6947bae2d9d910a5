// RUN: tilewright opt %s --from simplify --to simplify
// An operation that lacks an attribute is refused where the file is read, with its line.

// ERROR: wrong_operation.mlir
// ERROR: 'graph.reduce' op attribute "kind" is expected but not provided
func.func @main(%x: tensor<4x8xf32> {graph.name = "x"}) -> (tensor<4x1xf32> {graph.name = "y"}) {
  %0 = "graph.reduce"(%x) {axes = array<i64: 1>} : (tensor<4x8xf32>) -> tensor<4x1xf32>
  return %0 : tensor<4x1xf32>
}
