// RUN: tilewright opt %s --from lower --target sm_80
// Four neighbours are one access of 16 bytes, and so is what repeats for all of them: a uniform load happens once.
// Positions past the end are clamped for loading and not stored.

// CHECK: llvm.func @map(%[[X:[^:]*]]: !llvm.ptr<1> {{{[^}]*}}}, %[[S:[^:]*]]: !llvm.ptr<1> {{{[^}]*}}},
// CHECK-SAME: %[[Y:[^:]*]]: !llvm.ptr<1> {{{[^}]*}}}, %[[N:[^:]*]]: i32)
// CHECK: %[[INSIDE:.*]] = arith.cmpi slt, %[[POSITION:.*]], %[[N]]
// CHECK-NEXT: %[[LAST:.*]] = arith.subi %[[N]], %c4_i32
// CHECK-NEXT: %[[CLAMPED:.*]] = arith.select %[[INSIDE]], %[[POSITION]], %[[LAST]]
// CHECK: %[[SOURCE:.*]] = llvm.getelementptr %[[X]][%[[CLAMPED]]]
// CHECK-NEXT: llvm.load %[[SOURCE]] {alignment = 16 : i64} : !llvm.ptr<1> -> vector<4xf32>
// CHECK: llvm.load %{{.*}} {alignment = 4 : i64} : !llvm.ptr<1> -> f32
// CHECK-COUNT-4: arith.mulf
// CHECK: scf.if %[[INSIDE]]
// CHECK: llvm.getelementptr %[[Y]]
// CHECK: llvm.store %{{.*}} {alignment = 16 : i64} : vector<4xf32>, !llvm.ptr<1>
// CHECK-NOT: llvm.load
func.func @map(%x: memref<?xf32>, %scale: memref<?xf32>, %y: memref<?xf32>, %n: index)
    attributes {tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  "tile.map"(%c0, %c0, %c1, %n) ({
  ^bb0(%i: index, %j: index):
    %a = "tile.load"(%x, %j) {lanes = "contiguous"} : (memref<?xf32>, index) -> f32
    %b = "tile.load"(%scale, %i) {lanes = "uniform"} : (memref<?xf32>, index) -> f32
    %c = arith.mulf %a, %b : f32
    "tile.store"(%c, %y, %j) {lanes = "contiguous"} : (f32, memref<?xf32>, index) -> ()
    gpu.yield
  }) {full = ["rows"], layout = "blocked<1x32, vector=4>", shape = array<i64: 1, 128>}
    : (index, index, index, index) -> ()
  return
}

// -----
// Scattered lanes load one by one, but store together.

// CHECK-COUNT-4: llvm.load %{{.*}} {alignment = 4 : i64} : !llvm.ptr<1> -> f32
// CHECK: llvm.store %{{.*}} {alignment = 16 : i64} : vector<4xf32>, !llvm.ptr<1>
func.func @map(%x: memref<?xf32>, %y: memref<?xf32>) attributes {tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c3 = arith.constant 3 : index
  %c128 = arith.constant 128 : index
  "tile.map"(%c0, %c0, %c1, %c128) ({
  ^bb0(%i: index, %j: index):
    %k = arith.muli %j, %c3 : index
    %a = "tile.load"(%x, %k) {lanes = "scattered"} : (memref<?xf32>, index) -> f32
    "tile.store"(%a, %y, %j) {lanes = "contiguous"} : (f32, memref<?xf32>, index) -> ()
    gpu.yield
  }) {full = ["rows", "columns"], layout = "blocked<1x32, vector=4>", shape = array<i64: 1, 128>}
    : (index, index, index, index) -> ()
  return
}

// -----
// Where its predicate does not hold, a masked load reads the first elements, which exist, and takes the other value.

