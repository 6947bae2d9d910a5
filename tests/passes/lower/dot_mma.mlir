// RUN: tilewright opt %s --from lower --target sm_80
// A product of f16 tiles: ldmatrix brings four 8x8 matrices of each operand at once, transposing the one whose lines do
// not run along k; mma.sync adds to f32 sums, which start as what tile.full said.

!left = !tile.tile<[16, 16], f16, "shared<rows, line=24>">
!right = !tile.tile<[16, 16], f16, "shared<rows, line=24>">
!sum = !tile.tile<[16, 16], f32, "mma<1x1 warps, width=2>">

// CHECK: llvm.func @dot
// CHECK: nvvm.ldmatrix %{{.*}}layout = #nvvm.mma_layout<col>, num = 4
// CHECK: nvvm.ldmatrix %{{.*}}layout = #nvvm.mma_layout<row>, num = 4
// CHECK: nvvm.mma.sync A[%[[A0:.*]], %[[A1:.*]], %[[A2:.*]], %[[A3:.*]]] B[%{{.*}}, %{{.*}}] C[%cst, %cst, %cst, %cst]
// CHECK-SAME: shape = #nvvm.shape<m = 16, n = 8, k = 16>
// CHECK: nvvm.mma.sync A[%[[A0]], %[[A1]], %[[A2]], %[[A3]]]
// CHECK-NOT: nvvm.mma.sync
// CHECK-COUNT-4: llvm.store %{{.*}} {alignment = 8 : i64} : vector<2xf32>, !llvm.ptr<1>
func.func @dot(%y: memref<?xf32>) attributes {tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : index
  %zero = arith.constant 0.0 : f32
  %left = "tile.allocate"() {stages = 1 : i64} : () -> !left
  %right = "tile.allocate"() {stages = 1 : i64} : () -> !right
  %start = "tile.full"(%zero) : (f32) -> !sum
  %sum = "tile.dot"(%left, %right, %start, %c0) {instruction = "m16n8k16.f16"} : (!left, !right, !sum, index) -> !sum
  "tile.map"(%c0, %c0, %c16, %c16) ({
  ^bb0(%i: index, %j: index):
    %value = "tile.element"(%sum) : (!sum) -> f32
    %line = arith.muli %i, %c16 : index
    %offset = arith.addi %line, %j : index
    "tile.store"(%value, %y, %offset) {lanes = "contiguous"} : (f32, memref<?xf32>, index) -> ()
    gpu.yield
  }) {full = ["rows", "columns"], layout = "mma<1x1 warps, width=2>", shape = array<i64: 16, 16>}
    : (index, index, index, index) -> ()
  return
}

// -----
// A right operand whose lines run along k needs no transposing; bf16 is packed into words.

!left = !tile.tile<[16, 32], bf16, "shared<rows, line=40>">
!right = !tile.tile<[32, 8], bf16, "shared<columns, line=40>">
!sum = !tile.tile<[16, 8], f32, "mma<1x1 warps, width=2>">

// CHECK: llvm.func @dot
// CHECK-NOT: layout = #nvvm.mma_layout<col>, num
// CHECK: nvvm.ldmatrix %{{.*}}layout = #nvvm.mma_layout<row>, num = 2
// CHECK: nvvm.ldmatrix %{{.*}}layout = #nvvm.mma_layout<row>, num = 4
// CHECK: nvvm.mma.sync {{.*}}multiplicandAPtxType = #nvvm.mma_type<bf16>
// CHECK: nvvm.mma.sync
// CHECK-NOT: nvvm.mma.sync
func.func @dot(%y: memref<?xf32>) attributes {tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %c8 = arith.constant 8 : index
  %c16 = arith.constant 16 : index
  %zero = arith.constant 0.0 : f32
  %left = "tile.allocate"() {stages = 1 : i64} : () -> !left
  %right = "tile.allocate"() {stages = 1 : i64} : () -> !right
  %start = "tile.full"(%zero) : (f32) -> !sum
  %sum = "tile.dot"(%left, %right, %start, %c0) {instruction = "m16n8k16.bf16"} : (!left, !right, !sum, index) -> !sum
  "tile.map"(%c0, %c0, %c16, %c8) ({
  ^bb0(%i: index, %j: index):
    %value = "tile.element"(%sum) : (!sum) -> f32
    "tile.store"(%value, %y, %j) {lanes = "contiguous"} : (f32, memref<?xf32>, index) -> ()
    gpu.yield
  }) {full = ["rows", "columns"], layout = "mma<1x1 warps, width=2>", shape = array<i64: 16, 8>}
    : (index, index, index, index) -> ()
  return
}

// -----
// tf32: f32 is rounded to it, to nearest, between ldmatrix and mma.sync.

!left = !tile.tile<[16, 8], f32, "shared<rows, line=12>">
!right = !tile.tile<[8, 8], f32, "shared<columns, line=12>">
!sum = !tile.tile<[16, 8], f32, "mma<1x1 warps, width=2>">

