// RUN: tilewright opt %s --from simplify
// A reshape of a reshape reads the first one's source, since only the order of elements counts.

!x = tensor<?x4x6xf32, ["n", "4", "6"]>
!flat = tensor<?xf32, ["24*n"]>
!y = tensor<?x24xf32, ["n", "24"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: %[[Y:.*]] = "graph.reshape"(%arg0)
// CHECK-NEXT: return %[[Y]]
func.func @main(%x: !x) -> !y {
  %0 = "graph.reshape"(%x) : (!x) -> !flat
  %1 = "graph.reshape"(%0) : (!flat) -> !y
  return %1 : !y
}

// -----
// There and back again is nothing.

!x = tensor<?x4x6xf32, ["n", "4", "6"]>
!y = tensor<?x24xf32, ["n", "24"]>

// CHECK-LABEL: func.func @main
// CHECK-NEXT: return %arg0
func.func @main(%x: !x) -> !x {
  %0 = "graph.reshape"(%x) : (!x) -> !y
  %1 = "graph.reshape"(%0) : (!y) -> !x
  return %1 : !x
}
