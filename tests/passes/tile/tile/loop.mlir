// RUN: tilewright opt %s --from tile
// A loop kernel is one map over the flat result: a thread computes four neighbours, read and stored with 16 bytes. The
// row that is added repeats every 8 elements, so that four neighbours are neighbours there as well.

!x = tensor<?x8xf32, ["n", "8"]>
!row = tensor<8xf32>

// CHECK: func.func @loop_0(%[[X:.*]]: memref<?xf32>, %[[ROW:.*]]: memref<?xf32>, %[[Y:.*]]: memref<?xf32>,
// CHECK-SAME: %[[N:.*]]: index)
// CHECK-SAME: vector = 4
// CHECK-SAME: tile.threads = 128
// CHECK: %[[SIZE:.*]] = arith.muli %[[N]], %c8
// CHECK: "tile.map"(%c0, %{{.*}}, %c1, %[[SIZE]])
// CHECK: ^bb0(%{{.*}}: index, %[[FLAT:.*]]: index):
// CHECK: %[[A:.*]] = "tile.load"(%[[X]], %[[FLAT]]) {lanes = "contiguous"}
// CHECK: %[[COLUMN:.*]] = arith.remui %[[FLAT]], %c8
// CHECK: %[[B:.*]] = "tile.load"(%[[ROW]], %[[COLUMN]]) {lanes = "contiguous"}
// CHECK: %[[SUM:.*]] = arith.addf %[[A]], %[[B]]
// CHECK: "tile.store"(%[[SUM]], %[[Y]], %[[FLAT]]) {lanes = "contiguous"}
// CHECK: layout = "blocked<1x128, vector=4>"
func.func private @loop_0(%x: !x, %row: !row) -> !x attributes {graph.kernel = "loop", graph.nodes = ["Add_0"]} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = "graph.element"(%row) : (!row) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %0 : !x
}

// -----
// A size that nothing divides is stored element by element.

!x = tensor<?xf32, ["n"]>

// CHECK: func.func @loop_0
// CHECK-SAME: vector = 1
// CHECK: layout = "blocked<1x128, vector=1>"
func.func private @loop_0(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  return %0 : !x
}

// -----
// Of f16, eight are 16 bytes.

!x = tensor<?x8xf16, ["n", "8"]>

// CHECK: func.func @loop_0
// CHECK-SAME: vector = 8
// CHECK: "tile.load"{{.*}}lanes = "contiguous"{{.*}} -> f16
func.func private @loop_0(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f16
    %b = arith.negf %a : f16
    gpu.yield %b : f16
  }) : () -> !x
  return %0 : !x
}

// -----
// A size that is a multiple of what a block computes needs no bound.

!x = tensor<8x128xf32>

// CHECK: "tile.map"
// CHECK: {full = ["rows", "columns"]
func.func private @loop_0(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = arith.negf %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  return %0 : !x
}

// -----
// Two results are two stores.

!x = tensor<?x8xf32, ["n", "8"]>

// CHECK: func.func @loop_0(%[[X:[^:]*]]: memref<?xf32>, %[[Y:[^:]*]]: memref<?xf32>, %[[Z:[^:]*]]: memref<?xf32>,
// CHECK-SAME: %{{.*}}: index)
// CHECK-COUNT-1: "tile.load"(%[[X]],
// CHECK: %[[EXP:.*]] = math.exp
// CHECK-NEXT: "tile.store"(%[[EXP]], %[[Y]],
// CHECK: %[[NEGATIVE:.*]] = arith.negf %[[EXP]]
// CHECK-NEXT: "tile.store"(%[[NEGATIVE]], %[[Z]],
func.func private @loop_0(%x: !x) -> (!x, !x) attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!x) -> f32
    %b = arith.negf %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  return %0, %1 : !x, !x
}
