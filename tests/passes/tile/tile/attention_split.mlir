// RUN: tilewright opt %s --from tile --target sm_90a
// One query for a long cache: eight blocks of a cluster, with tiles of 64 keys because a block should have two of them,
// each take a run of tiles, bring their sums to the largest maximum and add them up.

!q = tensor<1x8x1x128xf16>
!k = tensor<1x8x1024x128xf16>
!scores = tensor<1x8x1x1024xf32>
!weights = tensor<1x8x1x1024xf16>
!line = tensor<1x8x1x1xf32>

// CHECK: func.func @attention_0
// CHECK-SAME: tile.cluster = 8 : i64
// CHECK-SAME: tile.schedule = {groups = 1 : i64, keys = 64 : i64, rows = 64 : i64, stages = 4 : i64}
// CHECK: %[[KEY:.*]] = "tile.allocate"() {stages = 4 : i64}{{.*}}"shared<columns, line=64, swizzle=128>"
// CHECK: %[[PEAKS:.*]] = "tile.allocate"() {{.*}}[64, 1], f32
// CHECK: %[[TOTALS:.*]] = "tile.allocate"() {{.*}}[64, 1], f32
// CHECK: %[[PARTIAL:.*]] = "tile.allocate"(%[[KEY]])
// CHECK: "tile.warps"() ({
// CHECK: "tile.put"(%[[PEAKS]],
// CHECK: "tile.cluster_barrier"()
// CHECK: "tile.combine_blocks"(%[[PEAKS]], {{.*}}) {blocks = 8 : i64, kind = "max"}
// CHECK: "tile.put"(%[[TOTALS]],
// CHECK: "tile.put"(%[[PARTIAL]],
// CHECK: "tile.cluster_barrier"()
// CHECK: "tile.combine_blocks"(%[[PARTIAL]], {{.*}}) {blocks = 8 : i64, kind = "sum"}
// CHECK: "tile.combine_blocks"(%[[TOTALS]], {{.*}}) {blocks = 8 : i64, kind = "sum"}
// CHECK: "tile.store"
// CHECK: "tile.cluster_barrier"()
// CHECK: "tile.warps"() ({
// CHECK-COUNT-3: "tile.cluster_barrier"()
// CHECK-NOT: "tile.cluster_barrier"()
func.func private @attention_0(%q: !q, %k: !k, %v: !k) -> !q attributes {graph.kernel = "attention", graph.nodes = []} {
  %scores = "graph.matmul"(%q, %k) {transpose_left = 0 : i64, transpose_right = 1 : i64} : (!q, !k) -> !scores
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
    %d = arith.truncf %c : f32 to f16
    gpu.yield %d : f16
  }) : () -> !weights
  %y = "graph.matmul"(%weights, %v) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!weights, !k) -> !q
  return %y : !q
}
