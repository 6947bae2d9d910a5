// RUN: tilewright opt %s --from simplify
// Unless kernels compute in 16 bits a sum with +0 stays, which makes +0 of -0; one with -0 changes nothing. With a
// difference it is the other way around.

!x = tensor<4x5xf32>

// CHECK-LABEL: func.func @main
// CHECK: arith.addf
// CHECK: math.exp
// CHECK-NOT: arith.addf
// CHECK: arith.subf
// CHECK-NOT: arith.subf
func.func @main(%x: !x) -> (!x, !x, !x) {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %zero = arith.constant 0.0 : f32
    %b = arith.addf %a, %zero : f32
    %c = math.exp %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  %1 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %zero = arith.constant -0.0 : f32
    %b = arith.addf %a, %zero : f32
    %c = math.log %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  %2 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %zero = arith.constant -0.0 : f32
    %b = arith.subf %a, %zero : f32
    %plus = arith.constant 0.0 : f32
    %c = arith.subf %b, %plus : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %0, %1, %2 : !x, !x, !x
}
