// RUN: tilewright opt %s --from narrow-storage --precision strict | FileCheck %s --check-prefix=STRICT
// RUN: tilewright opt %s --from narrow-storage --precision tf32 | FileCheck %s --check-prefix=STRICT
// RUN: tilewright opt %s --from narrow-storage --precision f16 | FileCheck %s --check-prefix=NARROW -DT=f16
// RUN: tilewright opt %s --from narrow-storage --precision bf16 | FileCheck %s --check-prefix=NARROW -DT=bf16
// What one kernel hands to another, through a reshape as well, is stored narrow; both convert at their edges and
// compute in f32. What the model returns keeps its type.

!x = tensor<?x8xf32, ["n", "8"]>
!flat = tensor<?xf32, ["8*n"]>

// STRICT-NOT: f16

// NARROW-LABEL: func.func @main
// NARROW: %[[FIRST:.*]] = call @loop_0(%arg0) {{.*}} -> tensor<?x8x[[T]]
// NARROW: %[[FLAT:.*]] = "graph.reshape"(%[[FIRST]]) {{.*}} -> tensor<?x[[T]]
// NARROW: call @loop_1(%[[FLAT]]) {{.*}} -> tensor<?xf32
// NARROW: @loop_0(%arg0: tensor<?x8xf32
// NARROW: math.exp {{.*}} : f32
// NARROW: arith.truncf {{.*}} : f32 to [[T]]
// NARROW: @loop_1(%arg0: tensor<?x[[T]]
// NARROW: arith.extf {{.*}} : [[T]] to f32
// NARROW: math.tanh {{.*}} : f32
func.func @main(%x: !x) -> !flat {
  %0 = call @loop_0(%x) : (!x) -> !x
  %1 = "graph.reshape"(%0) : (!x) -> !flat
  %2 = call @loop_1(%1) : (!flat) -> !flat
  return %2 : !flat
}
func.func private @loop_0(%x: !x) -> !x attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!x) -> f32
    %b = math.exp %a : f32
    gpu.yield %b : f32
  }) : () -> !x
  return %0 : !x
}
func.func private @loop_1(%x: !flat) -> !flat attributes {graph.kernel = "loop", graph.nodes = []} {
  %0 = "graph.map"() ({
    %a = "graph.element"(%x) : (!flat) -> f32
    %b = math.tanh %a : f32
    gpu.yield %b : f32
  }) : () -> !flat
  return %0 : !flat
}
