// RUN: tilewright opt %s --from tile --target sm_80
// Attention goes over the keys once: scores, their maximum and sum so far, and the output are carried; when the maximum
// grows, what was added before is scaled down. Only the output is stored. Values are copied during the first product, the
// next keys during the softmax and the second; queries and weights are operands in registers.

!q = tensor<?x4x?x64xf16, ["n", "4", "s", "64"]>
!o = tensor<?x4x?x64xf32, ["n", "4", "s", "64"]>
!scores = tensor<?x4x?x?xf32, ["n", "4", "s", "s"]>
!weights = tensor<?x4x?x?xf16, ["n", "4", "s", "s"]>
!line = tensor<?x4x?x1xf32, ["n", "4", "s", "1"]>

// CHECK: func.func @attention_0(%[[Q:[^:]*]]: memref<?xf16>, %[[K:[^:]*]]: memref<?xf16>,
// CHECK-SAME: %[[V:[^:]*]]: memref<?xf16>, %[[O:[^:]*]]: memref<?xf32>, %{{[^:]*}}: index, %[[S:[^:]*]]: index)
// CHECK: "tile.copy"(%[[QUERIES:.*]], %c0, %[[Q]],
// CHECK: %[[HELD:.*]] = "tile.fragments"(%[[QUERIES]], %c0)
// CHECK: scf.if
// CHECK: "tile.copy"(%[[KEYS:.*]], %c0, %[[K]],
// CHECK: %[[RESULT:.*]]:3 = scf.for %[[KEY:.*]] = %c0 to %[[S]] step %{{.*}} iter_args(
// CHECK-SAME: %[[TOP:[^ ]*]] = %{{[^,]*}}, %[[SUM:[^ ]*]] = %{{[^,]*}}, %[[OUTPUT:[^ ]*]] = %{{[^,]*}})
// CHECK: "tile.wait"() {pending = 0 : i64}
// CHECK: "tile.barrier"
// CHECK: "tile.copy"(%[[VALUES:.*]], %c0, %[[V]],
// CHECK: %[[SCORES:.*]] = "tile.dot"(%[[HELD]], %[[KEYS]],
// CHECK: "tile.map"(%{{.*}}, %[[KEY]], %[[S]], %[[S]])
// CHECK: "tile.element"(%[[SCORES]])
// CHECK: fill = 0xFF800000 : f32
// CHECK: %[[MAXIMUM:.*]] = "tile.reduce"{{.*}}kind = "max"
// CHECK-DAG: "tile.element"(%[[TOP]])
// CHECK-DAG: "tile.element"(%[[MAXIMUM]])
// CHECK: math.exp2
// CHECK: math.exp2
// CHECK: "tile.reduce"{{.*}}kind = "sum"
// CHECK: %[[POWERS:.*]] = "tile.pack"
// CHECK: "tile.element"(%[[OUTPUT]])
// CHECK: arith.mulf
// CHECK: "tile.wait"() {pending = 0 : i64}
// CHECK: "tile.barrier"
// CHECK: scf.if
// CHECK: "tile.copy"(%[[KEYS]], %c0, %[[K]],
// CHECK: "tile.dot"(%[[POWERS]], %[[VALUES]],
// CHECK: scf.yield
// CHECK: "tile.element"(%[[RESULT]]#1)
// CHECK: arith.divf
// CHECK: "tile.element"(%[[RESULT]]#2)
// CHECK: arith.mulf
// CHECK: %[[MEAN:.*]] = "tile.element"
// CHECK: "tile.store"(%[[MEAN]], %[[O]],
// CHECK-NOT: tile.store
func.func private @attention_0(%q: !q, %k: !q, %v: !q) -> !o attributes {graph.kernel = "attention", graph.nodes = []} {
  %scores = "graph.matmul"(%q, %k) {transpose_left = 0 : i64, transpose_right = 1 : i64} : (!q, !q) -> !scores
  %top = "graph.reduce"(%scores) {kind = "max", axes = array<i64: 3>} : (!scores) -> !line
  %power = "graph.map"() ({
    %a = "graph.element"(%scores) : (!scores) -> f32
    %b = "graph.element"(%top) : (!line) -> f32
    %c = arith.subf %a, %b : f32
    %d = math.exp %c : f32
    gpu.yield %d : f32
  }) : () -> !scores
  %sum = "graph.reduce"(%power) {kind = "sum", axes = array<i64: 3>} : (!scores) -> !line
  %weights = "graph.map"() ({
    %a = "graph.element"(%power) : (!scores) -> f32
    %b = "graph.element"(%sum) : (!line) -> f32
    %c = arith.divf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !scores
  %half = "graph.map"() ({
    %a = "graph.element"(%weights) : (!scores) -> f32
    %b = arith.truncf %a : f32 to f16
    gpu.yield %b : f16
  }) : () -> !weights
  %y = "graph.matmul"(%half, %v) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!weights, !q) -> !o
  return %y : !o
}
