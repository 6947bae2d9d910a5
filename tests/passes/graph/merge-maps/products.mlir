// RUN: tilewright opt %s --from merge-maps
// The bias of a product stays with the product when a residual is added next: either of two products can then take the
// sum into its kernel.

!x = tensor<?x8xf32, ["n", "8"]>
!w = tensor<8x8xf32>
!row = tensor<8xf32>

// CHECK-LABEL: func.func @main
// CHECK: %[[PRODUCT:.*]] = "graph.matmul"
// CHECK: %[[BIASED:.*]] = "graph.map"
// CHECK: "graph.element"(%[[PRODUCT]])
// CHECK: graph.map
// CHECK: "graph.element"(%[[BIASED]])
func.func @main(%x: !x, %residual: !x, %w: !w, %row: !row) -> !x {
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!x) -> f32
    %b = "graph.element"(%row) : (!row) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  %2 = "graph.map"() ({
    %a = "graph.element"(%1) : (!x) -> f32
    %b = "graph.element"(%residual) : (!x) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %2 : !x
}

// -----
// Rounding of operands belongs to the product that asked for it, not to what comes before.

!x = tensor<?x8xf32, ["n", "8"]>
!half = tensor<?x8xf16, ["n", "8"]>
!w = tensor<8x8xf16>

// CHECK-LABEL: func.func @main
// CHECK: %[[EXP:.*]] = "graph.map"
// CHECK: math.exp
// CHECK: %[[HALF:.*]] = "graph.map"
// CHECK: "graph.element"(%[[EXP]])
// CHECK: arith.truncf
// CHECK: "graph.matmul"(%[[HALF]]
func.func @main(%x: !x, %w: !w) -> !x {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!x) -> f32
    %b = arith.truncf %a : f32 to f16
    gpu.yield %b : f16
  }) : () -> !half
  %2 = "graph.matmul"(%1, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!half, !w) -> !x
  return %2 : !x
}

// -----
// A bias and an activation are one map, also where the activation adds another row or a constant of full size.

!x = tensor<4x8xf32>
!w = tensor<8x8xf32>
!row = tensor<8xf32>

// CHECK-LABEL: func.func @main
// CHECK: %[[PRODUCT:.*]] = "graph.matmul"
// CHECK-NEXT: graph.map
// CHECK: "graph.element"(%[[PRODUCT]])
// CHECK-NOT: graph.map
// CHECK: return
func.func @main(%x: !x, %w: !w, %row: !row, %other: !row) -> !x {
  %full = "graph.weight"() {handle = "full"} : () -> !x
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!x) -> f32
    %b = "graph.element"(%row) : (!row) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  %2 = "graph.map"() ({
    %a = "graph.element"(%1) : (!x) -> f32
    %b = "graph.element"(%other) : (!row) -> f32
    %c = "graph.element"(%full) : (!x) -> f32
    %d = arith.addf %a, %b : f32
    %e = arith.mulf %d, %c : f32
    gpu.yield %e : f32
  }) : () -> !x
  return %2 : !x
}

// -----
// What is more than a rounding merges before a product as anywhere else.

!x = tensor<?x8xf32, ["n", "8"]>
!half = tensor<?x8xf16, ["n", "8"]>
!w = tensor<8x8xf16>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[HALF:.*]] = "graph.map"
// CHECK: math.exp
// CHECK: arith.maximumf
// CHECK: arith.truncf
// CHECK-NOT: graph.map
// CHECK: "graph.matmul"(%[[HALF]]
func.func @main(%x: !x, %w: !w) -> !x {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!x) -> f32
    %zero = arith.constant 0.0 : f32
    %b = arith.maximumf %a, %zero : f32
    %c = arith.truncf %b : f32 to f16
    gpu.yield %c : f16
  }) : () -> !half
  %2 = "graph.matmul"(%1, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!half, !w) -> !x
  return %2 : !x
}

// -----
// Nothing of that holds behind other operations.

!x = tensor<?x8xf32, ["n", "8"]>
!turned = tensor<8x?xf32, ["8", "n"]>

// CHECK-LABEL: func.func @main
// CHECK: graph.transpose
// CHECK-NEXT: graph.map
// CHECK-NOT: graph.map
// CHECK: return
func.func @main(%turned: !turned, %residual: !x) -> !x {
  %x = "graph.transpose"(%turned) {permutation = array<i64: 1, 0>} : (!turned) -> !x
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = arith.negf %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!x) -> f32
    %b = "graph.element"(%residual) : (!x) -> f32
    %c = arith.addf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !x
  return %1 : !x
}
