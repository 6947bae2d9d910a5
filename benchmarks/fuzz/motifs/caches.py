"""A decoder's step: keys and values of the past, continued by those of the step, and attention over both.

In: a graph. Out: one or two layers of it, with the caches as outputs, as exporters write them and not quite so.
"""

from __future__ import annotations

import math

from tilewright.runtime.symbolic import Expression, expression

from ..graph_builder import GraphBuilder, Shape, Unfit, Value
from .parts import WAYS, given, linear
from .registry import motif


@motif("cache", weight=2)
def cache(graph: GraphBuilder) -> None:
    """Layers that continue caches; the same tensor for both, other shapes, and other readers now and then."""
    heads, width = graph.rng.choice((1, 2, 4)), graph.rng.choice((4, 8, 16, 17))
    batch, steps, past = graph.rng.choice((1, 2)), _size(graph, (1, 1, 2, 5)), _size(graph, (1, 3, 8, 20))
    shape = (expression(batch), steps, expression(heads * width))
    value = given(graph, graph.float_type, shape)
    for _ in range(graph.rng.choice((1, 1, 2))):
        way = graph.rng.choice(WAYS)
        key, content = (_heads(graph, linear(graph, value, heads * width, way=way), heads, width) for _ in range(2))
        if graph.rng.random() < 0.15:
            content = graph.like("Neg", [key], key)  # the one is made of the other
        keys = _continued(graph, key, past)
        if graph.rng.random() < 0.1:
            content = graph.like("Add", [content, _first(graph, keys, content)], content, keys.bound + content.bound)
        contents = _continued(graph, content, past)
        if graph.rng.random() < 0.75:
            query = _heads(graph, linear(graph, value, heads * width), heads, width)
            value = _attended(graph, query, keys, contents, shape)
        for made in (keys, contents):  # outputs, which nothing behind them takes
            graph.finished.append(made)
            graph.values.remove(made)


def _size(graph: GraphBuilder, sizes: tuple[int, ...]) -> Expression:
    symbols = list(graph.bindings[0])
    if symbols and graph.rng.random() < 0.6:
        return Expression.symbol(graph.rng.choice(symbols))
    return expression(graph.rng.choice(sizes))


def _heads(graph: GraphBuilder, value: Value, heads: int, width: int) -> Value:
    """[b, s, h w] -> [b, h, s, w]."""
    batch, steps, _ = value.shape
    cut = (batch, steps, expression(heads), expression(width))
    parts = graph.one("Reshape", [value, graph.constant([0, 0, heads, width])], value.dtype, cut, value.bound)
    turned = (batch, expression(heads), steps, expression(width))
    return graph.one("Transpose", [parts], value.dtype, turned, value.bound, perm=[0, 2, 1, 3])


def _continued(graph: GraphBuilder, value: Value, past: Expression) -> Value:
    """The past, an input, and behind it what is new; sometimes the other way round, or with a third part."""
    shape = (*value.shape[:2], past, value.shape[3])
    kept = given(graph, value.dtype, shape)
    parts, sizes = [kept, value], [past, value.shape[2]]
    kind = graph.rng.random()
    if kind < 0.08:
        parts, sizes = parts[::-1], sizes[::-1]
    elif kind < 0.16:
        parts, sizes = [*parts, kept], [*sizes, past]
    whole = (*value.shape[:2], sum(sizes[1:], sizes[0]), value.shape[3])
    return graph.one("Concat", parts, value.dtype, whole, max(1.0, value.bound), axis=graph.rng.choice((2, -2)))


def _first(graph: GraphBuilder, keys: Value, like: Value) -> Value:
    """The first row of a cache, which broadcasts with what is new."""
    begin, end, axis = (graph.constant([number]) for number in (0, 1, 2))
    shape = (*like.shape[:2], expression(1), like.shape[3])
    return graph.one("Slice", [keys, begin, end, axis], like.dtype, shape, keys.bound)


def _attended(graph: GraphBuilder, query: Value, keys: Value, contents: Value, shape: Shape) -> Value:
    dtype, (batch, heads, steps, width) = query.dtype, query.shape
    turned = (batch, heads, width, keys.shape[2])
    across = graph.one("Transpose", [keys], dtype, turned, keys.bound, perm=[0, 1, 3, 2])
    scores = graph.one("MatMul", [query, across], dtype, (batch, heads, steps, keys.shape[2]), 20.0)
    scale = graph.constant(1 / math.sqrt(width.as_constant() or 1), dtype)
    chances = graph.like("Softmax", [graph.like("Mul", [scores, scale], scores)], scores, 1.0, axis=-1)
    if contents.shape[2] != keys.shape[2]:
        raise Unfit
    mixed = graph.one("MatMul", [chances, contents], dtype, query.shape, contents.bound)
    back = graph.one("Transpose", [mixed], dtype, (batch, steps, heads, width), contents.bound, perm=[0, 2, 1, 3])
    return graph.one(
        "Reshape", [back, graph.constant([0, 0, shape[2].as_constant() or 0])], dtype, shape, contents.bound
    )
