// RUN: tilewright opt %s --from tile
// Short lines stay in registers: sixteen lines a block, a line read once, reduced, and read again from its tile.

!x = tensor<?x32xf32, ["n", "32"]>
!line = tensor<?x1xf32, ["n", "1"]>

// CHECK: func.func @row_0(%[[X:[^:]*]]: memref<?xf32>, %[[Y:[^:]*]]: memref<?xf32>, %[[N:[^:]*]]: index)
// CHECK: %[[TILE:.*]] = "tile.map"(%{{.*}}, %c0, %[[N]], %c32)
// CHECK: "tile.load"(%[[X]], %{{.*}}) {lanes = "contiguous"}
// CHECK: fill = 0.000000e+00
// CHECK-SAME: full = ["columns"]
// CHECK-SAME: layout = "blocked<16x8, vector=4>"
// CHECK-NEXT: %[[SUM:.*]] = "tile.reduce"(%[[TILE]]) {axis = 1 : i64, kind = "sum"}
// CHECK-NOT: tile.load
// CHECK-DAG: %[[A:.*]] = "tile.element"(%[[TILE]])
// CHECK-DAG: %[[B:.*]] = "tile.element"(%[[SUM]])
// CHECK: arith.divf %[[A]], %[[B]]
// CHECK-NOT: tile.load
// CHECK: "tile.store"
func.func private @row_0(%x: !x) -> !x attributes {graph.kernel = "row", graph.nodes = []} {
  %sum = "graph.reduce"(%x) {kind = "sum", axes = array<i64: 1>} : (!x) -> !line
  %1 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = "graph.element"(%sum) : (!line) -> f32
    %c = arith.divf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %1 : !x
}

// -----
// A line of unknown length goes through in chunks, once to reduce and once to store.

!x = tensor<?x?xf32, ["n", "s"]>
!line = tensor<?x1xf32, ["n", "1"]>

// CHECK: func.func @row_0(%[[X:[^:]*]]: memref<?xf32>, %[[Y:[^:]*]]: memref<?xf32>, %[[N:[^:]*]]: index,
// CHECK-SAME: %[[S:[^:]*]]: index)
// CHECK: %[[ZERO:.*]] = "tile.full"
// CHECK: %[[PARTIAL:.*]] = scf.for %{{.*}} = %c0 to %[[S]] step %[[CHUNK:.*]] iter_args(%[[SO_FAR:.*]] = %[[ZERO]])
// CHECK: %[[PART:.*]] = "tile.map"
// CHECK: "tile.load"(%[[X]]
// CHECK-DAG: "tile.element"(%[[SO_FAR]])
// CHECK-DAG: "tile.element"(%[[PART]])
// CHECK: arith.addf
// CHECK: %[[SUM:.*]] = "tile.reduce"(%[[PARTIAL]])
// CHECK: scf.for %{{.*}} = %c0 to %[[S]] step %[[CHUNK]]
// CHECK-DAG: "tile.load"(%[[X]]
// CHECK-DAG: "tile.element"(%[[SUM]])
// CHECK: "tile.store"{{.*}}%[[Y]]
func.func private @row_0(%x: !x) -> !x attributes {graph.kernel = "row", graph.nodes = []} {
  %sum = "graph.reduce"(%x) {kind = "sum", axes = array<i64: 1>} : (!x) -> !line
  %1 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = "graph.element"(%sum) : (!line) -> f32
    %c = arith.divf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %1 : !x
}

// -----
// Where the innermost dimension is kept the tile is turned round: threads still read neighbours, and reduce over rows.

!x = tensor<?x64x32xf32, ["n", "64", "32"]>
!y = tensor<?x1x32xf32, ["n", "1", "32"]>

// CHECK: "tile.load"{{.*}}lanes = "contiguous"
// CHECK: fill = 0xFF800000 : f32
// CHECK-SAME: layout = "blocked<32x8, vector=4>"
// CHECK: "tile.reduce"{{.*}}axis = 0 : i64, kind = "max"
func.func private @row_0(%x: !x) -> !y attributes {graph.kernel = "row", graph.nodes = []} {
  %0 = "graph.reduce"(%x) {kind = "max", axes = array<i64: 1>} : (!x) -> !y
  return %0 : !y
}

