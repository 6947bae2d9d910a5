// RUN: tilewright opt %s --from tile --to plan-host --target sm_90a
// A kernel that fetches boxes gets a tensor map of each operand, and of its result, which it stores in boxes: the
// buffer, its symbolic shape, strides in bytes, and the box. The grid is no larger than the card, since such a kernel goes on to further tiles by itself.

!x = tensor<?x128xf16, ["n", "128"]>
!w = tensor<128x256xf16>
!y = tensor<?x256xf32, ["n", "256"]>

// CHECK-DAG: %[[X:.*]] = "host.declare"(){{.*}}kind = "input"
// CHECK-DAG: %[[W:.*]] = "host.declare"(){{.*}}kind = "weight"
// CHECK-DAG: %[[Y:.*]] = "host.declare"(){{.*}}kind = "output"
// CHECK: "host.launch"(%[[X]], %[[W]], %[[Y]], %[[X]], %[[W]], %[[Y]]) {arguments = [0, 1, 2, "n",
// CHECK-SAME: {{{.*}}buffer = 3 : i64, data_type = "float16"{{.*}}shape = ["128", "n"], strides = ["256"]
// CHECK-SAME: {{{.*}}buffer = 4 : i64, data_type = "float16"{{.*}}shape = ["256", "128"], strides = ["512"]
// CHECK-SAME: {{{.*}}buffer = 5 : i64, data_type = "float32"{{.*}}shape = ["256", "n"], strides = ["1024"]
// CHECK-SAME: grid = ["min(132,
func.func @main(%x: !x {graph.name = "x"}) -> (!y {graph.name = "y"}) {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %0 = call @dot_0(%x, %w) : (!x, !w) -> !y
  return %0 : !y
}
func.func private @dot_0(%x: !x, %w: !w) -> !y attributes {graph.kernel = "dot", graph.nodes = []} {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !y
  return %0 : !y
}
