// RUN: tilewright opt %s --from fold-constants
// A size that only a run knows is no constant, even where all tensors are; a size that is a number is one.

!x = tensor<?x2xf32, ["n", "2"]>
!row = tensor<2xi64>

// CHECK-LABEL: func.func @main
// CHECK: graph.map
// CHECK: "graph.dimension"() {expression = "n"}
// CHECK-NOT: graph.map
// CHECK: %[[FOUR:.*]] = "graph.constant"() {value = dense<[4, 8]> : tensor<2xi64>}
// CHECK: return %{{.*}}, %[[FOUR]]
func.func @main(%x: !x) -> (!row, !row) {
  %row = "graph.constant"() {value = dense<[1, 2]> : tensor<2xi64>} : () -> !row
  %0 = "graph.map"() ({
    %a = "graph.element"(%row) : (!row) -> i64
    %n = "graph.dimension"() {expression = "n"} : () -> i64
    %c = arith.muli %a, %n : i64
    gpu.yield %c : i64
  }) : () -> !row
  %1 = "graph.map"() ({
    %a = "graph.element"(%row) : (!row) -> i64
    %n = "graph.dimension"() {expression = "4"} : () -> i64
    %c = arith.muli %a, %n : i64
    gpu.yield %c : i64
  }) : () -> !row
  return %0, %1 : !row, !row
}
