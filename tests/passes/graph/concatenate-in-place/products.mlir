// RUN: tilewright opt %s --from concatenate-in-place
// Two products side by side: each writes its columns of the result, and no kernel copies them.

!x = tensor<?x64xf16, ["n", "64"]>
!a = tensor<?x32xf16, ["n", "32"]>
!b = tensor<?x48xf16, ["n", "48"]>
!c = tensor<?x80xf16, ["n", "80"]>
!wa = tensor<64x32xf16>
!wb = tensor<64x48xf16>

// CHECK: %[[A:.*]] = call @dot_0
// CHECK-NEXT: %[[B:.*]] = call @dot_1
// CHECK-NEXT: %[[C:.*]] = "graph.join"() ({
// CHECK-NEXT: gpu.yield %[[A]], %[[B]]
// CHECK-NEXT: }) {axis = 1 : i64}
// CHECK-NEXT: return %[[C]]
// CHECK-NOT: func.func private @loop_0
// CHECK: func.func private @dot_0
// CHECK-SAME: graph.places = {{\[}}[], [], {{\[}}["n", "80"], ["0", "0"]]]
// CHECK: func.func private @dot_1
// CHECK-SAME: graph.places = {{\[}}[], [], {{\[}}["n", "80"], ["0", "32"]]]
func.func @main(%x: !x, %wa: !wa, %wb: !wb) -> !c {
  %0 = call @dot_0(%x, %wa) : (!x, !wa) -> !a
  %1 = call @dot_1(%x, %wb) : (!x, !wb) -> !b
  %2 = call @loop_0(%0, %1) : (!a, !b) -> !c
  return %2 : !c
}
func.func private @dot_0(%x: !x, %w: !wa) -> !a attributes {graph.kernel = "dot", graph.nodes = []} {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !wa) -> !a
  return %0 : !a
}
func.func private @dot_1(%x: !x, %w: !wb) -> !b attributes {graph.kernel = "dot", graph.nodes = []} {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !wb) -> !b
  return %0 : !b
}
func.func private @loop_0(%a: !a, %b: !b) -> !c attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.concatenate"() ({
    gpu.yield %a, %b : !a, !b
  }) {axis = 1 : i64} : () -> !c
  return %0 : !c
}
