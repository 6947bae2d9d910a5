"""What motifs are made of: tensors of lines, weights, linear layers in every way they are written, activations.

In: a graph. Out: values of it. Weights are small enough that sums stay near the size of what is summed, as in models.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from onnx import helper

from tilewright.runtime.symbolic import Expression, expression

from ..graph_builder import GraphBuilder, Shape, Unfit, Value

DEPTHS = (8, 16, 24, 32, 33, 48, 64, 64, 65, 80, 96, 128, 128, 130, 192)
COLUMNS = (1, 8, 16, 17, 24, 32, 40, 64, 64, 72, 96, 100, 128)
LINES = (1, 7, 16, 63, 64, 64, 64, 65, 80, 96, 128, 130)
WAYS = ("plain", "plain", "turned", "gemm")  # to write a linear layer
# Of inputs. Nothing near the end of the range of f16: onnxruntime leaves casts to it out where it computes in f32.
EDGES = (math.nan, math.inf, -math.inf, 300.0, -300.0, 1e-7, -0.0)


def numbers(graph: GraphBuilder) -> np.random.Generator:
    """A generator of data for constants."""
    return np.random.default_rng(graph.rng.getrandbits(32))


def weight(graph: GraphBuilder, dtype: str, shape: tuple[int, ...], size: float = 1.0, mean: float = 0.0) -> Value:
    """A constant, uniform around `mean`."""
    drawn = numbers(graph).uniform(mean - size, mean + size, shape).astype(dtype)
    return Value(graph.constant(drawn), dtype, tuple(map(expression, shape)), abs(mean) + size)


def lines(graph: GraphBuilder) -> Shape:
    """The leading dimensions of a tensor: some make 64 lines or more, some do not."""
    count = expression(graph.rng.choice(LINES))
    symbols = list(graph.bindings[0])
    if symbols and graph.rng.random() < 0.6:
        symbol = Expression.symbol(graph.rng.choice(symbols))
        return graph.rng.choice(((symbol,), (symbol, expression(graph.rng.choice((4, 16)))), (expression(2), symbol)))
    one, two, three = map(expression, (1, 2, 3))
    many = (two, one, two, three, expression(6))
    return graph.rng.choice(((count,), (count,), (one, count), (two, count), (two, three, count), many))


def tensor(graph: GraphBuilder, dtype: str | None = None, depth: int | None = None) -> Value:
    """A tensor of lines [..., depth]: one of the graph, or a new input, whose lines may be far from zero."""
    dtype = dtype or graph.float_type
    found = [
        value
        for value in graph.values
        if value.dtype == dtype
        and value.rank >= 2
        and (value.shape[-1].as_constant() == depth if depth else (value.shape[-1].as_constant() or 0) >= 8)
        and value.bound <= 50
    ]
    if found and graph.rng.random() < 0.7:
        return found[-1] if graph.rng.random() < 0.7 else graph.rng.choice(found)
    shape = (*lines(graph), expression(depth or graph.rng.choice(DEPTHS)))
    if graph.elements(shape) > graph.most_elements:
        raise Unfit
    mean = graph.rng.choice((0.0, 0.0, 0.0, 1.0, -20.0))
    return given(graph, dtype, shape, mean - 1, mean + 1)


def given(graph: GraphBuilder, dtype: str, shape: Shape, low: float = -1, high: float = 1) -> Value:
    """A new input of the model; a few of its elements are odd numbers now and then."""
    edges = EDGES if graph.rng.random() < 0.06 else ()
    value = Value(graph.name("x"), dtype, shape, max(abs(low), abs(high)))
    graph.give(value, low, high, edges)
    return value


def depth_of(value: Value) -> int:
    """The length of its lines. Raises Unfit where that is symbolic."""
    return value.extent(value.rank - 1)


def linear(
    graph: GraphBuilder,
    value: Value,
    columns: int,
    shared: Value | None = None,
    way: str | None = None,
    has_bias: bool | None = None,
) -> Value:
    """value @ a constant matrix, maybe with a bias, in one of the `WAYS` that exporters write it."""
    has_bias = graph.rng.random() < 0.5 if has_bias is None else has_bias
    depth, dtype = depth_of(value), value.dtype
    size = 1.5 / math.sqrt(depth)
    shape, bound = (*value.shape[:-1], expression(columns)), 1.5 * value.bound
    way = way or graph.rng.choice(WAYS)
    if way == "gemm" and value.rank == 2:
        turned = graph.rng.randint(0, 1)
        matrix = weight(graph, dtype, (columns, depth) if turned else (depth, columns), size)
        inputs = [value, matrix, weight(graph, dtype, (columns,))][: 2 + has_bias]
        return graph.one("Gemm", inputs, dtype, shape, bound + 1, transB=turned)
    if way == "turned":
        matrix = weight(graph, dtype, (columns, depth), size)
        matrix = graph.one("Transpose", [matrix], dtype, tuple(reversed(matrix.shape)), size, perm=[1, 0])
    else:
        matrix = shared or weight(graph, dtype, (depth, columns), size)
    made = graph.one("MatMul", [value, matrix], dtype, shape, bound)
    return biased(graph, made) if has_bias else made


def biased(graph: GraphBuilder, value: Value) -> Value:
    """The value and a row, in either order; the row may be written with leading ones."""
    size = depth_of(value)
    row = weight(graph, value.dtype, graph.rng.choice(((size,), (size,), (1, size))))
    inputs = [value, row] if graph.rng.random() < 0.5 else [row, value]
    return graph.like("Add", inputs, value, value.bound + 1)


def activated(graph: GraphBuilder, value: Value, names: tuple[str, ...] = ()) -> Value:
    """An activation of the value, which may take several nodes."""
    name = graph.rng.choice(names or ("Relu", "Tanh", "Sigmoid", "silu", "gelu", "Elu", "HardSwish"))
    if name == "silu":
        return graph.like("Mul", [value, graph.like("Sigmoid", [value], value, 1)], value)
    if name == "gelu":
        inner = graph.like("Mul", [value, graph.constant(math.sqrt(0.5), value.dtype)], value)
        error = graph.like("Erf", [inner], value, 1)
        raised = graph.like("Add", [error, graph.constant(1, value.dtype)], value, 2)
        return graph.like("Mul", [graph.like("Mul", [value, raised], value), graph.constant(0.5, value.dtype)], value)
    return graph.like(name, [value], value, max(value.bound, 1.0))


def cast(graph: GraphBuilder, value: Value, dtype: str) -> Value:
    """The value in another type; itself where it has that."""
    if value.dtype == dtype:
        return value
    return graph.like(
        "Cast", [value], replace(value, dtype=dtype), to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    )
