// RUN: tilewright opt %s --from pipeline
// Three stages: the copies of two steps are issued before the loop; each step waits for its own, starts those two steps
// ahead into the stage that the step before has left, and multiplies.

!left = !tile.tile<[16, 16], f16, "shared<rows, line=24>">
!right = !tile.tile<[16, 16], f16, "shared<rows, line=24>">
!sum = !tile.tile<[16, 16], f32, "mma<1x1 warps, width=2>">

// CHECK: func.func @dot(%[[X:[^:]*]]: memref<?xf16>, %[[W:[^:]*]]: memref<?xf16>, {{.*}}, %[[K:[^:]*]]: index)
// CHECK: %[[LEFT:.*]] = "tile.allocate"() {stages = 3 : i64}
// CHECK: %[[RIGHT:.*]] = "tile.allocate"() {stages = 3 : i64}
// CHECK: scf.for %[[STAGE:.*]] = %{{.*}} to %[[TWO:.*]] step
// CHECK: scf.if
// CHECK: "tile.copy"(%[[LEFT]], %[[STAGE]], %[[X]],
// CHECK: "tile.copy"(%[[RIGHT]], %[[STAGE]], %[[W]],
// CHECK: "tile.commit"
// CHECK: %[[AHEAD:.*]] = arith.muli %c16{{.*}}, %[[TWO]]
// CHECK: scf.for %[[POSITION:.*]] = %c0 to %[[K]] step %c16{{.*}} iter_args(
// CHECK-SAME: %[[SUM:[^ ]*]] = %{{[^,]*}}, %[[READ:[^ ]*]] = %{{[^,]*}}, %[[WRITE:[^ ]*]] = %[[TWO]])
// CHECK-NEXT: "tile.wait"() {pending = 1 : i64}
// CHECK-NEXT: "tile.barrier"
// CHECK-NEXT: %[[NEXT:.*]] = arith.addi %[[POSITION]], %[[AHEAD]]
// CHECK-NEXT: %[[THERE:.*]] = arith.cmpi ult, %[[NEXT]], %[[K]]
// CHECK-NEXT: scf.if %[[THERE]]
// CHECK: "tile.copy"(%[[LEFT]], %[[WRITE]], %[[X]], %{{.*}}, %[[NEXT]])
// CHECK: "tile.copy"(%[[RIGHT]], %[[WRITE]], %[[W]], %[[NEXT]],
// CHECK: "tile.commit"
// CHECK-NEXT: "tile.dot"(%[[LEFT]], %[[RIGHT]], %[[SUM]], %[[READ]])
// CHECK-NOT: "tile.barrier"
// CHECK: scf.yield
func.func @dot(%x: memref<?xf16>, %w: memref<?xf16>, %y: memref<?xf32>, %k: index)
    attributes {tile.schedule = {stages = 3 : i64}, tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : index
  %zero = arith.constant 0.0 : f32
  %start = "tile.full"(%zero) : (f32) -> !sum
  %left = "tile.allocate"() {stages = 1 : i64} : () -> !left
  %right = "tile.allocate"() {stages = 1 : i64} : () -> !right
  %sum = scf.for %position = %c0 to %k step %c16 iter_args(%so_far = %start) -> (!sum) {
    "tile.copy"(%left, %c0, %x, %c0, %position) ({
    ^bb0(%i: index, %j: index):
      %line = arith.muli %i, %k : index
      %offset = arith.addi %line, %j : index
      gpu.yield %offset : index
    }) {vector = 8 : i64} : (!left, index, memref<?xf16>, index, index) -> ()
    "tile.copy"(%right, %c0, %w, %position, %c0) ({
    ^bb0(%i: index, %j: index):
      %line = arith.muli %i, %c16 : index
      %offset = arith.addi %line, %j : index
      gpu.yield %offset : index
    }) {vector = 8 : i64} : (!right, index, memref<?xf16>, index, index) -> ()
    "tile.commit"() : () -> ()
    "tile.wait"() {pending = 0 : i64} : () -> ()
    "tile.barrier"() : () -> ()
    %next = "tile.dot"(%left, %right, %so_far, %c0) {instruction = "m16n8k16.f16"}
      : (!left, !right, !sum, index) -> !sum
    "tile.barrier"() : () -> ()
    scf.yield %next : !sum
  }
  "tile.map"(%c0, %c0, %c16, %c16) ({
  ^bb0(%i: index, %j: index):
    %value = "tile.element"(%sum) : (!sum) -> f32
    %line = arith.muli %i, %c16 : index
    %offset = arith.addi %line, %j : index
    "tile.store"(%value, %y, %offset) {lanes = "contiguous"} : (f32, memref<?xf32>, index) -> ()
    gpu.yield
  }) {layout = "mma<1x1 warps, width=2>", shape = array<i64: 16, 16>} : (index, index, index, index) -> ()
  return
}

// -----
// What a copy computes from its position, outside of its body, is computed again for the steps ahead.

!tile = !tile.tile<[16, 16], f16, "shared<rows, line=24>">
!sum = !tile.tile<[16, 16], f32, "mma<1x1 warps, width=2>">

// CHECK: %[[FIRST:.*]] = arith.addi %c0,
// CHECK: scf.if
// CHECK-NEXT: %[[TWICE:.*]] = arith.muli %[[FIRST]], %c2
// CHECK-NEXT: "tile.copy"(%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %[[TWICE]])
// CHECK: scf.for %[[POSITION:.*]] = %c0 to
// CHECK: %[[NEXT:.*]] = arith.addi %[[POSITION]],
// CHECK: scf.if
// CHECK-NEXT: %[[TWICE:.*]] = arith.muli %[[NEXT]], %c2
// CHECK-NEXT: "tile.copy"(%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %[[TWICE]])
func.func @dot(%x: memref<?xf16>, %k: index) attributes {tile.schedule = {stages = 2 : i64}, tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %c16 = arith.constant 16 : index
  %zero = arith.constant 0.0 : f32
  %start = "tile.full"(%zero) : (f32) -> !sum
  %tile = "tile.allocate"() {stages = 1 : i64} : () -> !tile
  %sum = scf.for %position = %c0 to %k step %c16 iter_args(%so_far = %start) -> (!sum) {
    %twice = arith.muli %position, %c2 : index
    "tile.copy"(%tile, %c0, %x, %c0, %twice) ({
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