// -----
// A sum of f16 adds up in f32 and rounds once.

!x = tensor<?x32xf16, ["n", "32"]>
!line = tensor<?x1xf16, ["n", "1"]>

// CHECK: arith.extf %{{.*}} : f16 to f32
// CHECK: "tile.reduce"{{.*}} -> !tile.tile<[{{.*}}], f32
// CHECK: arith.truncf %{{.*}} : f32 to f16
// CHECK: "tile.store"{{.*}} : (f16, memref<?xf16>, index)
func.func private @row_0(%x: !x) -> !line attributes {graph.kernel = "row", graph.nodes = []} {
  %0 = "graph.reduce"(%x) {kind = "sum", axes = array<i64: 1>} : (!x) -> !line
  return %0 : !line
}

// -----
// Two reductions are two phases; the second reads what the first one kept.

!x = tensor<?x32xf32, ["n", "32"]>
!line = tensor<?x1xf32, ["n", "1"]>

// CHECK-COUNT-1: "tile.load"
// CHECK-NOT: tile.load
// CHECK: %[[TOP:.*]] = "tile.reduce"{{.*}}kind = "max"
// CHECK: "tile.element"(%[[TOP]])
// CHECK: math.exp
// CHECK: "tile.reduce"{{.*}}kind = "sum"
func.func private @row_0(%x: !x) -> !line attributes {graph.kernel = "row", graph.nodes = []} {
  %top = "graph.reduce"(%x) {kind = "max", axes = array<i64: 1>} : (!x) -> !line
  %power = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = "graph.element"(%top) : (!line) -> f32
    %c = arith.subf %a, %b : f32
    %d = math.exp %c : f32
    gpu.yield %d : f32
  }) : () -> !x
  %sum = "graph.reduce"(%power) {kind = "sum", axes = array<i64: 1>} : (!x) -> !line
  return %sum : !line
}

// -----
// Two long lines are shared by clusters of eight blocks: each has a part of the places, leaves its own sum in shared
// memory, and adds up those of all. The first alone stores what there is once a line.

!x = tensor<2x65536xf32>
!line = tensor<2x1xf32>

// CHECK: func.func @row_0({{.*}}tile.cluster = 8 : i64
// CHECK: %[[RANK:.*]] = arith.remui %{{.*}}, %c8
// CHECK: %[[START:.*]] = arith.muli %[[RANK]], %c8192
// CHECK: "tile.map"(%{{.*}}, %[[START]],
// CHECK: %[[OWN:.*]] = "tile.reduce"
// CHECK: %[[SHARED:.*]] = "tile.allocate"
// CHECK: "tile.put"(%[[SHARED]], %{{.*}}, %[[OWN]])
// CHECK-NEXT: "tile.cluster_barrier"
// CHECK-NEXT: %[[ALL:.*]] = "tile.combine_blocks"(%[[SHARED]], %{{.*}}) {blocks = 8 : i64, kind = "sum"}
// CHECK: %[[FIRST:.*]] = arith.cmpi eq, %[[START]], %c0
// CHECK: scf.if %[[FIRST]]
// CHECK: "tile.store"
// CHECK: "tile.map"(%{{.*}}, %[[START]],
// CHECK: "tile.element"(%[[ALL]])
// CHECK: "tile.store"
// CHECK: "tile.cluster_barrier"
// CHECK-NEXT: return
func.func private @row_0(%x: !x) -> (!line, !x) attributes {graph.kernel = "row", graph.nodes = []} {
  %0 = "graph.reduce"(%x) {kind = "sum", axes = array<i64: 1>} : (!x) -> !line
  %1 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = "graph.element"(%0) : (!line) -> f32
    %c = arith.subf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %0, %1 : !line, !x
}
