// RUN: tilewright opt %s --from simplify
// Operations that compute the same from the same values become one, whatever their regions call things.

!x = tensor<?x8xf32, ["n", "8"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[TWICE:.*]] = "graph.map"
// CHECK: arith.addf
// CHECK-NOT: graph.map
// CHECK: return %[[TWICE]], %[[TWICE]]
func.func @main(%x: !x) -> (!x, !x) {
  %first = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = arith.addf %a, %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %second = "graph.map"() ({
    %other = "graph.element"(%x) : (!x) -> f32
    %sum = arith.addf %other, %other : f32
    gpu.yield %sum : f32
  }) : () -> !x
  return %first, %second : !x, !x
}

// -----
// Within the body of a map, too: an element is read once.

!x = tensor<?x8xf32, ["n", "8"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[X:.*]] = "graph.element"(%arg0)
// CHECK-NEXT: %[[PRODUCT:.*]] = arith.mulf %[[X]], %[[X]]
// CHECK-NEXT: gpu.yield %[[PRODUCT]]
func.func @main(%x: !x) -> !x {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = "graph.element"(%x) : (!x) -> f32
    %unread = math.exp %a : f32
    %c = arith.mulf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %0 : !x
}

// -----
// A branch uses what was computed before the `if`; two branches do not share, since only one of them runs.

!x = tensor<?x8xf32, ["n", "8"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[SUM:.*]] = "graph.reduce"(%arg0) {{.*}}kind = "sum"
// CHECK: scf.if
// CHECK-NOT: "sum"
// CHECK: "graph.reduce"(%arg0) {{.*}}kind = "max"
// CHECK: else
// CHECK: "graph.reduce"(%arg0) {{.*}}kind = "max"
func.func @main(%x: !x, %condition: tensor<i1>) -> (tensor<1x1xf32>, tensor<1x1xf32>) {
  %sum = "graph.reduce"(%x) {kind = "sum", axes = array<i64: 0, 1>} : (!x) -> tensor<1x1xf32>
  %bit = tensor.extract %condition[] : tensor<i1>
  %0 = scf.if %bit -> tensor<1x1xf32> {
    %again = "graph.reduce"(%x) {kind = "sum", axes = array<i64: 0, 1>} : (!x) -> tensor<1x1xf32>
    %most = "graph.reduce"(%x) {kind = "max", axes = array<i64: 0, 1>} : (!x) -> tensor<1x1xf32>
    %both = "graph.map"() ({
      %a = "graph.element"(%again) : (tensor<1x1xf32>) -> f32
      %b = "graph.element"(%most) : (tensor<1x1xf32>) -> f32
      %c = arith.addf %a, %b : f32
      gpu.yield %c : f32
    }) : () -> tensor<1x1xf32>
    scf.yield %both : tensor<1x1xf32>
  } else {
    %most = "graph.reduce"(%x) {kind = "max", axes = array<i64: 0, 1>} : (!x) -> tensor<1x1xf32>
    scf.yield %most : tensor<1x1xf32>
  }
  return %sum, %0 : tensor<1x1xf32>, tensor<1x1xf32>
}
