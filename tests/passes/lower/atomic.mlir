// RUN: tilewright opt %s --from lower --target sm_80
// One instruction for a sum, under the condition and the bounds of the map; a product tries again until no other thread
// came between reading and writing.

// CHECK: llvm.func @atomic
// CHECK: scf.if
// CHECK: llvm.atomicrmw fadd %{{.*}}, %{{.*}} syncscope("device") monotonic : !llvm.ptr<1>, f32
// CHECK: scf.if
// CHECK: %[[FIRST:.*]] = llvm.load %[[PLACE:[^ ]*]] {{.*}} -> i32
// CHECK: scf.while (%[[EXPECTED:.*]] = %[[FIRST]])
// CHECK: %[[OLD:.*]] = arith.bitcast %[[EXPECTED]] : i32 to f32
// CHECK: %[[NEW:.*]] = arith.mulf %[[OLD]],
// CHECK: %[[WANTED:.*]] = arith.bitcast %[[NEW]] : f32 to i32
// CHECK: %[[ANSWER:.*]] = llvm.cmpxchg %[[PLACE]], %[[EXPECTED]], %[[WANTED]]
// CHECK: %[[FOUND:.*]] = llvm.extractvalue %[[ANSWER]][0]
// CHECK: scf.condition(%{{.*}}) %[[FOUND]]
func.func @atomic(%x: memref<?xf32>, %y: memref<?xf32>, %n: index) attributes {tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  "tile.map"(%c0, %c0, %c1, %n) ({
  ^bb0(%i: index, %j: index):
    %a = "tile.load"(%x, %j) {lanes = "uniform"} : (memref<?xf32>, index) -> f32
    %zero = arith.constant 0.0 : f32
    %p = arith.cmpf ogt, %a, %zero : f32
    "tile.atomic"(%a, %y, %i, %p) {kind = "sum"} : (f32, memref<?xf32>, index, i1) -> ()
    "tile.atomic"(%a, %y, %j, %p) {kind = "product"} : (f32, memref<?xf32>, index, i1) -> ()
    gpu.yield
  }) {full = ["rows"], layout = "blocked<1x32, vector=1>", shape = array<i64: 1, 32>}
    : (index, index, index, index) -> ()
  return
}
