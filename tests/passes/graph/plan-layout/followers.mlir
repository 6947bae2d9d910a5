// RUN: tilewright opt %s --from plan-layout
// What reads an image follows it: axes of reductions, slices, concatenations and positions are renamed instead of data
// being moved. Here: the mean over an image after a pool, along with a reshape that drops its size.

!x = tensor<?x4x?x?xf32, ["n", "4", "h", "w"]>
!mean = tensor<?x4x1x1xf32, ["n", "4", "1", "1"]>
!y = tensor<?x4xf32, ["n", "4"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[X:.*]] = "graph.transpose"(%arg0) {permutation = array<i64: 0, 2, 3, 1>}
// CHECK-NEXT: %[[POOL:.*]] = "graph.pool"(%[[X]]) {{.*}}layout = "channels_last"
// CHECK-NEXT: %[[MEAN:.*]] = "graph.reduce"(%[[POOL]]) {axes = array<i64: 1, 2>{{.*}} -> tensor<?x1x1x4xf32
// CHECK-NEXT: %[[Y:.*]] = "graph.reshape"(%[[MEAN]])
// CHECK-NEXT: return %[[Y]]
func.func @main(%x: !x) -> !y {
  %0 = "graph.pool"(%x) {kind = "max", kernel = array<i64: 3, 3>, include_padding = 0 : i64, strides = array<i64: 1, 1>,
    pads = ["1", "1", "1", "1"], dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x) -> !x
  %1 = "graph.reduce"(%0) {kind = "sum", axes = array<i64: 2, 3>} : (!x) -> !mean
  %2 = "graph.reshape"(%1) : (!mean) -> !y
  return %2 : !y
}

// -----
// Channels that are split, changed and joined again, as in a ShuffleNet.

!x = tensor<?x4x8x8xf32, ["n", "4", "8", "8"]>
!half = tensor<?x2x8x8xf32, ["n", "2", "8", "8"]>

// CHECK-LABEL: func.func @main
// CHECK: graph.pool
// CHECK-NEXT: %[[LOW:.*]] = "graph.slice"{{.*}}starts = ["0", "0", "0", "0"]{{.*}} -> tensor<?x8x8x2xf32
// CHECK-NEXT: %[[HIGH:.*]] = "graph.slice"{{.*}}starts = ["0", "0", "0", "2"]
// CHECK-NEXT: "graph.concatenate"
// CHECK-NEXT: gpu.yield %[[HIGH]], %[[LOW]]
// CHECK-NEXT: {axis = 3 : i64}
func.func @main(%x: !x) -> !x {
  %0 = "graph.pool"(%x) {kind = "max", kernel = array<i64: 3, 3>, include_padding = 0 : i64, strides = array<i64: 1, 1>,
    pads = ["1", "1", "1", "1"], dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x) -> !x
  %1 = "graph.slice"(%0) {starts = ["0", "0", "0", "0"], steps = array<i64: 1, 1, 1, 1>} : (!x) -> !half
  %2 = "graph.slice"(%0) {starts = ["0", "2", "0", "0"], steps = array<i64: 1, 1, 1, 1>} : (!x) -> !half
  %3 = "graph.concatenate"() ({
    gpu.yield %2, %1 : !half, !half
  }) {axis = 1 : i64} : () -> !x
  return %3 : !x
}

// -----
// A bias of [C, 1, 1] is read as [1, 1, C]; a position along the channels is one along the last axis.

!x = tensor<?x4x8x8xf32, ["n", "4", "8", "8"]>
!c = tensor<4x1x1xf32>

// CHECK-LABEL: func.func @main
// CHECK: %[[POOL:.*]] = "graph.pool"
// CHECK: %[[BIAS:.*]] = "graph.reshape"(%arg1) : (tensor<4x1x1xf32>) -> tensor<1x1x1x4xf32>
// CHECK: graph.map
// CHECK-DAG: "graph.element"(%[[POOL]])
// CHECK-DAG: "graph.element"(%[[BIAS]])
// CHECK-DAG: "graph.index"() {axis = 3 : i64}
func.func @main(%x: !x, %bias: !c) -> !x {
  %0 = "graph.pool"(%x) {kind = "max", kernel = array<i64: 3, 3>, include_padding = 0 : i64, strides = array<i64: 1, 1>,
    pads = ["1", "1", "1", "1"], dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x) -> !x
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!x) -> f32
    %b = "graph.element"(%bias) : (!c) -> f32
    %c = "graph.index"() {axis = 1 : i64} : () -> i64
    %d = arith.sitofp %c : i64 to f32
    %e = arith.mulf %b, %d : f32
    %f = arith.addf %a, %e : f32
    gpu.yield %f : f32
  }) : () -> !x
  return %1 : !x
}