// CHECK: llvm.func @dot
// CHECK: nvvm.ldmatrix
// CHECK-COUNT-2: nvvm.convert.float.to.tf32 %{{.*}} {rnd = #nvvm.fp_rnd_mode<rna>}
// CHECK: nvvm.ldmatrix
// CHECK-COUNT-4: nvvm.convert.float.to.tf32
// CHECK: nvvm.mma.sync {{.*}}multiplicandAPtxType = #nvvm.mma_type<tf32>{{.*}}shape = #nvvm.shape<m = 16, n = 8, k = 8>
func.func @dot(%y: memref<?xf32>) attributes {tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %c8 = arith.constant 8 : index
  %c16 = arith.constant 16 : index
  %zero = arith.constant 0.0 : f32
  %left = "tile.allocate"() {stages = 1 : i64} : () -> !left
  %right = "tile.allocate"() {stages = 1 : i64} : () -> !right
  %start = "tile.full"(%zero) : (f32) -> !sum
  %sum = "tile.dot"(%left, %right, %start, %c0) {instruction = "m16n8k8.tf32"} : (!left, !right, !sum, index) -> !sum
  "tile.map"(%c0, %c0, %c16, %c8) ({
  ^bb0(%i: index, %j: index):
    %value = "tile.element"(%sum) : (!sum) -> f32
    "tile.store"(%value, %y, %j) {lanes = "contiguous"} : (f32, memref<?xf32>, index) -> ()
    gpu.yield
  }) {full = ["rows", "columns"], layout = "mma<1x1 warps, width=2>", shape = array<i64: 16, 8>}
    : (index, index, index, index) -> ()
  return
}

// -----
// Bytes: one step takes 32 along k, four in a register, and sums in i32.

!left = !tile.tile<[16, 32], i8, "shared<rows, line=48>">
!right = !tile.tile<[32, 8], i8, "shared<columns, line=48>">
!sum = !tile.tile<[16, 8], i32, "mma<1x1 warps, width=2>">

// CHECK: llvm.func @dot
// CHECK-NOT: layout = #nvvm.mma_layout<col>, num
// CHECK: nvvm.mma.sync {{.*}}intOverflowBehavior = #nvvm.mma_int_overflow<wrapped>
// CHECK-SAME: multiplicandAPtxType = #nvvm.mma_type<u8>, multiplicandBPtxType = #nvvm.mma_type<s8>
// CHECK-SAME: shape = #nvvm.shape<m = 16, n = 8, k = 32>
// CHECK-NOT: nvvm.mma.sync
func.func @dot(%y: memref<?xi32>) attributes {tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %c8 = arith.constant 8 : index
  %c16 = arith.constant 16 : index
  %zero = arith.constant 0 : i32
  %left = "tile.allocate"() {stages = 1 : i64} : () -> !left
  %right = "tile.allocate"() {stages = 1 : i64} : () -> !right
  %start = "tile.full"(%zero) : (i32) -> !sum
  %sum = "tile.dot"(%left, %right, %start, %c0) {instruction = "m16n8k32.u8.s8"} : (!left, !right, !sum, index) -> !sum
  "tile.map"(%c0, %c0, %c16, %c8) ({
  ^bb0(%i: index, %j: index):
    %value = "tile.element"(%sum) : (!sum) -> i32
    %line = arith.muli %i, %c8 : index
    %offset = arith.addi %line, %j : index
    "tile.store"(%value, %y, %offset) {lanes = "contiguous"} : (i32, memref<?xi32>, index) -> ()
    gpu.yield
  }) {full = ["rows", "columns"], layout = "mma<1x1 warps, width=2>", shape = array<i64: 16, 8>}
    : (index, index, index, index) -> ()
  return
}

// -----
// 8-bit floats, which nvvm.mma.sync does not know, in assembly: four registers of the left operand, two of the right.

!left = !tile.tile<[16, 32], f8E4M3FN, "shared<rows, line=48>">
!right = !tile.tile<[32, 8], f8E5M2, "shared<columns, line=48>">
!sum = !tile.tile<[16, 8], f32, "mma<1x1 warps, width=2>">

// CHECK: llvm.func @dot
// CHECK: nvvm.ldmatrix %{{.*}}layout = #nvvm.mma_layout<row>, num = 2
// CHECK: nvvm.ldmatrix %{{.*}}layout = #nvvm.mma_layout<row>, num = 4
// CHECK: llvm.inline_asm "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e5m2.f32 {$0, $1, $2, $3}, {$8, $9, $10, $11}, {$12, $13}, {$4, $5, $6, $7};"
// CHECK-NOT: mma.sync
func.func @dot(%y: memref<?xf32>) attributes {tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %c8 = arith.constant 8 : index
  %c16 = arith.constant 16 : index
  %zero = arith.constant 0.0 : f32
  %left = "tile.allocate"() {stages = 1 : i64} : () -> !left
  %right = "tile.allocate"() {stages = 1 : i64} : () -> !right
  %start = "tile.full"(%zero) : (f32) -> !sum
  %sum = "tile.dot"(%left, %right, %start, %c0) {instruction = "m16n8k32.e4m3.e5m2"} : (!left, !right, !sum, index) -> !sum
  "tile.map"(%c0, %c0, %c16, %c8) ({
  ^bb0(%i: index, %j: index):
    %value = "tile.element"(%sum) : (!sum) -> f32
    %line = arith.muli %i, %c8 : index
    %offset = arith.addi %line, %j : index
    "tile.store"(%value, %y, %offset) {lanes = "contiguous"} : (f32, memref<?xf32>, index) -> ()
    gpu.yield
  }) {full = ["rows", "columns"], layout = "mma<1x1 warps, width=2>", shape = array<i64: 16, 8>}
    : (index, index, index, index) -> ()
  return
}
