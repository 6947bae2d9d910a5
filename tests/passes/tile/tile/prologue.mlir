// RUN: tilewright opt %s --from tile --target sm_80
// An operand that is computed while it is read goes through registers (tile.fill); the other one is copied as it is.

!x = tensor<?x64xf32, ["n", "64"]>
!w = tensor<96x64xi8>
!v = tensor<96x64xf32>
!y = tensor<?x96xf32, ["n", "96"]>

// CHECK: func.func @dot_0(%[[X:[^:]*]]: memref<?xf32>, %[[W:[^:]*]]: memref<?xi8>
// CHECK: "tile.copy"(%{{.*}}, %c0, %[[X]],
// CHECK: "tile.fill"
// CHECK: %[[BYTE:.*]] = "tile.{{load|masked_load}}"(%[[W]], {{.*}}lanes = "contiguous"
// CHECK-NEXT: arith.sitofp %[[BYTE]] : i8 to f32
// CHECK: "tile.commit"
func.func private @dot_0(%x: !x, %w: !w) -> !y attributes {graph.kernel = "dot", graph.nodes = []} {
  %v = "graph.map"() ({
    %a = "graph.element"(%w) : (!w) -> i8
    %b = arith.sitofp %a : i8 to f32
    gpu.yield %b : f32
  }) : () -> !v
  %0 = "graph.matmul"(%x, %v) {transpose_left = 0 : i64, transpose_right = 1 : i64} : (!x, !v) -> !y
  return %0 : !y
}

// -----
// A transpose of an operand is addresses only: it is copied.

!x = tensor<2x?x64xf16, ["2", "n", "64"]>
!turned = tensor<?x2x64xf16, ["n", "2", "64"]>
!w = tensor<64x96xf16>
!y = tensor<?x2x96xf32, ["n", "2", "96"]>

// CHECK-COUNT-2: "tile.copy"
// CHECK-NOT: "tile.fill"
func.func private @dot_0(%x: !x, %w: !w) -> !y attributes {graph.kernel = "dot", graph.nodes = []} {
  %turned = "graph.transpose"(%x) {permutation = array<i64: 1, 0, 2>} : (!x) -> !turned
  %0 = "graph.matmul"(%turned, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!turned, !w) -> !y
  return %0 : !y
}

// -----
// Weights of four bits, eight along k a word: all lanes of a vector take their bytes from one access.

!x = tensor<64x512xf16>
!b = tensor<256x256x1xui8>
!w = tensor<256x512xf16>
!y = tensor<64x256xf16>

// CHECK: func.func @dot_0(%[[B:[^:]*]]: memref<?xi8>
// CHECK: "tile.fill"
// CHECK: %[[WORD:.*]] = "tile.load_run"(%[[B]], %{{.*}}) {lanes = "uniform"} : (memref<?xi8>, index) -> i32
// CHECK: %[[MOVED:.*]] = arith.shrui %[[WORD]]
// CHECK-NEXT: arith.trunci %[[MOVED]] : i32 to i8
// CHECK-NOT: tile.load
// CHECK: {vector = 8 : i64}
func.func private @dot_0(%b: !b, %x: !x) -> !y attributes {graph.kernel = "dot", graph.nodes = []} {
  %0 = "graph.broadcast"(%b) : (!b) -> tensor<256x256x2xui8>
  %1 = "graph.reshape"(%0) : (tensor<256x256x2xui8>) -> tensor<256x512xui8>
  %2 = "graph.map"() ({
    %byte = "graph.element"(%1) : (tensor<256x512xui8>) -> i8
    %place = "graph.index"() {axis = 1 : i64} : () -> i64
    %short = arith.trunci %place : i64 to i8
    %one = arith.constant 1 : i8
    %odd = arith.andi %short, %one : i8
    %four = arith.constant 4 : i8
    %bits = arith.muli %odd, %four : i8
    %moved = arith.shrui %byte, %bits : i8
    %mask = arith.constant 15 : i8
    %field = arith.andi %moved, %mask : i8
    %number = arith.uitofp %field : i8 to f32
    %rounded = arith.truncf %number : f32 to f16
    gpu.yield %rounded : f16
  }) : () -> !w
  %3 = "graph.matmul"(%x, %2) {transpose_left = 0 : i64, transpose_right = 1 : i64} : (!x, !w) -> !y
  return %3 : !y
}
