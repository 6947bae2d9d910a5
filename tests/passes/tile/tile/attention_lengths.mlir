// RUN: tilewright opt %s --from tile --target sm_80
// How many keys an entry has is read once, in front of the loop: it ends with the last tile that holds one of them.

!q = tensor<3x4x16x64xf16>
!k = tensor<3x4x512x64xf16>
!o = tensor<3x4x16x64xf32>
!scores = tensor<3x4x16x512xf32>
!weights = tensor<3x4x16x512xf16>
!line = tensor<3x4x16x1xf32>
!lengths = tensor<3xi64>

// CHECK: func.func @attention_0(%{{.*}}, %[[LENGTHS:[^:]*]]: memref<?xi64>,
// CHECK: %[[LENGTH:.*]] = "tile.load"(%[[LENGTHS]], %{{.*}}) {lanes = "uniform"} : (memref<?xi64>, index) -> i64
// CHECK: %[[LOW:.*]] = arith.minsi %[[LENGTH]],
// CHECK: %[[KEPT:.*]] = arith.maxsi %[[LOW]],
// CHECK: %[[NUMBER:.*]] = arith.index_cast %[[KEPT]] : i64 to index
// CHECK: %[[END:.*]] = arith.minsi %[[NUMBER]],
// CHECK: scf.for %{{.*}} to %[[END]] step
func.func private @attention_0(%q: !q, %k: !k, %v: !k, %lengths: !lengths) -> !o
    attributes {graph.kernel = "attention", graph.nodes = []} {
  %scores = "graph.matmul"(%q, %k) {transpose_left = 0 : i64, transpose_right = 1 : i64} : (!q, !k) -> !scores
  %seen = "graph.map"() ({
    %a = "graph.element"(%scores) : (!scores) -> f32
    %entry = "graph.index"() {axis = 0 : i64} : () -> i64
    %key = "graph.index"() {axis = 3 : i64} : () -> i64
    %length = "graph.element_at"(%lengths, %entry) : (!lengths, i64) -> i64
    %there = arith.cmpi slt, %key, %length : i64
    %lowest = arith.constant 0xFF800000 : f32
    %b = arith.select %there, %a, %lowest : f32
    gpu.yield %b : f32
  }) : () -> !scores
  %top = "graph.reduce"(%seen) {kind = "max", axes = array<i64: 3>} : (!scores) -> !line
  %power = "graph.map"() ({
    %a = "graph.element"(%seen) : (!scores) -> f32
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
  %y = "graph.matmul"(%weights, %v) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!weights, !k) -> !o
  return %y : !o
}
