// RUN: tilewright opt %s --from lower --target sm_80
// Into shared memory, a round for every bit of the last position, and back. A round mirrors the upper half of each pair of
// runs, then halves the distance; every exchange ends at a barrier, and puts the lesser key, or of equal ones the lesser
// place, first.

// CHECK: llvm.func @sort
// CHECK: scf.for
// CHECK: llvm.load %{{.*}} : !llvm.ptr<1> -> i32
// CHECK: llvm.store %{{.*}} : i32, !llvm.ptr<3>
// CHECK: nvvm.barrier0
// CHECK: %[[ZEROS:.*]] = math.ctlz
// CHECK: %[[ROUNDS:.*]] = arith.subi %{{.*}}, %[[ZEROS]]
// CHECK: scf.for %[[LEVEL:.*]] = %{{.*}} to %[[ROUNDS]] step
// CHECK: arith.cmpi ugt
// CHECK: arith.cmpi eq
// CHECK: arith.cmpi ugt
// CHECK: nvvm.barrier0
// CHECK: scf.for %{{.*}} = %{{.*}} to %[[LEVEL]] step
// CHECK: nvvm.barrier0
// CHECK: scf.for
// CHECK: llvm.store %{{.*}} : i32, !llvm.ptr<1>
func.func @sort(%keys: memref<?xi32>, %places: memref<?xi32>, %count: index) attributes {tile.threads = 128 : i64} {
  %c0 = arith.constant 0 : index
  "tile.sort"(%keys, %places, %c0, %count) {most = 256 : i64} : (memref<?xi32>, memref<?xi32>, index, index) -> ()
  return
}
