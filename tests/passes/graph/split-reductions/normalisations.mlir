// RUN: tilewright opt %s --from split-reductions --target sm_90a
// The mean and the squared differences of one line of a million are computed from parts that a block has in registers,
// and joined; what normalises reads them as before.

!x = tensor<1x256x4096xf32>
!s = tensor<1x1x1xf32>

// CHECK-LABEL: func.func @main
// CHECK: %[[PARTS:.*]] = "graph.reshape"(%arg0) {{.*}} -> tensor<1x256x1x4096xf32>
// CHECK: %[[SUMS:.*]] = "graph.reduce"(%[[PARTS]]) {axes = array<i64: 2, 3>, kind = "sum"} {{.*}} -> tensor<1x256x1x1xf32>
// CHECK: %[[SPREAD:.*]] = "graph.reduce"({{.*}}) {axes = array<i64: 2, 3>, kind = "sum"} {{.*}} -> tensor<1x256x1x1xf32>
// CHECK: %[[LINE:.*]] = "graph.reshape"(%[[SUMS]]) {{.*}} -> tensor<1x256x1xf32>
// CHECK: %[[MORE:.*]] = "graph.reshape"(%[[SPREAD]]) {{.*}} -> tensor<1x256x1xf32>
// CHECK: %[[SUM:.*]] = "graph.reduce"(%[[LINE]]) {axes = array<i64: 1>, kind = "sum"}
// CHECK: %[[MEAN:.*]] = "graph.map"
// CHECK-NEXT: "graph.element"(%[[SUM]])
// CHECK: "graph.element"(%[[MORE]])
// CHECK: "graph.element"(%[[LINE]])
// CHECK: "graph.element"(%[[MEAN]])
// CHECK: "graph.reduce"({{.*}}) {axes = array<i64: 1>, kind = "sum"} : (tensor<1x256x1xf32>) -> tensor<1x1x1xf32>
func.func @main(%x: !x) -> (!x, !s) {
  %sum = "graph.reduce"(%x) {kind = "sum", axes = array<i64: 1, 2>} : (!x) -> !s
  %mean = "graph.map"() ({
    %a = "graph.element"(%sum) : (!s) -> f32
    %n = arith.constant 1048576.0 : f32
    %b = arith.divf %a, %n : f32
    gpu.yield %b : f32
  }) : () -> !s
  %difference = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = "graph.element"(%mean) : (!s) -> f32
    %c = arith.subf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  %square = "graph.map"() ({
    %a = "graph.element"(%difference) : (!x) -> f32
    %b = arith.mulf %a, %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %squares = "graph.reduce"(%square) {kind = "sum", axes = array<i64: 1, 2>} : (!x) -> !s
  return %difference, %squares : !x, !s
}

// -----
// Lines enough, or short ones, stay one kernel.

!x = tensor<512x4096xf32>
!s = tensor<512x1xf32>

// CHECK-LABEL: func.func @main
// CHECK-COUNT-2: graph.reduce
// CHECK-NOT: graph.reduce
func.func @main(%x: !x) -> (!x, !s) {
  %sum = "graph.reduce"(%x) {kind = "sum", axes = array<i64: 1>} : (!x) -> !s
  %mean = "graph.map"() ({
    %a = "graph.element"(%sum) : (!s) -> f32
    %n = arith.constant 4096.0 : f32
    %b = arith.divf %a, %n : f32
    gpu.yield %b : f32
  }) : () -> !s
  %difference = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = "graph.element"(%mean) : (!s) -> f32
    %c = arith.subf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  %square = "graph.map"() ({
    %a = "graph.element"(%difference) : (!x) -> f32
    %b = arith.mulf %a, %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %squares = "graph.reduce"(%square) {kind = "sum", axes = array<i64: 1>} : (!x) -> !s
  return %difference, %squares : !x, !s
}
