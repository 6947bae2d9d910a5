// RUN: tilewright opt %s --from simplify --precision f16
// A product by one, a sum with zero, "and true" and a choice between equals leave their operand.

!x = tensor<4x5xf32>
!mask = tensor<4x5xi1>

// CHECK-LABEL: func.func @main
// CHECK: "graph.element"(%arg0)
// CHECK-NOT: arith.
// CHECK: gpu.yield
// CHECK: "graph.element"(%arg1)
// CHECK-NOT: arith.andi
// CHECK: arith.select
func.func @main(%x: !x, %mask: !mask) -> (!x, !x) {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %one = arith.constant 1.0 : f32
    %zero = arith.constant 0.0 : f32
    %b = arith.mulf %one, %a : f32
    %c = arith.addf %zero, %b : f32
    %d = arith.subf %c, %zero : f32
    %e = arith.divf %d, %one : f32
    %condition = arith.cmpf ogt, %a, %zero : f32
    %f = arith.select %condition, %e, %e : f32
    %g = math.exp %f : f32
    gpu.yield %g : f32
  }) : () -> !x
  %1 = "graph.map"() ({
    %a = "graph.element"(%mask) : (!mask) -> i1
    %true = arith.constant true
    %b = arith.andi %true, %a : i1
    %two = arith.constant 2.0 : f32
    %three = arith.constant 3.0 : f32
    %c = arith.select %b, %two, %three : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %0, %1 : !x, !x
}

// -----
// What differs from its operand stays: zero minus a number, one by it, "and 1" of more than one bit.

!x = tensor<4x5xf32>
!i = tensor<4x5xi64>

// CHECK-LABEL: func.func @main
// CHECK: arith.subf
// CHECK: arith.divf
// CHECK: arith.andi
func.func @main(%x: !x, %i: !i) -> (!x, !i) {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %one = arith.constant 1.0 : f32
    %zero = arith.constant 0.0 : f32
    %b = arith.subf %zero, %a : f32
    %c = arith.divf %one, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  %1 = "graph.map"() ({
    %a = "graph.element"(%i) : (!i) -> i64
    %one = arith.constant 1 : i64
    %b = arith.andi %a, %one : i64
    gpu.yield %b : i64
  }) : () -> !i
  return %0, %1 : !x, !i
}
