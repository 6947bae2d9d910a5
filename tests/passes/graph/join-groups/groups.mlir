// RUN: tilewright opt %s --from join-groups --target sm_90a --precision f16 | FileCheck %s --check-prefix=HALVES
// RUN: tilewright opt %s --from join-groups --target sm_90a --precision strict | FileCheck %s --check-prefix=KEPT
// RUN: tilewright opt %s --from join-groups --target sm_80 --precision f16 | FileCheck %s --check-prefix=KEPT
// Sixteen groups of four channels fill a line of 64. Groups of half a line more become two. Where the count does not
// divide, lines are shorter; depthwise convolutions, groups of whole lines and few pixels stay.

!x = tensor<?x128x8x8xf32, ["n", "128", "8", "8"]>
!w = tensor<128x4x3x3xf32>
!x192 = tensor<?x192x8x8xf32, ["n", "192", "8", "8"]>
!w96 = tensor<192x96x3x3xf32>
!x24 = tensor<?x24x8x8xf32, ["n", "24", "8", "8"]>
!w8 = tensor<24x8x3x3xf32>
!d = tensor<128x1x3x3xf32>
!l = tensor<128x64x3x3xf32>
!few = tensor<1x128x4x4xf32>

// HALVES: %[[W:.*]] = "graph.weight"() {handle = "w.joined"} : () -> tensor<128x64x3x3xf32>
// HALVES: "graph.convolution"(%arg0, %[[W]]) {{.*}}groups = 2
// HALVES: %[[W96:.*]] = "graph.weight"() {handle = "w96.joined"} : () -> tensor<192x192x3x3xf32>
// HALVES: "graph.convolution"(%arg1, %[[W96]]) {{.*}}groups = 1
// HALVES: "graph.convolution"(%arg2, {{.*}}groups = 3
// HALVES: "graph.convolution"(%arg0, {{.*}}groups = 128
// HALVES: "graph.convolution"(%arg0, {{.*}}groups = 2
// HALVES: "graph.convolution"(%arg3, {{.*}}groups = 32
// KEPT-NOT: joined
func.func @main(%x: !x, %x192: !x192, %x24: !x24, %few: !few) -> (!x, !x192, !x24, !x, !x, !few) {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %w96 = "graph.weight"() {handle = "w96"} : () -> !w96
  %w8 = "graph.weight"() {handle = "w8"} : () -> !w8
  %d = "graph.weight"() {handle = "d"} : () -> !d
  %l = "graph.weight"() {handle = "l"} : () -> !l
  %0 = "graph.convolution"(%x, %w) {groups = 32 : i64, strides = array<i64: 1, 1>, pads = ["1", "1", "1", "1"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x, !w) -> !x
  %1 = "graph.convolution"(%x192, %w96) {groups = 2 : i64, strides = array<i64: 1, 1>, pads = ["1", "1", "1", "1"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x192, !w96) -> !x192
  %2 = "graph.convolution"(%x24, %w8) {groups = 3 : i64, strides = array<i64: 1, 1>, pads = ["1", "1", "1", "1"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x24, !w8) -> !x24
  %3 = "graph.convolution"(%x, %d) {groups = 128 : i64, strides = array<i64: 1, 1>, pads = ["1", "1", "1", "1"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x, !d) -> !x
  %4 = "graph.convolution"(%x, %l) {groups = 2 : i64, strides = array<i64: 1, 1>, pads = ["1", "1", "1", "1"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x, !l) -> !x
  %5 = "graph.convolution"(%few, %w) {groups = 32 : i64, strides = array<i64: 1, 1>, pads = ["1", "1", "1", "1"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!few, !w) -> !few
  return %0, %1, %2, %3, %4, %5 : !x, !x192, !x24, !x, !x, !few
}
