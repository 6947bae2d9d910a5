// RUN: tilewright opt %s --from lower --target sm_90a
// Roles are branches on the thread; barriers are mbarriers in shared memory, initialised by one thread and made visible
// to copies; a box is one bulk copy whose bytes arrive at its barrier.

!tile = !tile.tile<[64, 64], f16, "shared<rows, line=64, swizzle=128>">
!map = !tile.tensor_map<f16, [64, 64], "128b">

// CHECK: llvm.func @roles(%[[MAP:[^:]*]]: !llvm.ptr {{{.*}}nvvm.grid_constant}, %[[K:[^:]*]]: i32)
// CHECK: %[[THREAD:.*]] = nvvm.read.ptx.sreg.tid.x
// CHECK: %[[OWN:.*]] = arith.addi %[[THREAD]], %c-128_i32
// CHECK: %[[FIRST:.*]] = arith.cmpi eq, %[[THREAD]], %c0_i32
// CHECK-NEXT: scf.if %[[FIRST]]
// CHECK-COUNT-2: nvvm.mbarrier.init
// CHECK: nvvm.fence.mbarrier.init
// CHECK: nvvm.fence.proxy
// CHECK: nvvm.barrier0
// CHECK: %[[CONSUMES:.*]] = arith.cmpi ult, %[[THREAD]], %c128_i32
// CHECK-NEXT: scf.if %[[CONSUMES]]
// CHECK: nvvm.mbarrier.try_wait.parity
// CHECK: mbarrier.arrive.shared::cta.b64
// CHECK: %[[PRODUCES:.*]] = arith.cmpi ult, %[[OWN]], %c128_i32
// CHECK-NEXT: scf.if %[[PRODUCES]]
// CHECK-NEXT: %[[ALONE:.*]] = arith.cmpi eq, %[[OWN]], %c0_i32
// CHECK-NEXT: scf.if %[[ALONE]]
// CHECK: nvvm.mbarrier.arrive.expect_tx %{{.*}}, %c8192_i32
// CHECK: nvvm.cp.async.bulk.tensor.shared.cluster.global %{{.*}}, %[[MAP]], %{{.*}}, box[%[[K]], %c0_i32{{.*}}]
func.func @roles(%map: !map, %k: index) attributes {tile.threads = 256 : i64} {
  %c0 = arith.constant 0 : index
  %tile = "tile.allocate"() {stages = 2 : i64} : () -> !tile
  %full = "tile.make_barriers"() {count = 2 : i64, arrivals = 1 : i64} : () -> !tile.barriers
  "tile.barrier"() : () -> ()
  "tile.warps"() ({
    "tile.await"(%full, %c0, %c0) : (!tile.barriers, index, index) -> ()
    "tile.arrive"(%full, %c0) : (!tile.barriers, index) -> ()
    gpu.yield
  }) {first = 0 : i64, count = 4 : i64} : () -> ()
  "tile.warps"() ({
    "tile.single"() ({
      "tile.expect"(%full, %c0) {bytes = 8192 : i64} : (!tile.barriers, index) -> ()
      "tile.load_box"(%tile, %c0, %map, %full, %c0, %c0, %k, %c0) {rank = 2 : i64}
        : (!tile, index, !map, !tile.barriers, index, index, index, index) -> ()
      gpu.yield
    }) : () -> ()
    gpu.yield
  }) {first = 4 : i64, count = 4 : i64} : () -> ()
  return
}

// -----
// Groups apart: a group's threads are counted from its own first, and its barrier is the first of the role plus its
// number.

// CHECK: llvm.func @apart
// CHECK: %[[THREAD:.*]] = nvvm.read.ptx.sreg.tid.x
// CHECK: %[[NUMBER:.*]] = arith.divui %[[THREAD]], %c128_i32
// CHECK: %[[GROUP:.*]] = nvvm.shfl.sync idx %{{.*}}, %[[NUMBER]]
// CHECK: %[[BARRIER:.*]] = arith.addi %[[GROUP]], %c1_i32
// CHECK: nvvm.barrier id = %[[BARRIER]] number_of_threads = %c128_i32
func.func @apart() attributes {tile.threads = 256 : i64} {
  "tile.warps"() ({
    %group = "tile.group"() : () -> index
    "tile.barrier"() : () -> ()
    gpu.yield
  }) {first = 0 : i64, count = 8 : i64, apart} : () -> ()
  return
}

// -----
// Blocks meet: what was written before is there for all of them, unless the barrier is relaxed.

// CHECK: llvm.func @meet
// CHECK: nvvm.cluster.arrive.relaxed
// CHECK-NEXT: nvvm.cluster.wait
// CHECK-NEXT: nvvm.cluster.arrive
// CHECK-NOT: relaxed
// CHECK-NEXT: nvvm.cluster.wait
func.func @meet() attributes {tile.threads = 128 : i64, tile.cluster = 2 : i64} {
  "tile.cluster_barrier"() {relaxed} : () -> ()
  "tile.cluster_barrier"() : () -> ()
  return
}
