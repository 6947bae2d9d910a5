// RUN: tilewright opt %s --from concatenate-in-place
// One part may have to be computed or copied by a kernel of its own: here an enlarged one; the skip connection is in place.

!x = tensor<1x4x4x8xf16>
!y = tensor<1x2x2x8xf16>
!z = tensor<1x4x4x16xf16>

// CHECK: %[[SKIP:.*]] = call @loop_0
// CHECK: %[[UP:.*]] = call @[[LARGER:.*]](%{{.*}}) : (tensor<1x2x2x8xf16>) -> tensor<1x4x4x8xf16>
// CHECK-NEXT: "graph.join"() ({
// CHECK-NEXT: gpu.yield %[[UP]], %[[SKIP]]
// CHECK: func.func private @[[LARGER]]
// CHECK-SAME: graph.places = {{\[}}[], {{\[}}["1", "4", "4", "16"], ["0", "0", "0", "0"]]]
// CHECK: graph.element_at
func.func @main(%x: !x, %y: !y) -> !z {
  %0 = call @loop_0(%x) : (!x) -> !x
  %1 = call @loop_1(%y, %0) : (!y, !x) -> !z
  return %1 : !z
}
func.func private @loop_0(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f16
    %b = arith.negf %a : f16
    gpu.yield %b : f16
  }) : () -> !x
  return %0 : !x
}
func.func private @loop_1(%y: !y, %s: !x) -> !z attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %n = "graph.index"() {axis = 0 : i64} : () -> i64
    %h = "graph.index"() {axis = 1 : i64} : () -> i64
    %w = "graph.index"() {axis = 2 : i64} : () -> i64
    %c = "graph.index"() {axis = 3 : i64} : () -> i64
    %two = arith.constant 2 : i64
    %i = arith.divsi %h, %two : i64
    %j = arith.divsi %w, %two : i64
    %a = "graph.element_at"(%y, %n, %i, %j, %c) : (!y, i64, i64, i64, i64) -> f16
    gpu.yield %a : f16
  }) : () -> !x
  %1 = "graph.concatenate"() ({
    gpu.yield %0, %s : !x, !x
  }) {axis = 3 : i64} : () -> !z
  return %1 : !z
}

// -----
// Nothing is won where no part can be written in place: these are the model's inputs.

!x = tensor<4x8xf16>
!y = tensor<4x16xf16>

// CHECK: call @loop_0
// CHECK-NOT: graph.join
func.func @main(%x: !x, %y: !x) -> !y {
  %0 = call @loop_0(%x, %y) : (!x, !x) -> !y
  return %0 : !y
}
func.func private @loop_0(%a: !x, %b: !x) -> !y attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.concatenate"() ({
    gpu.yield %a, %b : !x, !x
  }) {axis = 1 : i64} : () -> !y
  return %0 : !y
}

// -----
// Lines that do not begin at multiples of 16 bytes would cost every kernel its wide accesses.

!x = tensor<4x8xf16>
!y = tensor<4x3xf16>
!z = tensor<4x11xf16>

// CHECK: call @loop_2
// CHECK-NOT: graph.places
func.func @main(%x: !x, %y: !y) -> !z {
  %0 = call @loop_0(%x) : (!x) -> !x
  %1 = call @loop_1(%y) : (!y) -> !y
  %2 = call @loop_2(%0, %1) : (!x, !y) -> !z
  return %2 : !z
}
func.func private @loop_0(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f16
    %b = arith.negf %a : f16
    gpu.yield %b : f16
  }) : () -> !x
  return %0 : !x
}
func.func private @loop_1(%x: !y) -> !y attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!y) -> f16
    %b = arith.negf %a : f16
    gpu.yield %b : f16
  }) : () -> !y
  return %0 : !y
}
func.func private @loop_2(%a: !x, %b: !y) -> !z attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.concatenate"() ({
    gpu.yield %a, %b : !x, !y
  }) {axis = 1 : i64} : () -> !z
  return %0 : !z
}

// -----
// One after the other along the first dimension needs no lines: any whole number of accesses will do. A value that
// is returned besides needs memory of its own.

!x = tensor<4x6xf16>
!y = tensor<8x6xf16>

// CHECK: %[[A:.*]] = call @loop_0
// CHECK-NEXT: %[[B:.*]] = call @loop_1
// CHECK-NEXT: %[[COPY:.*]] = call @[[COPYING:.*]](%[[B]]) : (tensor<4x6xf16>) -> tensor<4x6xf16>
// CHECK-NEXT: %[[C:.*]] = "graph.join"() ({
// CHECK-NEXT: gpu.yield %[[A]], %[[COPY]]
// CHECK: return %[[C]], %[[B]]
// CHECK: func.func private @loop_0
// CHECK-SAME: graph.places = {{\[}}[], {{\[}}["8", "6"], ["0", "0"]]]
func.func @main(%x: !x) -> (!y, !x) {
  %0 = call @loop_0(%x) : (!x) -> !x
  %1 = call @loop_1(%x) : (!x) -> !x
  %2 = call @loop_2(%0, %1) : (!x, !x) -> !y
  return %2, %1 : !y, !x
}
func.func private @loop_0(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f16
    %b = arith.negf %a : f16
    gpu.yield %b : f16
  }) : () -> !x
  return %0 : !x
}
func.func private @loop_1(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f16
    %b = arith.addf %a, %a : f16
    gpu.yield %b : f16
  }) : () -> !x
  return %0 : !x
}
func.func private @loop_2(%a: !x, %b: !x) -> !y attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.concatenate"() ({
    gpu.yield %a, %b : !x, !x
  }) {axis = 0 : i64} : () -> !y
  return %0 : !y
}
