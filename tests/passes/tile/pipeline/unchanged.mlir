// RUN: tilewright opt %s --from pipeline
// One stage overlaps nothing: the loop stays as it is.

!tile = !tile.tile<[16, 16], f16, "shared<rows, line=24>">
!sum = !tile.tile<[16, 16], f32, "mma<1x1 warps, width=2>">

// CHECK: "tile.allocate"() {stages = 1 : i64}
// CHECK: scf.for
// CHECK-NEXT: "tile.copy"
// CHECK: "tile.commit"
// CHECK-NEXT: "tile.wait"() {pending = 0 : i64}
// CHECK-NEXT: "tile.barrier"
// CHECK-NEXT: "tile.dot"
// CHECK-NEXT: "tile.barrier"
func.func @dot(%x: memref<?xf16>, %k: index) attributes {tile.schedule = {stages = 1 : i64}, tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : index
  %zero = arith.constant 0.0 : f32
  %start = "tile.full"(%zero) : (f32) -> !sum
  %tile = "tile.allocate"() {stages = 1 : i64} : () -> !tile
  %sum = scf.for %position = %c0 to %k step %c16 iter_args(%so_far = %start) -> (!sum) {
    "tile.copy"(%tile, %c0, %x, %c0, %position) ({
    ^bb0(%i: index, %j: index):
      gpu.yield %j : index
    }) {vector = 8 : i64} : (!tile, index, memref<?xf16>, index, index) -> ()
    "tile.commit"() : () -> ()
    "tile.wait"() {pending = 0 : i64} : () -> ()
    "tile.barrier"() : () -> ()
    %next = "tile.dot"(%tile, %tile, %so_far, %c0) {instruction = "m16n8k16.f16"} : (!tile, !tile, !sum, index) -> !sum
    "tile.barrier"() : () -> ()
    scf.yield %next : !sum
  }
  return
}

// -----
// A kernel without a product has no such loop.

!x = !tile.tile<[1, 32], f32, "blocked<1x32, vector=1>">

// CHECK: func.func @loop
// CHECK-NEXT: arith.constant 0
// CHECK-NEXT: "tile.map"
func.func @loop(%x: memref<?xf32>, %y: memref<?xf32>, %n: index) attributes {tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  "tile.map"(%c0, %c0, %n, %n) ({
  ^bb0(%i: index, %j: index):
    %a = "tile.load"(%x, %j) {lanes = "uniform"} : (memref<?xf32>, index) -> f32
    "tile.store"(%a, %y, %j) {lanes = "uniform"} : (f32, memref<?xf32>, index) -> ()
    gpu.yield
  }) {layout = "blocked<1x32, vector=1>", shape = array<i64: 1, 32>} : (index, index, index, index) -> ()
  return
}

// -----
// A loop with more in it than copies and a product, such as that of an attention, is not taken apart.

!tile = !tile.tile<[16, 16], f16, "shared<rows, line=24>">
!sum = !tile.tile<[16, 16], f32, "mma<1x1 warps, width=2>">

// CHECK: "tile.allocate"() {stages = 1 : i64}
// CHECK: scf.for
// CHECK-NEXT: "tile.copy"
// CHECK: "tile.dot"
// CHECK-NEXT: "tile.map"
func.func @dot(%x: memref<?xf16>, %k: index) attributes {tile.schedule = {stages = 3 : i64}, tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : index
  %zero = arith.constant 0.0 : f32
  %start = "tile.full"(%zero) : (f32) -> !sum
  %tile = "tile.allocate"() {stages = 1 : i64} : () -> !tile
  %sum = scf.for %position = %c0 to %k step %c16 iter_args(%so_far = %start) -> (!sum) {
    "tile.copy"(%tile, %c0, %x, %c0, %position) ({
    ^bb0(%i: index, %j: index):
      gpu.yield %j : index
    }) {vector = 8 : i64} : (!tile, index, memref<?xf16>, index, index) -> ()
    "tile.commit"() : () -> ()
    "tile.wait"() {pending = 0 : i64} : () -> ()
    "tile.barrier"() : () -> ()
    %product = "tile.dot"(%tile, %tile, %so_far, %c0) {instruction = "m16n8k16.f16"}
      : (!tile, !tile, !sum, index) -> !sum
    %next = "tile.map"(%c0, %c0, %c16, %c16) ({
    ^bb0(%i: index, %j: index):
      %a = "tile.element"(%product) : (!sum) -> f32
      %b = math.exp %a : f32
      gpu.yield %b : f32
    }) {layout = "mma<1x1 warps, width=2>", shape = array<i64: 16, 16>} : (index, index, index, index) -> !sum
    "tile.barrier"() : () -> ()
    scf.yield %next : !sum
  }
  return
}
