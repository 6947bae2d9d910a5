// RUN: tilewright opt %s --from tile --target sm_90a
// Causal attention on Hopper, one head of keys for four of queries: tiles of keys are fetched from the diagonal down, by
// head / 4. A consumer group starts the scores of a tile, then the results of the tile before, and hands the tensor
// cores to the other group; the softmax runs meanwhile. Only tiles on the diagonal compare positions; the scale is left
// to the exponential.

!q = tensor<2x8x?x128xf16, ["2", "8", "s", "128"]>
!k = tensor<2x2x?x128xf16, ["2", "2", "s", "128"]>
!k5 = tensor<2x2x1x?x128xf16, ["2", "2", "1", "s", "128"]>
!many = tensor<2x2x4x?x128xf16, ["2", "2", "4", "s", "128"]>
!scores = tensor<2x8x?x?xf32, ["2", "8", "s", "s"]>
!weights = tensor<2x8x?x?xf16, ["2", "8", "s", "s"]>
!line = tensor<2x8x?x1xf32, ["2", "8", "s", "1"]>

// CHECK: func.func @attention_0
// CHECK-SAME: !tile.tensor_map<f16, [64, 128, 1], "128b">, {{.*}}!tile.tensor_map<f16, [64, 128, 1, 1], "128b">
// CHECK-SAME: tile.schedule = {groups = 2 : i64, keys = 128 : i64, rows = 128 : i64, stages = 3 : i64}
// CHECK: %[[QUERY:.*]] = "tile.allocate"() {stages = 1 : i64}
// CHECK: %[[KEY:.*]] = "tile.allocate"() {stages = 3 : i64}{{.*}}[128, 128], f16, "shared<columns, line=64, swizzle=128>"
// CHECK: %[[VALUE:.*]] = "tile.allocate"() {stages = 3 : i64}{{.*}}[128, 128], f16, "shared<rows, line=64, swizzle=128>"
// CHECK: "tile.allocate"(%[[QUERY]])
// CHECK: %[[TURNS:.*]] = "tile.make_barriers"() {arrivals = 4 : i64, count = 2 : i64}
// CHECK: "tile.warps"() ({
// CHECK: %[[GROUP:.*]] = "tile.group"()
// CHECK: "tile.await"(%[[TURNS]], %[[GROUP]],
// CHECK: "tile.dot"(%[[QUERY]], %[[KEY]],
// CHECK: arith.cmpi sle
// CHECK: %[[FIRST:.*]] = "tile.pack"
// The diagonal, then all the rest:
// CHECK: scf.for
// CHECK: arith.cmpi sle
// CHECK: scf.for {{[^(]*}}iter_args(%{{[^,]*}}, %{{[^,]*}}, %[[OUTPUT:[^ ]*]] = %{{[^,]*}}, %[[WEIGHTS:[^ ]*]] =
// CHECK: "tile.await"(%[[TURNS]], %[[GROUP]],
// CHECK: %[[SCORES:.*]] = "tile.dot"(%[[QUERY]], %[[KEY]],
// CHECK: %[[RESULTS:.*]] = "tile.dot"(%[[WEIGHTS]], %[[VALUE]], %[[OUTPUT]],
// CHECK: "tile.arrive"(%[[TURNS]],
// CHECK: %[[DONE:.*]] = "tile.dot_wait"(%[[SCORES]]) {others = 1 : i64, pending = 1 : i64}
// CHECK-NOT: arith.cmpi sle
// CHECK: "tile.reduce"(%[[DONE]]){{.*}}kind = "max"
// CHECK: arith.constant 0.127517432 : f32
// CHECK: math.exp2
// CHECK: "tile.dot_wait"(%[[RESULTS]]) {others = 0 : i64, pending = 0 : i64}
// CHECK: "tile.pack"
// CHECK: scf.yield
// CHECK: "tile.exchange"
// CHECK: "tile.store"
// CHECK: first = 0 : i64, registers = 240 : i64
// CHECK: "tile.warps"() ({
// CHECK: "tile.load_box"(%[[QUERY]],
// CHECK: "tile.load_box"(%[[QUERY]],
// CHECK: scf.for
// CHECK-COUNT-2: "tile.load_box"(%[[KEY]],
// CHECK-COUNT-2: "tile.load_box"(%[[VALUE]],
// CHECK: count = 4 : i64, first = 8 : i64, registers = 24 : i64
func.func private @attention_0(%q: !q, %k: !k, %v: !k) -> !q attributes {graph.kernel = "attention", graph.nodes = []} {
  %k5 = "graph.reshape"(%k) : (!k) -> !k5
  %ks = "graph.broadcast"(%k5) : (!k5) -> !many
  %keys = "graph.reshape"(%ks) : (!many) -> !q
  %v5 = "graph.reshape"(%v) : (!k) -> !k5
  %vs = "graph.broadcast"(%v5) : (!k5) -> !many
  %values = "graph.reshape"(%vs) : (!many) -> !q
  %product = "graph.matmul"(%q, %keys) {transpose_left = 0 : i64, transpose_right = 1 : i64} : (!q, !q) -> !scores
  %scores = "graph.map"() ({
    %a = "graph.element"(%product) : (!scores) -> f32
    %scale = arith.constant 0.0883883461 : f32
    %b = arith.mulf %a, %scale : f32
    %i = "graph.index"() {axis = 2 : i64} : () -> i64
    %j = "graph.index"() {axis = 3 : i64} : () -> i64
    %seen = arith.cmpi sle, %j, %i : i64
    %lowest = arith.constant 0xFF800000 : f32
    %c = arith.select %seen, %b, %lowest : f32
    gpu.yield %c : f32
  }) : () -> !scores
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
  %y = "graph.matmul"(%weights, %values) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!weights, !q) -> !q
  return %y : !q
}
