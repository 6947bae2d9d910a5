// RUN: tilewright opt %s --from pack-weights
// A weight of 4 bits that a map of its shape reads lies packed, the last byte of a row half full; the map shifts.

!x = tensor<?x5xf32, ["n", "5"]>
!w = tensor<32x5xi4>
!f = tensor<32x5xf32>

// CHECK-LABEL: func.func @main
// CHECK: %[[W:.*]] = "graph.weight"() {{.*}} : () -> tensor<32x3xui8>
// CHECK: %[[INNER:.*]] = "graph.reshape"(%[[W]]) : (tensor<32x3xui8>) -> tensor<32x3x1xui8>
// CHECK: %[[SPREAD:.*]] = "graph.broadcast"(%[[INNER]]) : (tensor<32x3x1xui8>) -> tensor<32x3x2xui8>
// CHECK: %[[WHOLE:.*]] = "graph.reshape"(%[[SPREAD]]) : (tensor<32x3x2xui8>) -> tensor<32x6xui8>
// CHECK: %[[BYTES:.*]] = "graph.slice"(%[[WHOLE]]) {{.*}} -> tensor<32x5xui8>
// CHECK: "graph.map"
// CHECK: %[[BYTE:.*]] = "graph.element"(%[[BYTES]])
// CHECK: "graph.index"() {axis = 1 : i64}
// CHECK: arith.shrui %[[BYTE]]
// CHECK: %[[MASK:.*]] = arith.constant 15 : i8
// CHECK: arith.andi {{.*}}, %[[MASK]] : i8
func.func @main() -> !f {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %0 = "graph.map"() ({
    %1 = "graph.element"(%w) : (!w) -> i8
    %2 = arith.extsi %1 : i8 to i32
    %3 = arith.constant 28 : i32
    %4 = arith.shli %2, %3 : i32
    %5 = arith.shrsi %4, %3 : i32
    %6 = arith.sitofp %5 : i32 to f32
    gpu.yield %6 : f32
  }) : () -> !f
  return %0 : !f
}

// -----
// One that is stretched, as zero points are, or read by something else than a map keeps a byte an element.

!z = tensor<1x8xui4>
!t = tensor<4x8xi4>
!f = tensor<4x8xf32>

// CHECK-LABEL: func.func @main
// CHECK-DAG: "graph.weight"() {handle = "z"} : () -> tensor<1x8xui4>
// CHECK-DAG: "graph.weight"() {handle = "t"} : () -> tensor<4x8xi4>
// CHECK-NOT: ui8
func.func @main() -> (!f, !t) {
  %z = "graph.weight"() {handle = "z"} : () -> !z
  %t = "graph.weight"() {handle = "t"} : () -> !t
  %0 = "graph.map"() ({
    %1 = "graph.element"(%z) : (!z) -> i8
    %2 = arith.extui %1 : i8 to i32
    %3 = arith.sitofp %2 : i32 to f32
    gpu.yield %3 : f32
  }) : () -> !f
  return %0, %t : !f, !t
}

// -----
// The right operand of a product that has k first: neighbours along k share a byte, and the weight is stored turned.

!x = tensor<?x6xf32, ["n", "6"]>
!w = tensor<6x5xi4>
!f = tensor<6x5xf32>
!y = tensor<?x5xf32, ["n", "5"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[W:.*]] = "graph.weight"() {{.*}} : () -> tensor<5x3xui8>
// CHECK: %[[WHOLE:.*]] = "graph.reshape"({{.*}}) : (tensor<5x3x2xui8>) -> tensor<5x6xui8>
// CHECK: %[[TURNED:.*]] = "graph.transpose"(%[[WHOLE]]) {{.*}} -> tensor<6x5xui8>
// CHECK: "graph.element"(%[[TURNED]])
// CHECK: "graph.index"() {axis = 0 : i64}
func.func @main(%x: !x {graph.name = "x"}) -> !y {
  %w = "graph.weight"() {handle = "w"} : () -> !w
  %0 = "graph.map"() ({
    %1 = "graph.element"(%w) : (!w) -> i8
    %2 = arith.extsi %1 : i8 to i32
    %3 = arith.sitofp %2 : i32 to f32
    gpu.yield %3 : f32
  }) : () -> !f
  %4 = "graph.matmul"(%x, %0) {transpose_left = 0 : i64, transpose_right = 0 : i64} : (!x, !f) -> !y
  return %4 : !y
}
