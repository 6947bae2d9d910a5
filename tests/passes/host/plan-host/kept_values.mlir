// RUN: tilewright opt %s --from tile --to plan-host
// A tensor that a host value keeps stays on the device; what a sequence keeps comes to the host where it is an output.

!x = tensor<?xf32, ["n"]>
!y = tensor<?x?xf32, ["k", "n"]>

// CHECK-DAG: %[[X:.*]] = "host.declare"(){{.*}}kind = "input"
// CHECK-DAG: %[[Y:.*]] = "host.declare"(){{.*}}name = "y"{{.*}}shape = ["k", "n"]
// CHECK-DAG: %[[S:.*]] = "host.declare"(){{.*}}element = "sequence"{{.*}}name = "s"
// CHECK: "host.keep"(%[[X]], %[[KEPT:.*]]) {shape = ["n"]}
// CHECK-NEXT: "host.call"(%[[KEPT]], %[[KEPT]], %[[ROWS:.*]]) {function = "sequence", inputs = 2 : i64
// CHECK-NEXT: "host.call"(%[[ROWS]]) {function = "joined_sizes", inputs = 1 : i64, {{.*}}symbols = ["k"]}
// CHECK-NEXT: "host.upload"(%[[ROWS]], %[[Y]])
// CHECK-NEXT: "host.fetch"(%[[ROWS]], %[[S]])
func.func @main(%x: !x {graph.name = "x"})
    -> (!y {graph.name = "y"}, !graph.object {graph.name = "s", graph.type = "sequence", graph.shape = []}) {
  %kept = "graph.keep"(%x) : (!x) -> !graph.object
  %rows = "graph.host"(%kept, %kept) {function = "sequence", options = "{}", sizes = [], symbols = []}
    : (!graph.object, !graph.object) -> !graph.object
  "graph.host"(%rows) {function = "joined_sizes", options = "{}", sizes = [], symbols = ["k"]} : (!graph.object) -> ()
  %y = "graph.upload"(%rows) : (!graph.object) -> !y
  %s = "graph.fetch"(%rows) : (!graph.object) -> !graph.object
  return %y, %s : !y, !graph.object
}
