"""Normalisations of lines and the products that read them: what fold-normalisations and join-statistics look for.

In: a graph. Out: a normalised tensor in one of the ways that exporters write it, and products, gates, residuals and
others that read it.
"""

from __future__ import annotations

import math

from tilewright.runtime.symbolic import ONE

from ..graph_builder import GraphBuilder, Value
from ..operators.reduction import AXES_AS_INPUT
from .parts import COLUMNS, WAYS, activated, biased, cast, depth_of, given, linear, tensor, weight
from .registry import motif

READERS = (*("linear",) * 6, *("gate",) * 2, *("residual",) * 2, "shared", "both", "pointwise")  # of what is normalised
EPSILONS = (1e-5, 1e-5, 1e-12, 1e-3)


@motif("normalised products", weight=8)
def normalised_products(graph: GraphBuilder) -> None:
    """A normalised tensor, of the graph or made by a product, and one to three readers."""
    dtype = graph.float_type
    value = tensor(graph, dtype)
    for _ in range(graph.rng.choice((0, 1, 1, 1))):
        value = _made(graph, value)
    normal = normalised(graph, value)
    for _ in range(graph.rng.choice((1, 1, 2, 3))):
        _read(graph, normal, value)


def _made(graph: GraphBuilder, value: Value) -> Value:
    """A product of the value with all that an epilogue may do, of which a residual is one."""
    made = linear(graph, value, graph.rng.choice((64, 96, 128, 256, depth_of(value))))
    if graph.rng.random() < 0.3:
        made = activated(graph, made)
    if made.shape == value.shape and graph.rng.random() < 0.7:
        made = graph.like("Add", [value, made], made, made.bound + value.bound)
    elif graph.rng.random() < 0.4:
        residual = given(graph, made.dtype, made.shape)
        made = graph.like("Add", [made, residual], made, made.bound + 1)
    return made


def _read(graph: GraphBuilder, normal: Value, value: Value) -> None:
    kind = graph.rng.choice(READERS)
    columns, depth = graph.rng.choice(COLUMNS), depth_of(normal)
    if kind == "residual":
        inner = activated(graph, linear(graph, normal, columns)) if graph.rng.random() < 0.5 else normal
        made = linear(graph, inner, depth)
        graph.like("Add", [normal, made], normal, normal.bound + made.bound)
    elif kind == "both":  # the tensor itself is read once more, beside what is made of the normalised one
        made = linear(graph, normal, depth)
        graph.like("Add", [value, made], made, value.bound + made.bound)
    elif kind == "pointwise":
        activated(graph, normal)
    elif kind == "gate":
        way = graph.rng.choice(WAYS)
        gate, factor = (linear(graph, normal, columns, way=way) for _ in range(2))
        graph.like("Mul", [activated(graph, gate), factor], gate, gate.bound * factor.bound)
    elif kind == "shared":
        matrix = weight(graph, normal.dtype, (depth, columns), 1.5 / math.sqrt(depth))
        for source in (normal, value) if graph.rng.random() < 0.5 else (normal, normal):
            linear(graph, source, columns, matrix)
    else:
        linear(graph, normal, columns)


def normalised(graph: GraphBuilder, value: Value) -> Value:
    """The value, normalised or otherwise scaled line by line; half-precision models often do that in f32."""
    dtype = value.dtype
    wide = cast(graph, value, "float32") if dtype == "float16" and graph.rng.random() < 0.5 else value
    ways = [_layer, _layer, _written_out, _written_out, _mean_square, _mean_square, _other_line_factor]
    ways += [_rms_normalisation] * (graph.opset >= 23)
    made = graph.rng.choice(ways)(graph, wide)
    return cast(graph, made, dtype)


def _reduced(graph: GraphBuilder, name: str, value: Value, bound: float) -> Value:
    """A number for each line."""
    shape = (*value.shape[:-1], ONE)
    axis = graph.rng.choice((-1, value.rank - 1))
    if graph.opset >= AXES_AS_INPUT or name == "ReduceSum":
        return graph.one(name, [value, graph.constant([axis])], value.dtype, shape, bound, keepdims=1)
    return graph.one(name, [value], value.dtype, shape, bound, keepdims=1, axes=[axis])


def _row(graph: GraphBuilder, value: Value, mean: float) -> Value:
    """Factors or terms of columns: mostly a constant, sometimes small, large, one number, or an input."""
    size, dtype = depth_of(value), value.dtype
    kind = graph.rng.choice((*("plain",) * 8, "one", "input", "small", "large", "block"))
    if kind == "input":
        return given(graph, dtype, value.shape[-1:], mean - 0.5, mean + 0.5)
    if kind == "one":
        return weight(graph, dtype, graph.rng.choice(((), (1,))), 0.5, mean)
    if kind == "block":
        return weight(graph, dtype, (*[1] * (value.rank - 1), size), 0.5, mean)
    return weight(graph, dtype, (size,), {"plain": 0.5, "small": 1e-3, "large": 30.0}[kind], mean * (kind == "plain"))


