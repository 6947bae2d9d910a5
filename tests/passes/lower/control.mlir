// RUN: tilewright opt %s --from lower --target sm_80
// A loop that carries a tile carries its registers; indices are 32 bits wide.

!line = !tile.tile<[1, 64], f32, "blocked<1x32, vector=2>">

// CHECK: llvm.func @loop(%{{[^:]*}}: !llvm.ptr<1> {{{[^}]*}}}, %{{[^:]*}}: !llvm.ptr<1> {{{[^}]*}}}, %[[N:[^:]*]]: i32)
// CHECK: nvvm.read.ptx.sreg.ctaid.x : i32
// CHECK: %[[SUMS:.*]]:2 = scf.for %{{.*}} = %c0_i32 to %[[N]] step %{{.*}} iter_args(%[[A:.*]] = %cst,
// CHECK-SAME: %[[B:.*]] = %cst) -> (f32, f32) : i32
// CHECK-DAG: %[[C:.*]] = arith.addf %[[A]],
// CHECK-DAG: %[[D:.*]] = arith.addf %[[B]],
// CHECK: scf.yield %[[C]], %[[D]]
// CHECK: vector.from_elements %[[SUMS]]#0, %[[SUMS]]#1
func.func @loop(%x: memref<?xf32>, %y: memref<?xf32>, %n: index) attributes {tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c64 = arith.constant 64 : index
  %zero = arith.constant 0.0 : f32
  %block = "tile.program_id"() {axis = 0 : i64} : () -> index
  %start = "tile.full"(%zero) : (f32) -> !line
  %sums = scf.for %k = %c0 to %n step %c64 iter_args(%so_far = %start) -> (!line) {
    %next = "tile.map"(%block, %k, %c1, %c64) ({
    ^bb0(%i: index, %j: index):
      %a = "tile.element"(%so_far) : (!line) -> f32
      %b = "tile.load"(%x, %j) {lanes = "contiguous"} : (memref<?xf32>, index) -> f32
      %c = arith.addf %a, %b : f32
      gpu.yield %c : f32
    }) {full = ["rows", "columns"], layout = "blocked<1x32, vector=2>", shape = array<i64: 1, 64>}
      : (index, index, index, index) -> !line
    scf.yield %next : !line
  }
  "tile.map"(%c0, %c0, %c1, %c64) ({
  ^bb0(%i: index, %j: index):
    %a = "tile.element"(%sums) : (!line) -> f32
    "tile.store"(%a, %y, %j) {lanes = "contiguous"} : (f32, memref<?xf32>, index) -> ()
    gpu.yield
  }) {full = ["rows", "columns"], layout = "blocked<1x32, vector=2>", shape = array<i64: 1, 64>}
    : (index, index, index, index) -> ()
  return
}

// -----
// An operation where it means nothing, here an element outside of a map, is our bug, and the message shows it.

// ERROR: no lowering rule for 'tile.element'
func.func @wrong() attributes {tile.threads = 32 : i64} {
  %zero = arith.constant 0.0 : f32
  %tile = "tile.full"(%zero) : (f32) -> !tile.tile<[1, 32], f32, "blocked<1x32, vector=1>">
  %0 = "tile.element"(%tile) : (!tile.tile<[1, 32], f32, "blocked<1x32, vector=1>">) -> f32
  return
}

// -----
// So is a layout that does not exist.

// ERROR: stage 'lower'
// ERROR: blocked<4>
func.func @wrong() attributes {tile.threads = 32 : i64} {
  %zero = arith.constant 0.0 : f32
  %0 = "tile.full"(%zero) : (f32) -> !tile.tile<[4, 8], f32, "blocked<4>">
  return
}
