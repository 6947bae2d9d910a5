// RUN: tilewright opt %s --from split-reductions --target sm_90a
// Column sums of a tall matrix would be one block's work. Its rows are cut into parts; the map in front, which nothing
// else needs, is computed on the parts. Halves are summed in f32 throughout.

!x = tensor<262144x64xf16>
!row = tensor<64xf16>
!y = tensor<1x64xf16>

// CHECK-LABEL: func.func @main
// CHECK: %[[CUT:.*]] = "graph.reshape"(%arg0) : (tensor<262144x64xf16>) -> tensor<256x1024x64xf16>
// CHECK: "graph.element"(%[[CUT]])
// CHECK: "graph.element"(%arg1) : (tensor<64xf16>)
// CHECK: %[[FIRST:.*]] = "graph.reduce"({{.*}}) {axes = array<i64: 1>, kind = "sum"} : (tensor<256x1024x64xf32>)
// CHECK: %[[PARTS:.*]] = "graph.reshape"(%[[FIRST]])
// CHECK: "graph.reduce"(%[[PARTS]]) {axes = array<i64: 0>, kind = "sum"} : (tensor<256x64xf32>) -> tensor<1x64xf32>
// CHECK: arith.truncf
func.func @main(%x: !x, %row: !row) -> !y {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f16
    %b = "graph.element"(%row) : (!row) -> f16
    %c = arith.mulf %a, %b : f16
    gpu.yield %c : f16
  }) : () -> !x
  %1 = "graph.reduce"(%0) {axes = array<i64: 0>, kind = "sum"} : (!x) -> !y
  return %1 : !y
}

// -----
// Lines enough for the whole card, or a result that is needed beside what it is made of: nothing changes.

!x = tensor<4096x1024xf32>
!y = tensor<4096x1xf32>
!long = tensor<1x4194304xf32>
!one = tensor<1x1xf32>

// CHECK-LABEL: func.func @main
// CHECK-NOT: graph.reshape
// CHECK: return
func.func @main(%x: !x, %long: !long) -> (!y, !long) {
  %0 = "graph.reduce"(%x) {axes = array<i64: 1>, kind = "max"} : (!x) -> !y
  %1 = "graph.reduce"(%long) {axes = array<i64: 1>, kind = "max"} : (!long) -> !one
  %2 = "graph.map"() ({
    %a = "graph.element"(%long) : (!long) -> f32
    %b = "graph.element"(%1) : (!one) -> f32
    %c = arith.subf %a, %b : f32
    gpu.yield %c : f32
  }) : () -> !long
  return %0, %2 : !y, !long
}
