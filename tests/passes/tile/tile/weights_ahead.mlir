// RUN: tilewright opt %s --from tile --target sm_90a
// What is a weight in every call of a kernel is asked for before the wait: as many stages as the ring has, or the tile
// steps. Behind it, steps that have theirs ask for the other operand only. A kernel that some call gives a tensor in its
// place waits with both.

!x = tensor<128x128xf16>

// CHECK: func.func @dot_0
// CHECK: "tile.prefetch_map"
// CHECK: "tile.warps"
// CHECK: "tile.single"
// CHECK: %[[STEPS:.*]] = arith.constant 2 : index
// CHECK: scf.for %[[STAGE:.*]] = %{{.*}} to %[[STEPS]] step
// CHECK: "tile.expect"(%{{[^,]*}}, %[[STAGE]])
// CHECK: "tile.load_box"
// CHECK-NOT: "tile.load_box"
// CHECK: ahead
// CHECK: "tile.await_previous"
// CHECK: "tile.dot"
// CHECK: "tile.await"
// CHECK: scf.if
// CHECK: "tile.expect"
// CHECK: "tile.load_box"
// CHECK: }
// CHECK: "tile.load_box"
// CHECK: func.func @dot_1
// CHECK-NOT: ahead
func.func @main(%x: !x) -> !x attributes {graph.symbols = []} {
  %w = "graph.weight"() {handle = "w"} : () -> !x
  %0 = call @dot_0(%x, %w) : (!x, !x) -> !x
  %1 = call @dot_1(%0, %w) : (!x, !x) -> !x
  %2 = call @dot_1(%0, %1) : (!x, !x) -> !x
  return %2 : !x
}

func.func private @dot_0(%x: !x, %w: !x) -> !x attributes {graph.kernel = "dot", graph.nodes = []} {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !x) -> !x
  return %0 : !x
}

func.func private @dot_1(%x: !x, %w: !x) -> !x attributes {graph.kernel = "dot", graph.nodes = []} {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 1 : i64} : (!x, !x) -> !x
  return %0 : !x
}
