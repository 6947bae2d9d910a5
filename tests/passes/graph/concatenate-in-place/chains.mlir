// RUN: tilewright opt %s --from concatenate-in-place
// A result that is a part of the next one lies in it too; its readers know the lines of the whole, and what the kernel
// of a concatenation makes of it besides stays a kernel.

!x = tensor<4x8xf32>
!y = tensor<4x16xf32>
!z = tensor<4x24xf32>

// CHECK: %[[A:.*]] = call @loop_0(%{{.*}})
// CHECK-NEXT: %[[B:.*]] = call @loop_1(%[[A]])
// CHECK-NEXT: %[[AB:.*]] = "graph.join"() ({
// CHECK-NEXT: gpu.yield %[[A]], %[[B]]
// CHECK-NEXT: }) {axis = 1 : i64, place = {{\[}}["4", "24"], ["0", "0"]]}
// CHECK-NEXT: %[[C:.*]] = call @[[REST:.*]](%[[AB]])
// CHECK-NEXT: %[[ALL:.*]] = "graph.join"() ({
// CHECK-NEXT: gpu.yield %[[AB]], %[[C]]
// CHECK-NEXT: }) {axis = 1 : i64} :
// CHECK-NEXT: return %[[ALL]]
// CHECK: func.func private @loop_1
// CHECK-SAME: graph.places = {{\[}}{{\[}}["4", "24"], ["0", "0"]], {{\[}}["4", "24"], ["0", "8"]]]
// CHECK: func.func private @[[REST]]
// CHECK-SAME: graph.places = {{\[}}{{\[}}["4", "24"], ["0", "0"]], {{\[}}["4", "24"], ["0", "16"]]]
// CHECK-NOT: graph.concatenate
func.func @main(%x: !x) -> !z {
  %0 = call @loop_0(%x) : (!x) -> !x
  %1 = call @loop_1(%0) : (!x) -> !x
  %2:2 = call @loop_2(%0, %1) : (!x, !x) -> (!y, !x)
  %3 = call @loop_3(%2#0, %2#1) : (!y, !x) -> !z
  return %3 : !z
}
func.func private @loop_0(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  return %0 : !x
}
func.func private @loop_1(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.sin %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  return %0 : !x
}
func.func private @loop_2(%a: !x, %b: !x) -> (!y, !x) attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.concatenate"() ({
    gpu.yield %a, %b : !x, !x
  }) {axis = 1 : i64} : () -> !y
  %1 = "graph.slice"(%0) {starts = ["0", "4"], steps = array<i64: 1, 1>} : (!y) -> !x
  return %0, %1 : !y, !x
}
func.func private @loop_3(%a: !y, %b: !x) -> !z attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.concatenate"() ({
    gpu.yield %a, %b : !y, !x
  }) {axis = 1 : i64} : () -> !z
  return %0 : !z
}

// -----
// As DenseNet writes it: the second concatenation names all parts again. The first is the front of the second.

!x = tensor<4x8xf32>
!y = tensor<4x16xf32>
!z = tensor<4x24xf32>

// CHECK: %[[AB:.*]] = "graph.join"() ({
// CHECK: }) {axis = 1 : i64, place = {{\[}}["4", "24"], ["0", "0"]]}
// CHECK-NEXT: %[[C:.*]] = call @row_0(%[[AB]])
// CHECK-NEXT: "graph.join"() ({
// CHECK-NEXT: gpu.yield %{{.*}}, %{{.*}}, %[[C]]
// CHECK: func.func private @row_0
// CHECK-SAME: graph.places = {{\[}}{{\[}}["4", "24"], ["0", "0"]], {{\[}}["4", "24"], ["0", "16"]]]
func.func @main(%x: !x) -> !z {
  %0 = call @loop_0(%x) : (!x) -> !x
  %1 = call @loop_1(%x) : (!x) -> !x
  %2 = call @loop_2(%0, %1) : (!x, !x) -> !y
  %3 = call @row_0(%2) : (!y) -> !x
  %4 = call @loop_3(%0, %1, %3) : (!x, !x, !x) -> !z
  return %4 : !z
}
func.func private @loop_0(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  return %0 : !x
}
func.func private @loop_1(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.sin %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  return %0 : !x
}
func.func private @loop_2(%a: !x, %b: !x) -> !y attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.concatenate"() ({
    gpu.yield %a, %b : !x, !x
  }) {axis = 1 : i64} : () -> !y
  return %0 : !y
}
func.func private @row_0(%y: !y) -> !x attributes {graph.kernel = "row", graph.nodes = []} {
  %0 = "graph.reduce"(%y) {kind = "max", axes = array<i64: 1>} : (!y) -> tensor<4x1xf32>
  %1 = "graph.broadcast"(%0) : (tensor<4x1xf32>) -> !x
  return %1 : !x
}
func.func private @loop_3(%a: !x, %b: !x, %c: !x) -> !z attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.concatenate"() ({
    gpu.yield %a, %b, %c : !x, !x, !x
  }) {axis = 1 : i64} : () -> !z
  return %0 : !z
}
