// RUN: tilewright opt %s --from plan-precision --precision strict | FileCheck %s --check-prefix=STRICT
// RUN: tilewright opt %s --from plan-precision --precision tf32 | FileCheck %s --check-prefix=TF32
// RUN: tilewright opt %s --from plan-precision --precision f16 | FileCheck %s --check-prefixes=NARROW -DT=f16
// RUN: tilewright opt %s --from plan-precision --precision bf16 | FileCheck %s --check-prefixes=NARROW -DT=bf16
// What a product multiplies in: tf32 is an attribute; f16 and bf16 are casts of the operands, the sum stays f32. The
// weight is converted at compile time, a tensor that two products read is cast once.

!x = tensor<?x16xf32, ["n", "16"]>
!w = tensor<16x8xf32>
!y = tensor<?x8xf32, ["n", "8"]>

// STRICT: "graph.matmul"(%arg0, %{{.*}}) {transpose_left = 0 : i64, transpose_right = 0 : i64}
// STRICT-NOT: tf32
// STRICT-NOT: f16

// TF32-NOT: arith.truncf
// TF32-COUNT-2: "graph.matmul"{{.*}}precision = "tf32"

// NARROW: %[[X:.*]] = "graph.map"
// NARROW: arith.truncf {{.*}} : f32 to [[T]]
// NARROW: %[[W:.*]] = "graph.weight"() {handle = "w.[[T]]"} : () -> tensor<16x8x[[T]]>
// NARROW: "graph.matmul"(%[[X]], %[[W]]) {{.*}} -> tensor<?x8xf32
// NARROW-NOT: arith.truncf
// NARROW: "graph.matmul"(%[[X]], %{{.*}}) {{.*}} -> tensor<?x8xf32
func.func @main(%x: !x) -> (!y, !y) {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %v = "graph.weight"() {handle = "v"} : () -> !w
  %0 = "graph.matmul"(%x, %w) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !y
  %1 = "graph.matmul"(%x, %v) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !w) -> !y
  return %0, %1 : !y, !y
}
