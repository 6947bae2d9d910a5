// RUN: tilewright opt %s --from fuse
// Each branch of an `if` has its own kernels; what is computed before it is not pulled into a branch.

!x = tensor<?x8xf32, ["n", "8"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[EXP:.*]] = call @{{.*}}(%arg0)
// CHECK: scf.if
// CHECK-NEXT: %[[NEGATIVE:.*]] = func.call @{{.*}}(%[[EXP]])
// CHECK-NEXT: scf.yield %[[NEGATIVE]]
// CHECK: else
// CHECK-NEXT: scf.yield %[[EXP]]
func.func @main(%x: !x, %condition: tensor<i1>) -> !x {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %bit = tensor.extract %condition[] : tensor<i1>
  %1 = scf.if %bit -> !x {
    %2 = "graph.map"() ({
      %a = "graph.element"(%0) : (!x) -> f32
      %b = arith.negf %a : f32
      gpu.yield %b : f32
    }) : () -> !x
    scf.yield %2 : !x
  } else {
    scf.yield %0 : !x
  }
  return %1 : !x
}
