"""Operators whose elements are chosen by data: gathers, scatters, sorting, searching, one-hot; sizes that data decides.

In: a graph. Out: one more node. Indices are always in range: what is not has no meaning in ONNX.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tilewright.runtime.symbolic import Expression, expression

from ..graph_builder import FLOATS, SINGLES, WIDE, GraphBuilder, Shape, Unfit, Value
from .movement import MOST, MOVED, shrunk
from .registry import operator


def _indices(graph: GraphBuilder, shape: Shape, size: Expression, types: tuple[str, ...] = WIDE) -> Value:
    """Indices into a dimension: a fresh tensor, negative ones among them, or an integer tensor brought into range."""
    smallest = graph.smallest(size)
    if smallest < 1:
        raise Unfit
    low = -smallest if graph.rng.random() < 0.5 else 0
    return graph.fresh(graph.rng.choice(types), shape, low, smallest - 1)


@operator("Gather", weight=3)
def gather(graph: GraphBuilder) -> None:
    value = graph.pick(MOVED, range(1, 4))
    axis = graph.rng.randrange(value.rank)
    index_shape = tuple(graph.dimension() for _ in range(graph.rng.choice((0, 1, 1, 2))))
    indices = _indices(graph, index_shape, value.shape[axis])
    shape = (*value.shape[:axis], *index_shape, *value.shape[axis + 1 :])
    graph.one(
        "Gather", [value, indices], value.dtype, shape, value.bound, axis=graph.rng.choice((axis, axis - value.rank))
    )


@operator("GatherComputed")
def gather_computed(graph: GraphBuilder) -> None:
    """Indices that the graph computes: Mod brings an integer tensor into range."""
    value = graph.pick(MOVED, range(1, 4))
    axis = graph.rng.randrange(value.rank)
    source = graph.pick(WIDE, range(1, 3))
    smallest = graph.smallest(value.shape[axis])
    if smallest < 1:
        raise Unfit
    indices = graph.like("Mod", [source, graph.constant(smallest, source.dtype)], source, smallest)
    shape = (*value.shape[:axis], *source.shape, *value.shape[axis + 1 :])
    graph.one("Gather", [value, indices], value.dtype, shape, value.bound, axis=axis)


@operator("GatherElements")
def gather_elements(graph: GraphBuilder) -> None:
    value = graph.pick(MOVED, range(1, 4))
    axis = graph.rng.randrange(value.rank)
    shape = shrunk(value.shape, axis, graph.dimension())
    graph.one(
        "GatherElements", [value, _indices(graph, shape, value.shape[axis])], value.dtype, shape, value.bound, axis=axis
    )


@operator("GatherND")
def gather_nd(graph: GraphBuilder) -> None:
    value = graph.pick(MOVED, range(2, 4))
    count = graph.dimension()
    size = min((graph.smallest(value.shape[0]), graph.smallest(value.shape[1])))
    indices = _indices(graph, (count, expression(2)), expression(size), ("int64",))
    graph.one("GatherND", [value, indices], value.dtype, (count, *value.shape[2:]), value.bound)


def _rows(graph: GraphBuilder, count: int, size: int) -> str:
    """A constant of `count` different indices below `size`."""
    return graph.constant(graph.rng.sample(range(size), count))


def _reduction(graph: GraphBuilder, value: Value) -> dict[str, str]:
    kinds = ["none", "add"] + ["max", "min"] * (graph.opset >= 18) + ["mul"] * value.is_float
    kind = graph.rng.choice(kinds)
    return {} if kind == "none" else {"reduction": kind}


@operator("ScatterElements", since=16)
def scatter_elements(graph: GraphBuilder) -> None:
    value = graph.pick(("float32", "float64", "int64", "int32"), range(1, 4))
    axis = graph.rng.randrange(value.rank)
    smallest = graph.smallest(value.shape[axis])
    reduction = _reduction(graph, value)
    if smallest < 1:
        raise Unfit
    rows = graph.rng.randint(1, min(smallest, 4))
    shape = shrunk(value.shape, axis, rows)
    if any(size.as_constant() is None for size in shape):
        raise Unfit
    if reduction:  # indices may repeat
        indices: Value | str = _indices(graph, shape, value.shape[axis])
    else:
        numbers = np.array(graph.rng.sample(range(smallest), rows), np.int64)
        column = numbers.reshape([-1 if place == axis else 1 for place in range(value.rank)])
        indices = graph.constant(np.ascontiguousarray(np.broadcast_to(column, graph.sizes(shape)[0])))
    updates = graph.fresh(value.dtype, shape)
    bound = (
        (value.bound + 1) * (updates.bound + 1) ** rows
        if reduction.get("reduction") == "mul"
        else value.bound + 2 * rows * updates.bound
    )
    graph.like("ScatterElements", [value, indices, updates], value, bound, axis=axis, **reduction)


@operator("ScatterND", since=16)
def scatter_nd(graph: GraphBuilder) -> None:
    value = graph.pick(("float32", "float64", "int64", "int32"), range(1, 4))
    smallest = graph.smallest(value.shape[0])
    reduction = _reduction(graph, value)
    if smallest < 1:
        raise Unfit
    count = graph.rng.randint(1, min(4, smallest))
    numbers = graph.rng.choices(range(smallest), k=count) if reduction else graph.rng.sample(range(smallest), count)
    indices = graph.constant([[number] for number in numbers])
    updates = graph.fresh(value.dtype, (expression(count), *value.shape[1:]))
    bound = (
        (value.bound + 1) * (updates.bound + 1) ** count
        if reduction.get("reduction") == "mul"
        else value.bound + count * updates.bound
    )
    graph.like("ScatterND", [value, indices, updates], value, bound, **reduction)


@operator("TopK", weight=2)
def top_k(graph: GraphBuilder) -> None:
    value = graph.pick(("float32", "float32", "float64", "int64", "int32"), range(1, 4))
    axis = graph.rng.randrange(value.rank)
    smallest = graph.smallest(value.shape[axis])
    if smallest < 1:
        raise Unfit
    kept = graph.rng.randint(1, min(smallest, 9))
    shape = shrunk(value.shape, axis, kept)
    outputs = [Value("", value.dtype, shape, value.bound), Value("", "int64", shape, MOST)]
    largest = graph.rng.randint(0, 1)
    graph.node("TopK", [value, graph.constant([kept])], outputs, axis=axis, largest=largest, sorted=1)


@operator("ArgExtremum")
def arg_extremum(graph: GraphBuilder) -> None:
    value = graph.pick(("float32", "float64", "int32", "uint8"), range(1, 5))
    axis = graph.rng.randrange(value.rank)
    keep = graph.rng.randint(0, 1)
    if graph.smallest(value.shape[axis]) < 1:
        raise Unfit
    shape = shrunk(value.shape, axis, 1) if keep else (*value.shape[:axis], *value.shape[axis + 1 :])
    name = graph.rng.choice(("ArgMax", "ArgMin"))
    graph.one(
        name, [value], "int64", shape, MOST, axis=axis, keepdims=keep, select_last_index=graph.rng.choice((0, 0, 1))
    )


@operator("OneHot")
def one_hot(graph: GraphBuilder) -> None:
    depth = graph.rng.randint(2, 9)
    indices = graph.fresh("int64", graph.shape(graph.rng.randint(1, 2)), -depth, depth - 1)
    values = graph.fresh(graph.rng.choice(("float32", "int64")), (expression(2),))
    axis = graph.rng.choice((-1, 0, indices.rank))
    shape = list(indices.shape)
    shape.insert(axis if axis >= 0 else indices.rank, expression(depth))
    graph.one("OneHot", [indices, graph.constant(depth), values], values.dtype, shape, values.bound, axis=axis)


@operator("CumSum", weight=1.5)
def running_sum(graph: GraphBuilder) -> None:
    value = graph.pick(("float32", "float64", "int64", "int32"), range(1, 4))
    axis = graph.rng.randint(-value.rank, value.rank - 1)
    longest = graph.elements((value.shape[axis],))
    flags = {"exclusive": graph.rng.randint(0, 1), "reverse": graph.rng.randint(0, 1)}
    graph.like("CumSum", [value, graph.constant(axis)], value, value.bound * max(longest, 1), **flags)


@operator("Hardmax")
def hard_maximum(graph: GraphBuilder) -> None:
    value = graph.pick(SINGLES[:2], range(1, 4))
    graph.like("Hardmax", [value], value, 1, axis=graph.rng.randrange(value.rank))


def _open(graph: GraphBuilder, dtype: str, shape: Shape, bound: float) -> Value:
    """An output whose first open size depends on data; nothing takes it."""
    return Value("", dtype, shape, bound, known=False)


def _new_size(graph: GraphBuilder) -> Expression:
    return Expression.symbol(graph.name("count"))


@operator("NonZero", weight=0.7)
def non_zero(graph: GraphBuilder) -> None:
    value = graph.pick(("float32", "int64", "bool", "uint8"), range(1, 4))
    graph.node("NonZero", [value], [_open(graph, "int64", (expression(value.rank), _new_size(graph)), MOST)])


@operator("Compress", weight=0.7)
def compress(graph: GraphBuilder) -> None:
    value = graph.pick(MOVED, range(1, 4))
    axis = graph.rng.randrange(value.rank)
    condition = graph.fresh("bool", (value.shape[axis],))
    graph.node(
        "Compress",
        [value, condition],
        [_open(graph, value.dtype, shrunk(value.shape, axis, _new_size(graph)), value.bound)],
        axis=axis,
    )


@operator("NonZeroChain", weight=0.7)
def non_zero_chain(graph: GraphBuilder) -> None:
    """Where a mask is set, the elements there, and a function of them; their sum has a size that is known again."""
    value = graph.pick(("float32",), range(1, 4))
    mask = graph.partner(value, ("bool",))
    if mask.shape != value.shape:
        raise Unfit
    size = _new_size(graph)
    places = graph.node("NonZero", [mask], [_open(graph, "int64", (expression(value.rank), size), MOST)])[0]
    rows = graph.node(
        "Transpose", [places], [_open(graph, "int64", (size, expression(value.rank)), MOST)], perm=[1, 0]
    )[0]
    chosen = graph.node("GatherND", [value, rows], [_open(graph, "float32", (size,), value.bound)])[0]
    curved = graph.node(graph.rng.choice(("Tanh", "Abs", "Neg")), [chosen], [replace(chosen, bound=value.bound + 1)])[0]
    if graph.rng.random() < 0.6:
        total = value.bound * graph.elements(value.shape) + 1
        graph.one("ReduceSum", [curved], "float32", (expression(1),), total, keepdims=1)
    _keep_last(graph)


@operator("CompressChain", weight=0.7)
def compress_chain(graph: GraphBuilder) -> None:
    """Rows that a condition keeps, joined, normalised or multiplied."""
    value = graph.pick(("float32",), range(2, 4), lambda value: value.shape[-1].as_constant() is not None)
    condition = graph.fresh("bool", (value.shape[0],))
    size = _new_size(graph)
    kept = _open(graph, "float32", shrunk(value.shape, 0, size), value.bound)
    rows = graph.node("Compress", [value, condition], [kept], axis=0)[0]
    way = graph.rng.choice(("Softmax", "MatMul", "Concat", "Mul"))
    if way == "MatMul":
        weights = graph.fresh("float32", (value.shape[-1], expression(5)), -1, 1)
        graph.node(way, [rows, weights], [replace(kept, shape=(*kept.shape[:-1], expression(5)))])
    elif way == "Concat":
        graph.node(way, [rows, value], [replace(kept, shape=shrunk(value.shape, 0, size + value.shape[0]))], axis=0)
    else:
        graph.node(way, [rows, rows] if way == "Mul" else [rows], [kept])
    _keep_last(graph)


def _keep_last(graph: GraphBuilder) -> None:
    """Of the open values of a chain only the last is an output."""
    made = {name for node in graph.nodes[:-1] for name in node.output}
    taken = {name for node in graph.nodes for name in node.input}
    graph.finished[:] = [value for value in graph.finished if not (value.name in made and value.name in taken)]


@operator("Unique", weight=0.7)
def unique(graph: GraphBuilder) -> None:
    value = graph.pick(("float32", "int64"), range(1, 4))
    size = (_new_size(graph),)
    outputs = [_open(graph, value.dtype, size, value.bound), *(_open(graph, "int64", size, MOST) for _ in range(3))]
    graph.node("Unique", [value], outputs, sorted=1)


@operator("IsInf", weight=0.3)
def is_infinite(graph: GraphBuilder) -> None:
    value = graph.pick(FLOATS[:1])
    graph.one("IsInf", [value], "bool", value.shape, 1, detect_negative=graph.rng.randint(0, 1))