// -----
// A transpose of the model cancels ours: an image that becomes a sequence of positions is there already.

!x = tensor<?x4x8x8xf32, ["n", "4", "8", "8"]>
!positions = tensor<?x4x64xf32, ["n", "4", "64"]>
!sequence = tensor<?x64x4xf32, ["n", "64", "4"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: graph.transpose
// CHECK-NEXT: graph.pool
// CHECK-NEXT: %[[Y:.*]] = "graph.reshape"{{.*}} -> tensor<?x64x4xf32
// CHECK-NEXT: return %[[Y]]
func.func @main(%x: !x) -> !sequence {
  %0 = "graph.pool"(%x) {kind = "max", kernel = array<i64: 3, 3>, include_padding = 0 : i64, strides = array<i64: 1, 1>,
    pads = ["1", "1", "1", "1"], dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x) -> !x
  %1 = "graph.reshape"(%0) : (!x) -> !positions
  %2 = "graph.transpose"(%1) {permutation = array<i64: 0, 2, 1>} : (!positions) -> !sequence
  return %2 : !sequence
}

// -----
// A flattening over channels and positions means the model's own order: a transpose comes first.

!x = tensor<?x4x8x8xf32, ["n", "4", "8", "8"]>
!flat = tensor<?x256xf32, ["n", "256"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[POOL:.*]] = "graph.pool"
// CHECK: %[[X:.*]] = "graph.transpose"(%[[POOL]]) {permutation = array<i64: 0, 3, 1, 2>}
// CHECK: "graph.reshape"(%[[X]])
func.func @main(%x: !x) -> !flat {
  %0 = "graph.pool"(%x) {kind = "max", kernel = array<i64: 3, 3>, include_padding = 0 : i64, strides = array<i64: 1, 1>,
    pads = ["1", "1", "1", "1"], dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x) -> !x
  %1 = "graph.reshape"(%0) : (!x) -> !flat
  return %1 : !flat
}

// -----
// An element that is gathered is read with its indices in the other order.

!x = tensor<?x4x8x8xf32, ["n", "4", "8", "8"]>
!indices = tensor<4xi64>
!y = tensor<4xf32>

// CHECK-LABEL: func.func @main
// CHECK: %[[POOL:.*]] = "graph.pool"
// CHECK: graph.map
// CHECK-DAG: %[[CHANNEL:.*]] = "graph.index"() {axis = 0 : i64}
// CHECK-DAG: %[[COLUMN:.*]] = "graph.element"(%arg1)
// CHECK-DAG: %[[ZERO:.*]] = arith.constant 0 : i64
// CHECK: "graph.element_at"(%[[POOL]], %[[ZERO]], %[[ZERO]], %[[COLUMN]], %[[CHANNEL]])
func.func @main(%x: !x, %indices: !indices) -> !y {
  %0 = "graph.pool"(%x) {kind = "max", kernel = array<i64: 3, 3>, include_padding = 0 : i64, strides = array<i64: 1, 1>,
    pads = ["1", "1", "1", "1"], dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x) -> !x
  %1 = "graph.map"() ({
    %zero = arith.constant 0 : i64
    %channel = "graph.index"() {axis = 0 : i64} : () -> i64
    %column = "graph.element"(%indices) : (!indices) -> i64
    %a = "graph.element_at"(%0, %zero, %channel, %zero, %column) : (!x, i64, i64, i64, i64) -> f32
    gpu.yield %a : f32
  }) : () -> !y
  return %1 : !y
}

// -----
// Scans and padding have their axes renamed, too.

!x = tensor<?x4x8x8xf32, ["n", "4", "8", "8"]>
!wide = tensor<?x4x9x8xf32, ["n", "4", "9", "8"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[POOL:.*]] = "graph.pool"
// CHECK: "graph.scan"(%[[POOL]]) {axis = 3 : i64
// CHECK: "graph.pad"(%[[POOL]], %arg1) {low = ["0", "1", "0", "0"]} {{.*}} -> tensor<?x9x8x4xf32
func.func @main(%x: !x, %value: tensor<f32>) -> (!x, !wide) {
  %0 = "graph.pool"(%x) {kind = "max", kernel = array<i64: 3, 3>, include_padding = 0 : i64, strides = array<i64: 1, 1>,
    pads = ["1", "1", "1", "1"], dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x) -> !x
  %1 = "graph.scan"(%0) {kind = "sum", axis = 1 : i64, exclusive = 0 : i64, reverse = 0 : i64} : (!x) -> !x
  %3 = "graph.pad"(%0, %value) {low = ["0", "0", "1", "0"]} : (!x, tensor<f32>) -> !wide
  return %1, %3 : !x, !wide
}

// -----
// A map goes with the majority of what it reads: of two images that are not stored channels-last and one that is, the
// one is turned.

!x = tensor<?x4x8x8xf32, ["n", "4", "8", "8"]>

// CHECK-LABEL: func.func @main
// CHECK: %[[POOL:.*]] = "graph.pool"
// CHECK: %[[TURNED:.*]] = "graph.transpose"(%[[POOL]]) {permutation = array<i64: 0, 3, 1, 2>}
// CHECK-NEXT: %[[SUM:.*]] = "graph.map"
// CHECK: "graph.element"(%[[TURNED]])
// CHECK: }) : () -> tensor<?x4x8x8xf32
// CHECK-NEXT: return %[[SUM]]
func.func @main(%x: !x, %y: !x, %z: !x) -> !x {
  %0 = "graph.pool"(%x) {kind = "max", kernel = array<i64: 3, 3>, include_padding = 0 : i64, strides = array<i64: 1, 1>,
    pads = ["1", "1", "1", "1"], dilations = array<i64: 1, 1>, layout = "channels_first"} : (!x) -> !x
  %1 = "graph.map"() ({
    %a = "graph.element"(%0) : (!x) -> f32
    %b = "graph.element"(%y) : (!x) -> f32
    %c = "graph.element"(%z) : (!x) -> f32
    %d = arith.addf %a, %b : f32
    %e = arith.addf %d, %c : f32
    gpu.yield %e : f32
  }) : () -> !x
  return %1 : !x
}

// -----
// Each branch of an if plans for itself: its inputs and results are in the model's order.

!x = tensor<?x4x8x8xf32, ["n", "4", "8", "8"]>

// CHECK-LABEL: func.func @main
// CHECK: scf.if
// CHECK-NEXT: %[[X:.*]] = "graph.transpose"(%arg0)
// CHECK-NEXT: %[[POOL:.*]] = "graph.pool"(%[[X]]) {{.*}}layout = "channels_last"
// CHECK-NEXT: %[[Y:.*]] = "graph.transpose"(%[[POOL]])
// CHECK-NEXT: scf.yield %[[Y]]
func.func @main(%x: !x, %condition: tensor<i1>) -> !x {
  %bit = tensor.extract %condition[] : tensor<i1>
  %0 = scf.if %bit -> !x {
    %1 = "graph.pool"(%x) {kind = "max", kernel = array<i64: 3, 3>, include_padding = 0 : i64,
      strides = array<i64: 1, 1>, pads = ["1", "1", "1", "1"], dilations = array<i64: 1, 1>,
      layout = "channels_first"} : (!x) -> !x
    scf.yield %1 : !x
  } else {
    scf.yield %x : !x
  }
  return %0 : !x
}

// -----
// A window that is channels-last already reads what it read before.

!x = tensor<?x8x8x4xf32, ["n", "8", "8", "4"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[POOL:.*]] = "graph.pool"(%arg0)
// CHECK-NEXT: return %[[POOL]]
func.func @main(%x: !x) -> !x {
  %0 = "graph.pool"(%x) {kind = "max", kernel = array<i64: 3, 3>, include_padding = 0 : i64, strides = array<i64: 1, 1>,
    pads = ["1", "1", "1", "1"], dilations = array<i64: 1, 1>, layout = "channels_last"} : (!x) -> !x
  return %0 : !x
}
