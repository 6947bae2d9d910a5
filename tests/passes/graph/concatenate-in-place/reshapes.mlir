// RUN: tilewright opt %s --from concatenate-in-place
// A part may be another name for what its kernel makes: a group normalisation writes [.., groups, channels of a group],
// and the pool beside the concatenation reads [.., channels] there.

!groups = tensor<1x4x4x2x16xf16>
!x = tensor<1x4x4x32xf16>
!half = tensor<1x2x2x32xf16>
!z = tensor<1x4x4x64xf16>

// CHECK: %[[ROW:.*]] = call @row_0
// CHECK-NEXT: %[[SKIP:.*]] = "graph.reshape"(%[[ROW]])
// CHECK-NEXT: call @loop_0(%[[SKIP]])
// CHECK-NEXT: %[[OTHER:.*]] = call @loop_1
// CHECK-NEXT: "graph.join"() ({
// CHECK-NEXT: gpu.yield %[[OTHER]], %[[SKIP]]
// CHECK: func.func private @row_0
// CHECK-SAME: graph.places = {{\[}}[], {{\[}}["1", "4", "4", "4", "16"], ["0", "0", "0", "2", "0"]]]
// CHECK: func.func private @loop_0
// CHECK-SAME: graph.places = {{\[}}{{\[}}["1", "4", "4", "64"], ["0", "0", "0", "32"]], []]
// CHECK-NOT: func.func private @loop_2
func.func @main(%x: !groups, %y: !x) -> (!half, !z) {
  %0 = call @row_0(%x) : (!groups) -> !groups
  %1 = "graph.reshape"(%0) : (!groups) -> !x
  %2 = call @loop_0(%1) : (!x) -> !half
  %3 = call @loop_1(%y) : (!x) -> !x
  %4 = call @loop_2(%3, %1) : (!x, !x) -> !z
  return %2, %4 : !half, !z
}
func.func private @row_0(%x: !groups) -> !groups attributes {graph.kernel = "row", graph.nodes = []} {
  %0 = "graph.reduce"(%x) {kind = "max", axes = array<i64: 1, 2, 4>} : (!groups) -> tensor<1x1x1x2x1xf16>
  %1 = "graph.map"() ({
    %a = "graph.element"(%x) : (!groups) -> f16
    %b = "graph.element"(%0) : (tensor<1x1x1x2x1xf16>) -> f16
    %c = arith.subf %a, %b : f16
    gpu.yield %c : f16
  }) : () -> !groups
  return %1 : !groups
}
func.func private @loop_0(%x: !x) -> !half attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.slice"(%x) {starts = ["0", "0", "0", "0"], steps = array<i64: 1, 2, 2, 1>} : (!x) -> !half
  return %0 : !half
}
func.func private @loop_1(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f16
    %b = arith.negf %a : f16
    gpu.yield %b : f16
  }) : () -> !x
  return %0 : !x
}
func.func private @loop_2(%a: !x, %b: !x) -> !z attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.concatenate"() ({
    gpu.yield %a, %b : !x, !x
  }) {axis = 3 : i64} : () -> !z
  return %0 : !z
}

// -----
// Where the part's groups do not fit into the whole's, its kernel keeps its own memory: 12 channels are no multiple of 8.

!groups = tensor<1x4x4x2x8xf16>
!x = tensor<1x4x4x16xf16>
!y = tensor<1x4x4x12xf16>
!z = tensor<1x4x4x28xf16>

// CHECK-LABEL: func.func @main
// CHECK-NOT: graph.places
// CHECK: graph.concatenate
func.func @main(%x: !groups, %y: !y) -> !z {
  %0 = call @row_0(%x) : (!groups) -> !groups
  %1 = "graph.reshape"(%0) : (!groups) -> !x
  %2 = call @loop_0(%y) : (!y) -> !y
  %3 = call @loop_1(%1, %2) : (!x, !y) -> !z
  return %3 : !z
}
func.func private @row_0(%x: !groups) -> !groups attributes {graph.kernel = "row", graph.nodes = []} {
  %0 = "graph.reduce"(%x) {kind = "max", axes = array<i64: 1, 2, 4>} : (!groups) -> tensor<1x1x1x2x1xf16>
  %1 = "graph.map"() ({
    %a = "graph.element"(%x) : (!groups) -> f16
    %b = "graph.element"(%0) : (tensor<1x1x1x2x1xf16>) -> f16
    %c = arith.subf %a, %b : f16
    gpu.yield %c : f16
  }) : () -> !groups
  return %1 : !groups
}
func.func private @loop_0(%x: !y) -> !y attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!y) -> f16
    %b = arith.negf %a : f16
    gpu.yield %b : f16
  }) : () -> !y
  return %0 : !y
}
func.func private @loop_1(%a: !x, %b: !y) -> !z attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.concatenate"() ({
    gpu.yield %a, %b : !x, !y
  }) {axis = 3 : i64} : () -> !z
  return %0 : !z
}