// CHECK: %[[HOLDS:.*]] = arith.cmpi slt
// CHECK-NEXT: %[[OFFSET:.*]] = arith.select %[[HOLDS]], %{{.*}}, %c0_i32
// CHECK-NEXT: %[[SOURCE:.*]] = llvm.getelementptr %{{.*}}[%[[OFFSET]]]
// CHECK-NEXT: llvm.load %[[SOURCE]] {alignment = 16 : i64} : !llvm.ptr<1> -> vector<4xf32>
// CHECK-COUNT-4: arith.select %[[HOLDS]], %{{.*}}, %cst : f32
// CHECK: llvm.store
func.func @map(%x: memref<?xf32>, %y: memref<?xf32>, %n: index) attributes {tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c128 = arith.constant 128 : index
  %zero = arith.constant 0.0 : f32
  %holds = arith.cmpi slt, %c1, %n : index
  "tile.map"(%c0, %c0, %c1, %c128) ({
  ^bb0(%i: index, %j: index):
    %a = "tile.masked_load"(%x, %j, %holds, %zero) {lanes = "contiguous"} : (memref<?xf32>, index, i1, f32) -> f32
    "tile.store"(%a, %y, %j) {lanes = "contiguous"} : (f32, memref<?xf32>, index) -> ()
    gpu.yield
  }) {full = ["rows", "columns"], layout = "blocked<1x32, vector=4>", shape = array<i64: 1, 128>}
    : (index, index, index, index) -> ()
  return
}

// -----
// A tensor within a larger one: what is read where the predicate does not hold is its own first element.

// CHECK: %[[WITHIN:.*]] = arith.constant 64 : i32
// CHECK: arith.select %{{.*}}, %{{.*}}, %[[WITHIN]] : i32
func.func @map(%x: memref<?xf32>, %y: memref<?xf32>, %n: index) attributes {tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c128 = arith.constant 128 : index
  %zero = arith.constant 0.0 : f32
  %holds = arith.cmpi slt, %c1, %n : index
  "tile.map"(%c0, %c0, %c1, %c128) ({
  ^bb0(%i: index, %j: index):
    %a = "tile.masked_load"(%x, %j, %holds, %zero) {instead = 64 : i64, lanes = "contiguous"} : (memref<?xf32>, index, i1, f32) -> f32
    "tile.store"(%a, %y, %j) {lanes = "contiguous"} : (f32, memref<?xf32>, index) -> ()
    gpu.yield
  }) {full = ["rows", "columns"], layout = "blocked<1x32, vector=4>", shape = array<i64: 1, 128>}
    : (index, index, index, index) -> ()
  return
}

// -----
// What is only read is declared so, which lets it go through the read-only cache; what is written is not.

// CHECK: llvm.func @map(%arg0: !llvm.ptr<1> {{{.*}}llvm.noalias, llvm.readonly},
// CHECK-SAME: %arg1: !llvm.ptr<1> {{{[^}]*}}llvm.noalias},
// CHECK-SAME: nvvm.kernel
func.func @map(%x: memref<?xf32>, %y: memref<?xf32>, %n: index) attributes {tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  "tile.map"(%c0, %c0, %c1, %n) ({
  ^bb0(%i: index, %j: index):
    %a = "tile.load"(%x, %j) {lanes = "uniform"} : (memref<?xf32>, index) -> f32
    "tile.store"(%a, %y, %j) {lanes = "uniform"} : (f32, memref<?xf32>, index) -> ()
    gpu.yield
  }) {full = ["rows"], layout = "blocked<1x32, vector=1>", shape = array<i64: 1, 32>}
    : (index, index, index, index) -> ()
  return
}

// -----
// The order of loads and stores: sixteen elements are loaded before they are stored, to have them in flight together;
// the next sixteen come then, for which the same registers do.

// CHECK-COUNT-4: llvm.load %{{.*}} : !llvm.ptr<1> -> vector<4xf32>
// CHECK-NOT: llvm.load
// CHECK-COUNT-4: llvm.store %{{.*}} : vector<4xf32>, !llvm.ptr<1>
// CHECK-NOT: llvm.store
// CHECK-COUNT-4: llvm.load %{{.*}} : !llvm.ptr<1> -> vector<4xf32>
// CHECK-NOT: llvm.load
// CHECK-COUNT-4: llvm.store %{{.*}} : vector<4xf32>, !llvm.ptr<1>
func.func @map(%x: memref<?xf32>, %y: memref<?xf32>) attributes {tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c1024 = arith.constant 1024 : index
  "tile.map"(%c0, %c0, %c1, %c1024) ({
  ^bb0(%i: index, %j: index):
    %a = "tile.load"(%x, %j) {lanes = "contiguous"} : (memref<?xf32>, index) -> f32
    "tile.store"(%a, %y, %j) {lanes = "contiguous"} : (f32, memref<?xf32>, index) -> ()
    gpu.yield
  }) {full = ["rows", "columns"], layout = "blocked<1x32, vector=4>", shape = array<i64: 1, 1024>}
    : (index, index, index, index) -> ()
  return
}

