// RUN: tilewright opt %s --from fold-normalisations --precision f16
// What adds a normalised tensor to a product reads the tensor itself, and normalises it once more.

!x = tensor<64x128xf32>
!line = tensor<64x1xf32>
!w = tensor<128x128xf32>

// CHECK-LABEL: func.func @main
// CHECK: %[[X:.*]] = "graph.map"() ({
// CHECK: %[[FIRST:.*]] = "graph.matmul"(%[[X]], %{{.*}})
// CHECK: %[[SECOND:.*]] = "graph.matmul"(%{{.*}}, %{{.*}})
// CHECK: %[[ROW:.*]] = "graph.weight"() {handle = "normalised"} : () -> tensor<128xf32>
// CHECK: %[[AGAIN:.*]] = "graph.map"() ({
// CHECK: "graph.element"(%[[X]])
// CHECK: "graph.element"(%[[ROW]])
// CHECK: "graph.element"(%arg1)
// CHECK: "graph.map"() ({
// CHECK: "graph.element"(%[[SECOND]])
// CHECK: "graph.element"(%[[AGAIN]])
func.func @main(%given: !x, %scale: !line) -> !x {
  %x = "graph.map"() ({
    %a = "graph.element"(%given) : (!x) -> f32
    %b = arith.addf %a, %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %v = "graph.weight"() {handle = "v"} : () -> !w
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %gamma = "graph.weight"() {handle = "gamma"} : () -> tensor<128xf32>
  %normal = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = "graph.element"(%scale) : (!line) -> f32
    %c = arith.mulf %a, %b : f32
    %d = "graph.element"(%gamma) : (tensor<128xf32>) -> f32
    %e = arith.mulf %c, %d : f32
    gpu.yield %e : f32
  }) : () -> !x
  %first = "graph.matmul"(%normal, %v) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  %second = "graph.matmul"(%first, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  %sum = "graph.map"() ({
    %a = "graph.element"(%second) : (!x) -> f32
    %b = "graph.element"(%normal) : (!x) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %sum : !x
}
