// RUN: tilewright opt %s --from multiply-integers
// Unsigned weights around 131, as ConvInteger has them: the integers as they are stored, and the sums of the input over
// each window, first over the channels, which the weights' zero point multiplies.

!x = tensor<?x16x9x9xui8, ["n", "16", "9", "9"]>
!i = tensor<?x16x9x9xi32, ["n", "16", "9", "9"]>
!w = tensor<8x16x3x3xui8>
!b = tensor<8x16x3x3xi32>
!y = tensor<?x8x9x9xi32, ["n", "8", "9", "9"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[W:.*]] = "graph.weight"() {handle = "w"}
// CHECK: %[[C:.*]] = "graph.convolution"(%arg0, %[[W]]) {{.*}} -> tensor<?x8x9x9xi32, ["n", "8", "9", "9"]>
// CHECK: %[[CHANNELS:.*]] = "graph.reduce"({{.*}}) {axes = array<i64: 1>, kind = "sum"} : {{.*}} -> tensor<?x1x9x9xi32, ["n", "1", "9", "9"]>
// CHECK: %[[WINDOWS:.*]] = "graph.convolution"(%[[CHANNELS]], {{.*}}) {{.*}}pads = ["1", "1", "1", "1"]{{.*}} -> tensor<?x1x9x9xi32, ["n", "1", "9", "9"]>
// CHECK: "graph.map"() ({
// CHECK-DAG: %[[TOTAL:.*]] = "graph.element"(%[[C]])
// CHECK-DAG: %[[SUM:.*]] = "graph.element"(%[[WINDOWS]])
// CHECK: %[[ADDED:.*]] = arith.muli %[[SUM]], %c131_i32
// CHECK: arith.subi %[[TOTAL]], %[[ADDED]]
func.func @main(%x: !x) -> !y {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %a = "graph.map"() ({
    %0 = "graph.element"(%x) : (!x) -> i8
    %1 = arith.extui %0 : i8 to i32
    gpu.yield %1 : i32
  }) : () -> !i
  %b = "graph.map"() ({
    %0 = "graph.element"(%w) : (!w) -> i8
    %1 = arith.extui %0 : i8 to i32
    %zero = arith.constant 131 : i32
    %2 = arith.subi %1, %zero : i32
    gpu.yield %2 : i32
  }) : () -> !b
  %y = "graph.convolution"(%a, %b) {groups = 1 : i64, strides = array<i64: 1, 1>, pads = ["1", "1", "1", "1"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!i, !b) -> !y
  return %y : !y
}
