// RUN: tilewright opt %s --from tile --to plan-host --target sm_90a
// Parts of a joined tensor have its buffer: the kernels that make them write to it, at the offset in their maps, the
// first of them long before the last. The whole is the model's output.

!x = tensor<64x128xf16>
!w = tensor<128x64xf16>
!part = tensor<64x64xf16>
!y = tensor<64x128xf16>

// CHECK-DAG: %[[X:.*]] = "host.declare"(){{.*}}kind = "input"
// CHECK-DAG: %[[Y:.*]] = "host.declare"(){{.*}}kind = "output"{{.*}}shape = ["64", "128"]
// CHECK-NOT: kind = "temporary"
// CHECK: "host.launch"(%[[X]], %{{.*}}, %[[Y]], %[[X]], %{{.*}}, %[[Y]])
// CHECK-NOT: offset
// CHECK-SAME: shape = ["64", "64"], strides = ["256"]{{.*}}kernel = "dot_0"
// CHECK: "host.launch"(%[[X]], %{{.*}}, %[[Y]], %[[X]], %{{.*}}, %[[Y]])
// CHECK-SAME: offset = "128", shape = ["64", "64"], strides = ["256"]{{.*}}kernel = "dot_0"
// CHECK-NOT: host.copy
func.func @main(%x: !x {graph.name = "x"}) -> (!y {graph.name = "y"}) {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %0 = call @dot_0(%x, %w) : (!x, !w) -> !part
  %1 = call @dot_1(%x, %w) : (!x, !w) -> !part
  %2 = "graph.join"() ({
    gpu.yield %0, %1 : !part, !part
  }) {axis = 1 : i64} : () -> !y
  return %2 : !y
}
func.func private @dot_0(%x: !x, %w: !w) -> !part attributes {graph.kernel = "dot", graph.nodes = [], graph.places = [[], [], [["64", "128"], ["0", "0"]]]} {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !part
  return %0 : !part
}
func.func private @dot_1(%x: !x, %w: !w) -> !part attributes {graph.kernel = "dot", graph.nodes = [], graph.places = [[], [], [["64", "128"], ["0", "64"]]]} {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !part
  return %0 : !part
}
