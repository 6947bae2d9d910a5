// RUN: tilewright opt %s --from excess-precision --precision bf16
// What a kernel stores is rounded where it is stored; what it computes from that goes on with the unrounded number,
// also through movements, selects and maxima. A test of the rounded number stays one, and so does what only moves.

!x = tensor<4x8xbf16>
!t = tensor<8x4xbf16>

// CHECK-LABEL: func.func private @loop_0(%arg0: tensor<4x8xbf16>, %arg1: tensor<4x8xbf16>)
// CHECK: %[[SUM:.*]] = "graph.map"
// CHECK: %[[ADDED:.*]] = arith.addf
// CHECK-NEXT: gpu.yield %[[ADDED]] : f32
// CHECK: %[[KEPT:.*]] = "graph.map"
// CHECK: "graph.element"(%[[SUM]]) {{.*}} -> f32
// CHECK-NEXT: %[[ROUNDED:.*]] = arith.truncf
// CHECK-NEXT: gpu.yield %[[ROUNDED]] : bf16
// CHECK: %[[TURNED:.*]] = "graph.transpose"(%[[SUM]]) {{.*}} -> tensor<8x4xf32>
// CHECK: "graph.map"
// CHECK: %[[X:.*]] = "graph.element"(%[[TURNED]]) {{.*}} -> f32
// CHECK: %[[R:.*]] = arith.truncf %[[X]] : f32 to bf16
// CHECK: %[[TEST:.*]] = arith.cmpf ogt, %[[R]]
// CHECK: %[[UP:.*]] = arith.maximumf %[[X]], %{{.*}} : f32
// CHECK: %[[CHOSEN:.*]] = arith.select %[[TEST]], %[[UP]], %{{.*}} : f32
// CHECK: %[[TANH:.*]] = math.tanh %[[CHOSEN]] : f32
// CHECK: arith.truncf %[[TANH]] : f32 to bf16
// CHECK: return %[[KEPT]]

// CHECK-LABEL: func.func private @loop_1
// CHECK: arith.maximumf {{.*}} : bf16
// CHECK: arith.extf
// CHECK: math.exp
func.func @main(%x: !x, %y: !x) -> (!x, !t, !x) {
  %0:2 = call @loop_0(%x, %y) : (!x, !x) -> (!x, !t)
  %1 = call @loop_1(%x, %y) : (!x, !x) -> !x
  return %0#0, %0#1, %1 : !x, !t, !x
}
func.func private @loop_0(%x: !x, %y: !x) -> (!x, !t) attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> bf16
    %b = "graph.element"(%y) : (!x) -> bf16
    %c = arith.extf %a : bf16 to f32
    %d = arith.extf %b : bf16 to f32
    %e = arith.addf %c, %d : f32
    %f = arith.truncf %e : f32 to bf16
    gpu.yield %f : bf16
  }) : () -> !x
  %1 = "graph.transpose"(%0) {permutation = array<i64: 1, 0>} : (!x) -> !t
  %2 = "graph.map"() ({
    %a = "graph.element"(%1) : (!t) -> bf16
    %zero = arith.constant 0.0 : bf16
    %half = arith.constant 0.5 : bf16
    %b = arith.cmpf ogt, %a, %half : bf16
    %c = arith.maximumf %a, %zero : bf16
    %d = arith.select %b, %c, %half : bf16
    %e = arith.extf %d : bf16 to f32
    %f = math.tanh %e : f32
    %g = arith.truncf %f : f32 to bf16
    gpu.yield %g : bf16
  }) : () -> !t
  return %0, %2 : !x, !t
}
func.func private @loop_1(%x: !x, %y: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> bf16
    %b = "graph.element"(%y) : (!x) -> bf16
    %c = arith.maximumf %a, %b : bf16
    %d = arith.extf %c : bf16 to f32
    %e = math.exp %d : f32
    %f = arith.truncf %e : f32 to bf16
    gpu.yield %f : bf16
  }) : () -> !x
  return %0 : !x
}
