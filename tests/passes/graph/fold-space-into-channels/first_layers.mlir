// RUN: tilewright opt %s --from fold-space-into-channels --target sm_90a --precision f16 | FileCheck %s --check-prefix=HALVES
// RUN: tilewright opt %s --from fold-space-into-channels --target sm_90a --precision strict | FileCheck %s --check-prefix=STRICT
// The first layer of a ResNet: blocks of 2 x 2 pixels, whose 12 channels and four zeros fill a line of 32 bytes, and 4 x 4
// taps in the place of 7 x 7. Narrowed and padded last, the blocks are written by a kernel of their own.

!x = tensor<?x3x224x224xf32, ["n", "3", "224", "224"]>
!w = tensor<64x3x7x7xf32>
!y = tensor<?x64x112x112xf32, ["n", "64", "112", "112"]>

// HALVES-LABEL: func.func @main
// HALVES: "graph.pad"({{.*}}) {low = ["0", "0", "3", "3"]} {{.*}} -> tensor<?x3x230x230xf16
// HALVES: "graph.transpose"({{.*}}) {permutation = array<i64: 0, 2, 4, 3, 5, 1>}
// HALVES: %[[LINES:.*]] = "graph.pad"({{.*}}) {{.*}} -> tensor<?x115x115x16xf16
// HALVES: %[[W:.*]] = "graph.weight"() {handle = "w.blocks"} : () -> tensor<64x16x4x4xf16>
// HALVES: %[[IMAGE:.*]] = "graph.transpose"(%[[LINES]])
// HALVES: "graph.convolution"(%[[IMAGE]], %[[W]]) {{.*}}pads = ["0", "0", "0", "0"], strides = array<i64: 1, 1>
// STRICT: "graph.convolution"(%arg0, {{.*}}strides = array<i64: 2, 2>
func.func @main(%x: !x) -> !y {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %y = "graph.convolution"(%x, %w) {groups = 1 : i64, strides = array<i64: 2, 2>, pads = ["3", "3", "3", "3"],
    dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x, !w) -> !y
  return %y : !y
}
