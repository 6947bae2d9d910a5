// RUN: tilewright opt %s --from tile --target sm_90a
// One row times weights of four bits: a thread reads 16 bytes, four words of eight weights, and eight neighbours of the row
// for each. A field becomes the last bits of 2^23, from which 2^23 + 8 is taken away. The sum of eight products is scaled.

!x = tensor<1x512xf16>
!b = tensor<256x256x1xui8>
!s = tensor<256x16x1xf16>
!w = tensor<256x512xf16>
!y = tensor<1x256xf16>

// CHECK: func.func @dot_0(%[[B:[^:]*]]: memref<?xi8>, %[[S:[^:]*]]: memref<?xf16>, %[[X:[^:]*]]: memref<?xf16>
// CHECK: %[[NONE:.*]] = "tile.program_id"() {axis = 1 : i64}
// CHECK: %[[ANCHOR:.*]] = arith.ori
// CHECK-NOT: tile.dot
// CHECK: scf.for
// CHECK: "tile.load_run"(%[[B]], %{{.*}}) {lanes = "contiguous"} : (memref<?xi8>, index) -> i32
// CHECK: %[[RUN:.*]] = "tile.load_run"(%[[X]], %{{.*}}) {lanes = "scattered"} : (memref<?xf16>, index) -> vector<8xf16>
// CHECK: vector.extract %[[RUN]][7]
// CHECK: %[[WORD:.*]] = "tile.element"{{.*}} -> i32
// CHECK: %[[TAKEN:.*]] = arith.constant 0x4B000008 : f32
// CHECK: %[[MASK:.*]] = arith.constant 252645135 : i32
// CHECK: %[[EVEN:.*]] = arith.andi %[[WORD]], %[[MASK]]
// CHECK: %[[BYTE:.*]] = "tile.select_bytes"(%[[EVEN]], %[[ANCHOR]]) {selector = 30288 : i64}
// CHECK-NEXT: %[[FLOAT:.*]] = arith.bitcast %[[BYTE]] : i32 to f32
// CHECK-NEXT: %[[FIRST:.*]] = arith.subf %[[FLOAT]], %[[TAKEN]]
// CHECK: arith.mulf %{{.*}}, %[[FIRST]]
// CHECK-COUNT-7: math.fma
// CHECK: %[[SCALE:.*]] = "tile.load"(%[[S]], %{{.*}}) {lanes = "uniform"}
// CHECK: math.fma
// CHECK-NEXT: gpu.yield
// CHECK: "tile.reduce"
func.func private @dot_0(%b: !b, %s: !s, %x: !x) -> !y attributes {graph.kernel = "dot", graph.nodes = []} {
  %0 = "graph.broadcast"(%b) : (!b) -> tensor<256x256x2xui8>
  %1 = "graph.reshape"(%0) : (tensor<256x256x2xui8>) -> tensor<256x512xui8>
  %2 = "graph.broadcast"(%s) : (!s) -> tensor<256x16x32xf16>
  %3 = "graph.reshape"(%2) : (tensor<256x16x32xf16>) -> tensor<256x512xf16>
  %4 = "graph.map"() ({
    %byte = "graph.element"(%1) : (tensor<256x512xui8>) -> i8
    %scale = "graph.element"(%3) : (tensor<256x512xf16>) -> f16
    %place = "graph.index"() {axis = 1 : i64} : () -> i64
    %short = arith.trunci %place : i64 to i32
    %one = arith.constant 1 : i32
    %odd = arith.andi %short, %one : i32
    %wide = arith.extui %byte : i8 to i32
    %four = arith.constant 4 : i32
    %bits = arith.muli %odd, %four : i32
    %moved = arith.shrsi %wide, %bits : i32
    %mask = arith.constant 15 : i32
    %field = arith.andi %moved, %mask : i32
    %number = arith.sitofp %field : i32 to f32
    %middle = arith.constant 8.0 : f32
    %centred = arith.subf %number, %middle : f32
    %factor = arith.extf %scale : f16 to f32
    %scaled = arith.mulf %centred, %factor : f32
    %rounded = arith.truncf %scaled : f32 to f16
    gpu.yield %rounded : f16
  }) : () -> !w
  %5 = "graph.matmul"(%x, %4) {transpose_left = 0 : i64, transpose_right = 1 : i64} : (!x, !w) -> !y
  return %5 : !y
}