def _scaled(graph: GraphBuilder, normal: Value) -> Value:
    """With factors and terms of columns, or without."""
    if graph.rng.random() < 0.8:
        factors = _row(graph, normal, 1.0)
        normal = graph.like("Mul", [normal, factors], normal, normal.bound * factors.bound)
    if graph.rng.random() < 0.5:
        terms = _row(graph, normal, 0.0)
        normal = graph.like("Add", [terms, normal], normal, normal.bound + terms.bound)
    return normal


def _layer(graph: GraphBuilder, value: Value) -> Value:
    """LayerNormalization of the last dimension, at times of the last two; its statistics may be outputs too."""
    many = value.rank > 2 and value.shape[-2].as_constant() is not None and graph.rng.random() < 0.1
    first = value.rank - 1 - many
    shape = tuple(size.as_constant() or 1 for size in value.shape[first:])
    inputs = [value, weight(graph, value.dtype, shape, 0.5, 1.0), weight(graph, value.dtype, shape)]
    outputs = [Value("", value.dtype, value.shape, 8.0)]
    if graph.rng.random() < 0.1:
        line = (*value.shape[:first], *[ONE] * (value.rank - first))
        outputs += [Value("", "float32", line, 50.0), Value("", "float32", line, 1e4)]
    return graph.node(
        "LayerNormalization",
        inputs[: graph.rng.choice((2, 3, 3))],
        outputs,
        axis=graph.rng.choice((first, first - value.rank)),
        epsilon=graph.rng.choice(EPSILONS),
    )[0]


def _rms_normalisation(graph: GraphBuilder, value: Value) -> Value:
    factors = weight(graph, value.dtype, (depth_of(value),), 0.5, 1.0)
    epsilon = graph.rng.choice(EPSILONS)
    return graph.like("RMSNormalization", [value, factors], value, 8.0, axis=-1, epsilon=epsilon)


def _square(graph: GraphBuilder, value: Value) -> Value:
    inputs = [value, value] if graph.rng.random() < 0.5 else [value, graph.constant(2, value.dtype)]
    return graph.like("Mul" if inputs[1] is value else "Pow", inputs, value, value.bound**2)


def _over_root(graph: GraphBuilder, value: Value, variance: Value) -> Value:
    """The value over the root of a number of its line."""
    epsilon = graph.constant(max(graph.rng.choice(EPSILONS), 1e-5), value.dtype)
    shifted = graph.like("Add", [variance, epsilon], variance)
    root = graph.like("Sqrt", [shifted], variance, 50.0)
    if graph.rng.random() < 0.6:
        return graph.like("Div", [value, root], value, 8.0)
    inverse = graph.like("Reciprocal", [root], variance, 400.0 if value.dtype != "float16" else 100.0)
    return graph.like("Mul", [value, inverse], value, 8.0)


def _written_out(graph: GraphBuilder, value: Value) -> Value:
    mean = _reduced(graph, "ReduceMean", value, value.bound)
    centred = graph.like("Sub", [value, mean], value, 2 * value.bound)
    if graph.rng.random() < 0.2 and abs(value.bound) < 3:  # the mean of squares without the square of the mean
        squares = _reduced(graph, "ReduceMean", _square(graph, value), value.bound**2)
        difference = graph.like("Sub", [squares, _square(graph, mean)], squares)
        variance = graph.like("Relu", [difference], squares)
    else:
        variance = _reduced(graph, "ReduceMean", _square(graph, centred), value.bound**2)
    return _scaled(graph, _over_root(graph, centred, variance))


def _mean_square(graph: GraphBuilder, value: Value) -> Value:
    """RMSNorm, or the same with a sum."""
    name = graph.rng.choice(("ReduceMean", "ReduceMean", "ReduceSum"))
    return _scaled(graph, _over_root(graph, value, _reduced(graph, name, _square(graph, value), value.bound**2)))


def _other_line_factor(graph: GraphBuilder, value: Value) -> Value:
    """Lines scaled by something that is no norm: a gate or the largest element; or only shifted."""
    kind = graph.rng.choice(("gate", "largest", "shift", "given"))
    if kind == "gate":
        factor = graph.like("Sigmoid", [mean := _reduced(graph, "ReduceMean", value, value.bound)], mean, 1.0)
        return _scaled(graph, graph.like("Mul", [value, factor], value))
    if kind == "largest":
        largest = _reduced(graph, "ReduceMax", graph.like("Abs", [value], value), value.bound)
        raised = graph.like("Add", [largest, graph.constant(0.25, value.dtype)], largest, value.bound + 1)
        return biased(graph, graph.like("Div", [value, raised], value, 1.0))
    if kind == "shift":
        return _scaled(graph, graph.like("Sub", [value, _reduced(graph, "ReduceMean", value, value.bound)], value))
    factor = given(graph, value.dtype, (*value.shape[:-1], ONE), 0.5, 2.0)
    return _scaled(graph, graph.like("Mul", [factor, value], value, 2 * value.bound))
