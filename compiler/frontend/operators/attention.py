"""Attention of the standard domain, and what the attention operators of com.microsoft share with it.

In: queries, keys and values with heads in their own or in the last dimension, masks, biases and caches. Out: products,
maps and a softmax in the form that fusion turns into one kernel (passes/graph/attention_rules.py). Masks that follow
from positions are arithmetic on indices: they cost no memory, and kernels see which keys no query of a block has.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.errors import ModelError
from ....runtime.symbolic import Expression
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Tensor
from .reduction import softmax_of, wide

DOUBLE = 11  # TensorProto.DOUBLE, as `softmax_precision` gives it
QUERY, KEY = 2, 3  # axes of the scores


@dataclass(frozen=True)
class Change:
    """Of a score, in a map over [N, heads, queries, keys]: `apply` gets it and the element of each of `tensors`, which
    broadcast against the scores.
    """

    apply: Callable[..., Scalar]
    tensors: tuple[Tensor, ...] = ()


@dataclass
class Scores:
    """What happens to the products before the softmax: `changes` in order. With `may_be_empty`, a query may see no key
    at all, and its result is then zero.
    """

    changes: list[Change] = field(default_factory=list)
    may_be_empty: bool = False


def attention_of(node: Node, query: ir.Value, key: ir.Value, value: ir.Value, scores: Scores) -> ir.Value:
    """softmax(changes(query x key')) x value, all [N, heads, steps, size]."""
    products = products_of(node, query, key)
    return weighted(node, changed(node, products, scores.changes), value, scores, build.element_of(query))


def products_of(node: Node, query: ir.Value, key: ir.Value) -> ir.Value:
    """The scores before anything happens to them, in the wide dtype."""
    target = wide(build.element_of(query))
    return build.matmul(query, key, transpose_right=True, element=target, unify=node.unify)


def changed(node: Node, scores: ir.Value, changes: Sequence[Change]) -> ir.Value:
    """The scores after some changes, in one map."""
    if not changes:
        return scores

    def body(score: Scalar, *elements: Scalar) -> Scalar:
        rest = iter(elements)
        for change in changes:
            score = change.apply(score, *itertools.islice(rest, len(change.tensors)))
        return score

    tensors = [tensor for change in changes for tensor in change.tensors]
    return node.map([scores, *tensors], body)


def weights_of(node: Node, scores: ir.Value, may_be_empty: bool, dtype: str) -> ir.Value:
    """The softmax over the keys; a query without any key has no weights at all."""
    if not may_be_empty:
        return softmax_of(node, scores, [KEY], dtype)
    lowest = float("-inf")
    largest = node.map([build.reduce(scores, "max", [KEY])], lambda m: m.eq(lowest).select(0.0, m))
    powers = node.map([scores, largest], lambda x, m: (x - m).exp())
    total = build.reduce(powers, "sum", [KEY])
    return node.map([powers, total], lambda e, s: s.eq(0.0).select(0.0, e / s), element=dtype)


def weighted(node: Node, seen: ir.Value, value: ir.Value, scores: Scores, dtype: str) -> ir.Value:
    """softmax(seen) x value in `dtype`."""
    weights = weights_of(node, seen, scores.may_be_empty, dtype)
    return build.matmul(weights, value, element=dtype, unify=node.unify)


# Changes of a score ---------------------------------------------------------------------------------------------
def scaled(scale: float | None, size: Expression) -> Change:
    """Times `scale`, by default one over the root of the size of a head, which may be known at run time only."""
    known = size.as_constant()
    if scale is None and known:
        scale = 1 / math.sqrt(known)
    if scale is not None:
        factor = float(scale)
        return Change(lambda score: score * factor)
    return Change(lambda score: score * build.dimension(size).cast(score.dtype).rsqrt())


def capped(limit: float) -> Change:
    """Smoothly kept between -limit and limit."""
    return Change(lambda score: (score / limit).tanh() * limit)


def plus(bias: Tensor) -> Change:
    """Plus a tensor that broadcasts against the scores."""
    return Change(lambda score, own: score + own.cast(score.dtype), (bias,))


def only(kept: Callable[[], Scalar]) -> Change:
    """Keys for which `kept` does not hold do not count."""
    return Change(lambda score: kept().select(score, float("-inf")))


def causal(past: Expression | int) -> Change:
    """Keys after the query, which stands behind `past` others, do not count."""
    return only(lambda: build.index(KEY).le(build.index(QUERY) + build.dimension(past)))


# Heads ----------------------------------------------------------------------------------------------------------
def split_heads(node: Node, tensor: Tensor | ir.Value, heads: int) -> ir.Value:
    """[N, steps, heads * size] -> [N, heads, steps, size]"""
    given = node.tensor(tensor)
    batch, steps, width = given.shape
    divided = node.reshaped(given, [batch, steps, heads, width // heads])
    return build.transpose(divided.value, [0, 2, 1, 3])


def join_heads(value: ir.Value) -> ir.Value:
    """[N, heads, steps, size] -> [N, steps, heads * size]"""
    batch, heads, steps, size = build.shape_of(value)
    return build.reshape(build.transpose(value, [0, 2, 1, 3]), [batch, steps, heads * size])


def repeated(value: ir.Value, times: int) -> ir.Value:
    """Every head `times` times in a row."""
    if times == 1:
        return value
    batch, heads, steps, size = build.shape_of(value)
    spread = build.broadcast(build.expand_dimensions(value, [2]), [batch, heads, times, steps, size])
    return build.reshape(spread, [batch, heads * times, steps, size])


def shared_heads(node: Node, query: ir.Value, value: ir.Value) -> ir.Value:
    """Keys or values with as many heads as the queries. Raises ModelError."""
    heads, groups = (build.shape_of(own)[1].as_constant() for own in (query, value))
    if build.shape_of(query)[1] == build.shape_of(value)[1]:
        return value
    if heads is None or groups is None:
        raise Unsupported("attention with other heads of keys than of queries", "a static number of heads")
    if not groups or heads % groups:
        raise ModelError(f"node '{node.name}' ({node.operator}): {heads} heads of queries for {groups} of keys")
    return repeated(value, heads // groups)


# The operator ---------------------------------------------------------------------------------------------------
@onnx_operator("Attention", since=23)
def attention(node: Node) -> list[ir.Value | None]:
    """Query [N, heads, S, size], keys and values [N, groups, T, size], or [N, steps, heads * size]; a mask or bias that
    broadcasts against [N, heads, S, T], a cache that stands before the keys, or a cache's length for every entry.
    """
    counts = [int(node.get(name, 0)) for name in ("q_num_heads", "kv_num_heads", "kv_num_heads")]
    query, new_key, new_value = (
        node.value(place) if node.rank(place) == 4 else split_heads(node, node.input(place), count)
        for place, count in enumerate(counts)
    )
    past = build.shape_of(node.value(4))[2] if node.has(4) else Expression.constant(0)
    key, value = (
        build.concatenate([node.value(place), new], 2, node.unify) if node.has(place) else new
        for place, new in ((4, new_key), (5, new_value))
    )
    products = products_of(node, query, shared_heads(node, query, key))
    if int(node.get("softmax_precision", 0)) == DOUBLE:
        products = build.cast(products, "f64")
    stages, may_be_empty = _stages(node, build.shape_of(products), past)
    dtype = node.dtype(0)
    # The product that may be shown is that of the first stage, the second, ...
    mode = int(node.get("qk_matmul_output_mode", 0)) if node.wants(3) else len(stages)
    shown = changed(node, products, [change for stage in stages[: mode + 1] for change in stage])
    seen = changed(node, shown, [change for stage in stages[mode + 1 :] for change in stage])
    weights = weights_of(node, seen, may_be_empty, dtype)
    result = build.matmul(weights, shared_heads(node, query, value), element=dtype, unify=node.unify)
    joined = join_heads(result) if node.rank(0) == 3 else result
    if not node.wants(3):
        return [joined, key, value, None]
    return [joined, key, value, build.cast(weights if mode == len(stages) else shown, dtype)]


def _stages(node: Node, shape: Sequence[Expression], past: Expression) -> tuple[list[list[Change]], bool]:
    """The changes of the scores: scale, cap, mask; and whether they may leave a query without keys."""
    size = node.shape(0)[-1] if node.rank(0) == 4 else node.shape(0)[-1] // int(node.get("q_num_heads", 1))
    cap = float(node.get("softcap", 0.0))
    masks = _bounds(node, shape, past)
    if node.has(3):
        masks.insert(0, _masked(node, node.input(3), shape[KEY]))
    may_be_empty = node.has(3) or node.has(6) or _window(node) != (-1, -1)
    return [[scaled(node.get("scale"), size)], [capped(cap)] if cap else [], masks], may_be_empty


def _window(node: Node) -> tuple[int, int]:
    """Keys before and after a query that it sees; -1 for all. Since opset 25."""
    return int(node.get("left_window_size", -1)), int(node.get("right_window_size", -1))


def _bounds(node: Node, shape: Sequence[Expression], past: Expression) -> list[Change]:
    """Which keys a query sees by their positions alone."""
    lengths = node.optional(6)

    def place() -> Scalar:
        """Where the query stands among the keys."""
        if lengths is None:
            return build.index(QUERY) + build.dimension(past)
        return build.index(QUERY) + _length(lengths) - build.dimension(shape[QUERY])

    before, after = _window(node)
    bounds: list[Change] = []
    if node.get("is_causal", 0):
        bounds.append(only(lambda: build.index(KEY).le(place())))
    if after >= 0:
        bounds.append(only(lambda: build.index(KEY).le(place() + after)))
    if before >= 0:
        bounds.append(only(lambda: build.index(KEY).ge(place() - before)))
    if lengths is not None:
        bounds.append(only(lambda: build.index(KEY).lt(_length(lengths))))
    return bounds


def _length(lengths: Tensor) -> Scalar:
    """Keys of this entry that are there."""
    return build.element_at(lengths.value, [build.index(0)]).cast("i64")


def _masked(node: Node, mask: Tensor, keys: Expression) -> Change:
    """A mask of booleans, or a bias to add; since opset 24 it may end before the keys do, and those do not count."""
    count = mask.shape[-1]

    def applied(score: Scalar, own: Scalar) -> Scalar:
        return own.select(score, float("-inf")) if mask.dtype == "i1" else score + own.cast(score.dtype)

    if count == keys or node.version < 24:
        return Change(applied, (mask,))

    def shorter(score: Scalar) -> Scalar:
        inside = build.index(KEY).lt(build.dimension(count))
        places = [
            0 if size == 1 else build.index(axis) for axis, size in enumerate(mask.shape[:-1], start=4 - mask.rank)
        ]
        own = build.element_at(mask.value, [*places, build.index(KEY).minimum(build.dimension(count) - 1)])
        return inside.select(applied(score, own), float("-inf"))

    return Change(shorter)