// -----
// Bounds in both directions: a store wants both, and what lies outside of either is `fill` in the result.

!tile = !tile.tile<[4, 8], f32, "blocked<4x8, vector=1>">

// CHECK: llvm.func @map(%{{[^:]*}}: !llvm.ptr<1> {{{[^}]*}}}, %{{[^:]*}}: !llvm.ptr<1> {{{[^}]*}}},
// CHECK-SAME: %[[ROWS:[^:]*]]: i32, %[[COLUMNS:[^:]*]]: i32)
// CHECK: %[[FILL:.*]] = arith.constant 1.000000e+00 : f32
// CHECK: %[[FILLED:.*]] = arith.select %{{.*}}, %{{.*}}, %[[FILL]] : f32
// CHECK-DAG: %[[ROW:.*]] = arith.cmpi slt, %{{.*}}, %[[ROWS]]
// CHECK-DAG: %[[COLUMN:.*]] = arith.cmpi slt, %{{.*}}, %[[COLUMNS]]
// CHECK: %[[BOTH:.*]] = arith.andi %[[ROW]], %[[COLUMN]]
// CHECK: scf.if %[[BOTH]]
// CHECK: llvm.store %[[FILLED]],
func.func @map(%x: memref<?xf32>, %y: memref<?xf32>, %rows: index, %columns: index)
    attributes {tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %tile = "tile.map"(%c0, %c0, %rows, %columns) ({
  ^bb0(%i: index, %j: index):
    %a = "tile.load"(%x, %j) {lanes = "uniform"} : (memref<?xf32>, index) -> f32
    gpu.yield %a : f32
  }) {fill = 1.0 : f32, layout = "blocked<4x8, vector=1>", shape = array<i64: 4, 8>}
    : (index, index, index, index) -> !tile
  "tile.map"(%c0, %c0, %rows, %columns) ({
  ^bb0(%i: index, %j: index):
    %a = "tile.element"(%tile) : (!tile) -> f32
    "tile.store"(%a, %y, %j) {lanes = "uniform"} : (f32, memref<?xf32>, index) -> ()
    gpu.yield
  }) {layout = "blocked<4x8, vector=1>", shape = array<i64: 4, 8>} : (index, index, index, index) -> ()
  return
}

// -----
// Runs of neighbours: integers of all lanes in one access, a vector for every lane in its own; nothing where the predicate does
// not hold. Bytes are chosen by prmt.

// CHECK: %[[BYTES:.*]] = llvm.getelementptr %arg0[%{{.*}}] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i8
// CHECK: llvm.load %{{.*}} {alignment = 16 : i64} : !llvm.ptr<1> -> vector<4xi32>
// CHECK-COUNT-4: llvm.load %{{.*}} {alignment = 16 : i64} : !llvm.ptr<1> -> vector<8xf16>
// CHECK: arith.select %{{.*}}, %{{.*}}, %cst : vector<8xf16>
// CHECK-COUNT-4: llvm.call_intrinsic "llvm.nvvm.prmt"
func.func @map(%x: memref<?xi8>, %y: memref<?xf16>, %z: memref<?xi32>, %n: index) attributes {tile.threads = 32 : i64} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c128 = arith.constant 128 : index
  %holds = arith.cmpi slt, %c1, %n : index
  "tile.map"(%c0, %c0, %c1, %c128) ({
  ^bb0(%i: index, %j: index):
    %c4 = arith.constant 4 : index
    %c8 = arith.constant 8 : index
    %first = arith.muli %j, %c4 : index
    %second = arith.muli %j, %c8 : index
    %a = "tile.load_run"(%x, %first) {lanes = "contiguous"} : (memref<?xi8>, index) -> i32
    %b = "tile.load_run"(%y, %second, %holds) {lanes = "scattered"} : (memref<?xf16>, index, i1) -> vector<8xf16>
    %c = vector.extract %b[3] : f16 from vector<8xf16>
    %d = arith.fptosi %c : f16 to i32
    %e = "tile.select_bytes"(%a, %d) {selector = 30288 : i64} : (i32, i32) -> i32
    "tile.store"(%e, %z, %j) {lanes = "contiguous"} : (i32, memref<?xi32>, index) -> ()
    gpu.yield
  }) {full = ["rows", "columns"], layout = "blocked<1x32, vector=4>", shape = array<i64: 1, 128>}
    : (index, index, index, index) -> ()
  return
}
