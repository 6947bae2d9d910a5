// RUN: tilewright opt %s --from lower --target sm_90a
// The wait clobbers memory, and of what a kernel reads nothing is promised: no load may move in front of it. That the
// two arguments are different memory is said at each access.

// CHECK: llvm.func @copy(%[[FROM:[^:]*]]: !llvm.ptr<1> {llvm.align = 16 : i64}, %{{[^:]*}}: !llvm.ptr<1> {llvm.align = 16 : i64},
// CHECK: nvvm.griddepcontrol launch_dependents
// CHECK: %[[FIRST:.*]] = arith.cmpi eq
// CHECK-NEXT: scf.if %[[FIRST]]
// CHECK-NEXT: llvm.inline_asm has_side_effects {{.*}}"prefetch.tensormap [$0];", "l"
// CHECK: llvm.inline_asm has_side_effects {{.*}}"griddepcontrol.wait;", "~{memory}"
// CHECK: llvm.load {{.*}}alias_scopes = [#[[READ:[a-z0-9_]+]]], {{.*}}noalias_scopes = [#[[WRITTEN:[a-z0-9_]+]]]
// CHECK: llvm.store {{.*}}alias_scopes = [#[[WRITTEN]]], {{.*}}noalias_scopes = [#[[READ]]]
func.func @copy(%from: memref<?xf32>, %to: memref<?xf32>, %map: !tile.tensor_map<f16, [64, 64], "128b">)
    attributes {tile.threads = 128 : i64} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c128 = arith.constant 128 : index
  "tile.begin_next"() : () -> ()
  "tile.prefetch_map"(%map) : (!tile.tensor_map<f16, [64, 64], "128b">) -> ()
  "tile.await_previous"() : () -> ()
  "tile.map"(%c0, %c0, %c1, %c128) ({
  ^bb0(%i: index, %j: index):
    %x = "tile.load"(%from, %j) {lanes = "contiguous"} : (memref<?xf32>, index) -> f32
    "tile.store"(%x, %to, %j) {lanes = "contiguous"} : (f32, memref<?xf32>, index) -> ()
    gpu.yield
  }) {full = ["rows", "columns"], layout = "blocked<1x128, vector=1>", shape = array<i64: 1, 128>} : (index, index, index, index) -> ()
  return
}
