"""Control flow: If, Loop and Scan with bodies of random nodes that capture values of the graph around them.

In: a graph. Out: one more node, which holds one or two graphs.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from tilewright.runtime.symbolic import Expression, expression

from ..graph_builder import GraphBuilder, Unfit, Value, broadcast
from .registry import Entry, operator, registered


def _information(value: Value) -> onnx.ValueInfoProto:
    """Type without sizes, as bodies declare it."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype))
    return helper.make_tensor_value_info(value.name, kind, [None] * value.rank)


def _shallow(graph: GraphBuilder) -> list[Entry]:
    return [entry for entry in registered() if entry.shallow and entry.since <= graph.opset <= entry.until]


def _grow(graph: GraphBuilder, start: Value, steps: int) -> Value:
    """Random nodes in a body; a late value like `start` is what the body gives, made from it if none is."""
    entries = _shallow(graph)
    for entry in graph.rng.choices(entries, [entry.weight for entry in entries], k=steps):
        marks = graph.mark()
        try:
            entry.body(graph)
        except Unfit:
            graph.take_back(marks)
    found = [
        value
        for value in graph.values
        if value.dtype == start.dtype and value.shape == start.shape and value.name != start.name
    ]
    if not found:
        partner = graph.partner(start)
        if broadcast(partner.shape, start.shape) != start.shape:
            raise Unfit
        found = [graph.like("Add", [start, partner], start, start.bound + partner.bound)]
    return found[-1]


def _check_depth(graph: GraphBuilder) -> None:
    """Raises Unfit where graphs are nested deep enough, and mostly inside any."""
    if graph.depth > 1 or (graph.depth == 1 and graph.rng.random() < 0.5):
        raise Unfit


def _body(graph: GraphBuilder, name: str, inputs: list[onnx.ValueInfoProto], outputs: list[Value]) -> onnx.GraphProto:
    return helper.make_graph(graph.nodes, name, inputs, [_information(value) for value in outputs])


@operator("If", weight=1.5, shallow=True)
def branch(graph: GraphBuilder) -> None:
    _check_depth(graph)
    value = graph.pick(("float32", "float32", "int64"), range(4))
    condition = graph.fresh("bool", ())
    graphs, bound = [], value.bound
    for name in ("then", "else"):
        inner = graph.nested()
        result = _grow(inner, value, graph.rng.randint(1, 3))
        if not any(result.name in node.output for node in inner.nodes):  # a branch gives what it computes
            result = inner.like("Identity", [result], result)
        bound = max(bound, result.bound)
        graphs.append(_body(inner, name, [], [result]))
    graph.like("If", [condition], value, bound, then_branch=graphs[0], else_branch=graphs[1])


@operator("Loop", weight=1.5, shallow=True)
def loop(graph: GraphBuilder) -> None:
    """A state that each turn changes and bounds, and an output that stacks what the turns give."""
    _check_depth(graph)
    state = graph.tamed(graph.pick(("float32",), range(3)), 1)
    turns = graph.rng.randint(0, 4)
    count: Value | str = graph.constant(turns) if graph.rng.random() < 0.6 else graph.fresh("int64", (), 0, 4)
    stacks = isinstance(count, str) and turns > 0 and graph.rng.random() < 0.6
    condition = graph.constant(True, "bool") if graph.rng.random() < 0.5 else ""
    inner = graph.nested()
    carried = Value(inner.name("s"), state.dtype, state.shape, 1)
    inner.values.append(carried)
    result = _grow(inner, carried, graph.rng.randint(1, 3))
    following = inner.like("Tanh", [result], result, 1)
    names = [inner.name("i"), inner.name("k")]
    inputs = [
        helper.make_tensor_value_info(names[0], onnx.TensorProto.INT64, []),
        helper.make_tensor_value_info(names[1], onnx.TensorProto.BOOL, []),
        _information(carried),
    ]
    if graph.rng.random() < 0.4:  # leave early, which a turn's number decides
        limit = graph.constant(graph.rng.randint(0, 3))
        go_on = inner.one("Less", [names[0], limit], "bool", (), 1)
        stacks = False
    else:
        go_on = inner.one("Identity", [names[1]], "bool", (), 1)
    stacked = [inner.like("Identity", [result], result)] * stacks
    body = _body(inner, "body", inputs, [go_on, following, *stacked])
    outputs = [Value("", state.dtype, state.shape, 1)]
    outputs += [Value("", result.dtype, (expression(turns), *result.shape), result.bound) for _ in stacked]
    graph.node("Loop", [count, condition, state], outputs, body=body)


@operator("Scan", weight=1.2)
def scan(graph: GraphBuilder) -> None:
    """A state and slices of a tensor go in, the state and a slice come out."""
    value = graph.tamed(graph.pick(("float32",), range(1, 4), lambda value: graph.smallest(value.shape[0]) > 0), 4)
    shape = value.shape[1:]
    inner = graph.nested()
    carried = Value(inner.name("s"), value.dtype, shape, 1)
    part = Value(inner.name("p"), value.dtype, shape, value.bound)
    inner.values += [carried, part]
    summed = inner.like("Add", [carried, part], carried, 1 + value.bound)
    result = _grow(inner, summed, graph.rng.randint(0, 2))
    following = inner.like("Tanh", [result], result, 1)
    given = inner.like("Identity", [result], result)
    body = _body(inner, "body", [_information(carried), _information(part)], [following, given])
    start = graph.fresh("float32", shape, -1, 1)
    outputs = [Value("", "float32", shape, 1), Value("", "float32", (value.shape[0], *shape), result.bound)]
    attributes = {"scan_input_directions": [1]} if graph.rng.random() < 0.3 else {}
    graph.node("Scan", [start, value], outputs, body=body, num_scan_inputs=1, **attributes)


@operator("LoopOpen", weight=0.5)
def open_loop(graph: GraphBuilder) -> None:
    """Stacked results whose number an input decides."""
    value = graph.pick(("float32",), range(3))
    count = graph.fresh("int64", (), 1, 4)
    inner = graph.nested()
    names = [inner.name("i"), inner.name("k")]
    inputs = [
        helper.make_tensor_value_info(names[0], onnx.TensorProto.INT64, []),
        helper.make_tensor_value_info(names[1], onnx.TensorProto.BOOL, []),
    ]
    turn = inner.one("Cast", [names[0]], "float32", (), 4, to=1)
    result = inner.like("Mul", [value, turn], value, value.bound * 4)
    go_on = inner.one("Identity", [names[1]], "bool", (), 1)
    body = _body(inner, "body", inputs, [go_on, result])
    size = Expression.symbol(graph.name("count"))
    graph.node(
        "Loop", [count, ""], [Value("", "float32", (size, *value.shape), value.bound * 4, known=False)], body=body
    )
