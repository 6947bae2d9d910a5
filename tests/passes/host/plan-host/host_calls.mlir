// RUN: tilewright opt %s --from tile --to plan-host
// What a kernel cannot do runs on the host between launches: a download, a call that finds sizes, an upload.

!x = tensor<?xf32, ["n"]>
!y = tensor<?xi64, ["k"]>

// CHECK-DAG: %[[X:.*]] = "host.declare"(){{.*}}kind = "input"
// CHECK-DAG: %[[Y:.*]] = "host.declare"(){{.*}}kind = "output"{{.*}}shape = ["k"]
// CHECK: "host.download"(%[[X]], %[[VALUE:.*]]) {shape = ["n"]}
// CHECK-NEXT: "host.call"(%[[VALUE]], %[[FOUND:.*]]) {function = "nonzero", inputs = 1 : i64, {{.*}}symbols = ["k"]}
// CHECK-NEXT: "host.upload"(%[[FOUND]], %[[Y]])
func.func @main(%x: !x {graph.name = "x"}) -> (!y {graph.name = "y"}) {
  %value = "graph.download"(%x) : (!x) -> !graph.object
  %found = "graph.host"(%value) {function = "nonzero", options = "{}", sizes = [], symbols = ["k"]}
    : (!graph.object) -> !graph.object
  %y = "graph.upload"(%found) : (!graph.object) -> !y
  return %y : !y
}
