// RUN: tilewright opt %s --from lower --target sm_90a
// A block takes the sums of the one in front of it, thread by thread, and leaves the total for the one behind: pieces of
// 16 bytes, and a flag of the warp, which is cleared when it was read.

!sum = !tile.tile<[16, 16], f32, "mma<1x1 warps, width=2>">

// CHECK: llvm.func @hand_over
// CHECK-DAG: %[[FIRST:.*]] = arith.muli %{{.*}}, %c4_i32
// CHECK: scf.while
// CHECK: llvm.inline_asm has_side_effects "ld.acquire.gpu.global.b32 $0, [$1];", "=r,l,~{memory}"
// CHECK: scf.condition
// CHECK: llvm.load %{{.*}} {alignment = 16 : i64} : !llvm.ptr<1> -> vector<4xf32>
// CHECK-COUNT-4: arith.addf
// CHECK: llvm.load %{{.*}} {alignment = 16 : i64} : !llvm.ptr<1> -> vector<4xf32>
// CHECK-COUNT-4: arith.addf
// CHECK: nvvm.bar.warp.sync
// CHECK: st.relaxed.gpu.global.b32 [$1], 0;
// CHECK-COUNT-2: llvm.store %{{.*}} {alignment = 16 : i64} : vector<4xf32>, !llvm.ptr<1>
// CHECK: nvvm.bar.warp.sync
// CHECK: st.release.gpu.global.b32 [$1], 1;
func.func @hand_over(%workspace: memref<?xf32>, %semaphores: memref<?xi32>) attributes {tile.threads = 32 : i64} {
  %zero = arith.constant 0.0 : f32
  %one = arith.constant 1 : index
  %block = "tile.program_id"() {axis = 0 : i64} : () -> index
  %before = arith.subi %block, %one : index
  %sums = "tile.full"(%zero) : (f32) -> !sum
  %total = "tile.collect"(%sums, %workspace, %semaphores, %before)
    : (!sum, memref<?xf32>, memref<?xi32>, index) -> !sum
  "tile.publish"(%total, %workspace, %semaphores, %block) : (!sum, memref<?xf32>, memref<?xi32>, index) -> ()
  return
}
