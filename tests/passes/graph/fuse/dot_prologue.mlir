// RUN: tilewright opt %s --from fuse
// A cheap map that only the product reads is computed while the product reads its operand.

!x = tensor<?x8xf32, ["n", "8"]>
!w = tensor<8x8xf32>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: call @dot_0(%arg0, %arg1)
// CHECK-NEXT: return
// CHECK: @dot_0
// CHECK: arith.maximumf
// CHECK: graph.matmul
func.func @main(%x: !x, %w: !w) -> !x {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %zero = arith.constant 0.0 : f32
    %b = arith.maximumf %a, %zero : f32
    gpu.yield %b : f32
  }) : () -> !x
  %1 = "graph.matmul"(%0, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  return %1 : !x
}

// -----
// An expensive one is not: every column of blocks would compute it again.

!x = tensor<?x8xf32, ["n", "8"]>
!w = tensor<8x8xf32>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[EXP:.*]] = call @loop_0(%arg0)
// CHECK-NEXT: call @dot_0(%[[EXP]], %arg1)
func.func @main(%x: !x, %w: !w) -> !x {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %1 = "graph.matmul"(%0, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  return %1 : !x
}

// -----
// Nor one whose result is stored anyway.

!x = tensor<?x8xf32, ["n", "8"]>
!w = tensor<8x8xf32>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[RELU:.*]] = call @loop_0(%arg0)
// CHECK-NEXT: %[[Y:.*]] = call @dot_0(%[[RELU]], %arg1)
// CHECK-NEXT: return %[[Y]], %[[RELU]]
func.func @main(%x: !x, %w: !w) -> (!x, !x) {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %zero = arith.constant 0.0 : f32
    %b = arith.maximumf %a, %zero : f32
    gpu.yield %b : f32
  }) : () -> !x
  %1 = "graph.matmul"(%0, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  return %1, %0 : !x, !x
}

// -----
// Movements of operands are addresses: each of two products reads the transposed tensor for itself.

!x = tensor<2x?x8xf32, ["2", "n", "8"]>
!turned = tensor<?x2x8xf32, ["n", "2", "8"]>
!w = tensor<8x8xf32>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: call @dot_0(%arg0, %arg1)
// CHECK-NEXT: call @dot_1(%arg0, %arg2)
// CHECK-NOT: @loop
// CHECK: @dot_0
// CHECK: graph.transpose
// CHECK: @dot_1
// CHECK: graph.transpose
func.func @main(%x: !x, %w: !w, %v: !w) -> (!turned, !turned) {
  %0 = "graph.transpose"(%x) {permutation = array<i64: 1, 0, 2>} : (!x) -> !turned
  %1 = "graph.matmul"(%0, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!turned, !w) -> !turned
  %2 = "graph.matmul"(%0, %v) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!turned, !w) -> !turned
  return %1, %2 : !turned, !turned
}

// -----
// Weights of 8 bits are read as 8 bits: what makes floats of them is computed by every product that reads them.

!x = tensor<?x8xf32, ["n", "8"]>
!w = tensor<8x8xf32>
!small = tensor<8x8xi8>

// CHECK-LABEL: func.func @main
// CHECK: %[[W:.*]] = "graph.weight"
// CHECK: call @dot_0(%[[W]], %arg0)
// CHECK: call @dot_1(%[[W]], %arg1)
// CHECK-NOT: call
// CHECK-NOT: @loop
// CHECK: @dot_0
// CHECK: arith.sitofp
// CHECK: @dot_1
// CHECK: arith.sitofp
func.func @main(%x: !x, %y: !x) -> (!x, !x) {
  %small = "graph.weight"() {handle = "w"} : () -> !small
  %w = "graph.map"() ({
    %a = "graph.element"(%small) : (!small) -> i8
    %b = arith.sitofp %a : i8 to f32
    %scale = arith.constant 0.1 : f32
    %c = arith.mulf %b, %scale : f32
    gpu.yield %c : f32
  }) : () -> !w
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  %1 = "graph.matmul"(%y, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  return %0, %1 : !x, !x
}

// -----
// A long chain of cheap operations is not cheap.

!x = tensor<?x8xf32, ["n", "8"]>
!w = tensor<8x8xf32>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[CHAIN:.*]] = call @loop_0(%arg0)
// CHECK-NEXT: call @dot_0(%[[CHAIN]], %arg1)
func.func @main(%x: !x, %w: !w) -> !x {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %1 = arith.mulf %a, %a : f32
    %2 = arith.addf %1, %a : f32
    %3 = arith.mulf %2, %a : f32
    %4 = arith.addf %3, %a : f32
    %5 = arith.mulf %4, %a : f32
    %6 = arith.addf %5, %a : f32
    %7 = arith.mulf %6, %a : f32
    %8 = arith.addf %7, %a : f32
    %9 = arith.mulf %8, %a : f32
    gpu.yield %9 : f32
  }) : () -> !x
  %10 = "graph.matmul"(%0, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  return %10 : !x
}

// -----
// A cheap map behind an expensive one belongs to that kernel, which has the value at hand.

!x = tensor<?x8xf32, ["n", "8"]>
!w = tensor<8x8xf32>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[BOTH:.*]] = call @loop_0(%arg0)
// CHECK-NEXT: call @dot_0(%[[BOTH]], %arg1)
// CHECK: @loop_0
// CHECK: math.exp
// CHECK: arith.negf
func.func @main(%x: !x, %w: !w) -> !x {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!x) -> f32
    %b = arith.negf %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  %2 = "graph.matmul"(%1, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  return %2 : !x
}

// -----
// Rows of a table are gathered before the product, whose blocks would gather them again and again.

!table = tensor<100x8xf32>
!indices = tensor<?x1xi64, ["n", "1"]>
!x = tensor<?x8xf32, ["n", "8"]>
!w = tensor<8x8xf32>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[ROWS:.*]] = call @loop_0(
// CHECK-NEXT: call @dot_0(%[[ROWS]], %arg2)
func.func @main(%table: !table, %indices: !indices, %w: !w) -> !x {
  %0 = "graph.map"() ({
    %i = "graph.element"(%indices) : (!indices) -> i64
    %j = "graph.index"() {axis = 1 : i64} : () -> i64
    %a = "graph.element_at"(%table, %i, %j) : (!table, i64, i64) -> f32
    gpu.yield %a : f32
  }) : () -> !x
  %1 = "graph.matmul"(%0, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  return %1 : !x
}

// -----
// Weights that take longer to compute are computed once for both of their readers.

!x = tensor<?x8xf32, ["n", "8"]>
!w = tensor<8x8xf32>
!small = tensor<8x8xi8>

// CHECK-LABEL: func.func @main
// CHECK: %[[W:.*]] = call @loop_0(
// CHECK-DAG: call @dot_0({{.*}}%[[W]]
// CHECK-DAG: call @dot_1({{.*}}%[[W]]
func.func @main(%x: !x, %y: !x) -> (!x, !x) {
  %small = "graph.weight"() {handle = "w"} : () -> !small
  %w = "graph.map"() ({
    %a = "graph.element"(%small) : (!small) -> i8
    %b = arith.extsi %a : i8 to i32
    %six = arith.constant 6 : i32
    %c = arith.shrsi %b, %six : i32
    %d = arith.xori %c, %six : i32
    %e = arith.sitofp %d : i32 to f32
    %scale = arith.constant 0.1 : f32
    %f = arith.mulf %e, %scale : f32
    gpu.yield %f : f32
  }) : () -> !w
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  %1 = "graph.matmul"(%y, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !x
  return %0, %1 : !x, !x
}
