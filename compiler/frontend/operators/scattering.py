"""Scatter operators as maps: every output element looks for the update that falls on it.

In: data, indices and updates. Out: a tensor like data. With constant indices the inverse of the scatter is
computed while importing and the operator is one gather; otherwise the updates are searched, which costs
their number for every output element.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.errors import ModelError
from ....runtime.symbolic import Expression
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Array, Tensor

REDUCTIONS = {"add": "sum", "mul": "product", "max": "max", "min": "min"}
COMBINE: dict[str, Callable[[Scalar, Scalar], Scalar]] = {
    "sum": lambda x, y: x + y,
    "product": lambda x, y: x * y,
    "max": Scalar.maximum,
    "min": Scalar.minimum,
}
Matches = Callable[[list[Scalar], Scalar], Scalar]  # (output position, update number) -> does it fall there
Fetch = Callable[[list[Scalar], Scalar], Scalar]  # the value of that update for that position


@onnx_operator("ScatterElements", "Scatter")
def scatter_elements(node: Node) -> ir.Value:
    """output[.., indices[i, j], ..] = updates[i, j] along one axis."""
    data, indices, updates = node.input(0), node.input(1), node.input(2)
    axis = node.axis(node.get("axis", 0), data.rank)
    constant = node.constant(1)
    if constant is not None and _is_plain(node) and data.size is not None:
        inverse = np.full([size.as_constant() or 0 for size in data.shape], -1, np.int64)
        places: list[Array] = list(np.indices(constant.shape))
        places[axis] = _wrapped(constant, inverse.shape[axis])
        inverse[tuple(places)] = np.arange(constant.size).reshape(constant.shape)
        return _gathered(node, data, updates, inverse, constant.shape)
    length, size = indices.shape[axis], data.shape[axis]
    rows, values = indices.value, updates.value

    def here(places: list[Scalar], number: Scalar) -> list[Scalar]:
        return [*places[:axis], number, *places[axis + 1 :]]

    def inside(places: list[Scalar]) -> tuple[list[Scalar], Scalar]:
        """Positions clamped to the indices' shape, and whether they were inside: updates may be smaller than
        data.
        """
        valid = Scalar.constant(1, "i1")
        clamped = []
        for place, extent, whole in zip(places, indices.shape, data.shape, strict=True):
            if extent == whole:
                clamped.append(place)
                continue
            valid = valid & place.lt(build.dimension(extent))
            clamped.append(place.minimum(build.dimension(extent) - 1))
        return clamped, valid

    def matches(places: list[Scalar], number: Scalar) -> Scalar:
        target = places[axis]
        others, valid = inside(here(places, Scalar.constant(0, "i64")))
        found = build.element_at(rows, here(others, number)).cast("i64")
        return valid & _wrap(found, size).eq(target)

    def fetch(places: list[Scalar], number: Scalar) -> Scalar:
        others, _ = inside(here(places, Scalar.constant(0, "i64")))
        return build.element_at(values, here(others, number))

    return _searched(node, data, length, matches, fetch)


@onnx_operator("ScatterND")
def scatter_nd(node: Node) -> ir.Value:
    """output[indices[i]] = updates[i] where the last dimension of indices is a position."""
    data, indices, updates = node.input(0), node.input(1), node.input(2)
    depth = indices.shape[-1].as_constant()
    if depth is None or not 0 < depth <= data.rank:
        raise Unsupported("ScatterND with index tuples of dynamic or wrong length", "static lengths up to the rank")
    constant = node.constant(1)
    leading = indices.shape[:-1]
    if constant is not None and _is_plain(node) and data.size is not None:
        sizes = [size.as_constant() or 0 for size in data.shape]
        columns = [_wrapped(constant[..., i].ravel(), sizes[i]) for i in range(depth)]
        tail = sizes[depth:]
        inverse = np.full(sizes, -1, np.int64)
        count = constant.size // depth
        inverse[tuple(columns)] = np.arange(count * int(np.prod(tail))).reshape([count, *tail])
        return _gathered(node, data, updates, inverse, (count, *tail))
    total = build.product(leading)
    rows = node.reshaped(indices, [total, depth]).value
    values = node.reshaped(updates, [total, *data.shape[depth:]]).value

    def matches(places: list[Scalar], number: Scalar) -> Scalar:
        result = Scalar.constant(1, "i1")
        for axis in range(depth):
            found = build.element_at(rows, [number, axis]).cast("i64")
            result = result & _wrap(found, data.shape[axis]).eq(places[axis])
        return result

    def fetch(places: list[Scalar], number: Scalar) -> Scalar:
        return build.element_at(values, [number, *places[depth:]])

    return _searched(node, data, total, matches, fetch)


def _is_plain(node: Node) -> bool:
    return str(node.get("reduction", "none")) == "none"


def _wrapped(indices: Array, size: int) -> Array:
    if indices.size and (indices.min() < -size or indices.max() >= size):
        raise ModelError(f"scatter index outside a dimension of size {size}")
    return np.where(indices < 0, indices + size, indices).astype(np.int64)


def _wrap(index: Scalar, size: Expression) -> Scalar:
    return index.lt(0).select(index + build.dimension(size), index)


def _gathered(node: Node, data: Tensor, updates: Tensor, inverse: Array, shape: tuple[int, ...]) -> ir.Value:
    """data where `inverse` is -1, else the update of that number."""
    where = node.literal(inverse, "i64")
    flat = node.reshaped(updates, [int(np.prod(shape))]).value
    if not np.prod(shape):
        return data.value

    def body(old: Scalar, number: Scalar) -> Scalar:
        return number.lt(0).select(old, build.element_at(flat, [number.maximum(0)]))

    return node.map([data, where], body, shape=data.shape)


def _searched(node: Node, data: Tensor, count: Expression, matches: Matches, fetch: Fetch) -> ir.Value:
    """One reduction over the updates: the last that matches, or all that match combined."""
    last, rank = data.rank, data.rank
    kind = REDUCTIONS.get(str(node.get("reduction", "none")))
    searched = [*data.shape, count]
    if count == 0:
        return data.value

    def positions() -> list[Scalar]:
        return [build.index(number) for number in range(rank)]

    if kind is None:

        def numbered() -> Scalar:
            number = build.index(last)
            return matches(positions(), number).select(number, -1)

        latest = build.reduce(node.map([], numbered, shape=searched), "max", [last])
        winner = build.remove_dimensions(latest, [last])

        def replace(old: Scalar, number: Scalar) -> Scalar:
            return number.lt(0).select(old, fetch(positions(), number.maximum(0)))

        return node.map([data, winner], replace, shape=data.shape)

    neutral = build.neutral(kind, data.dtype)

    def contribution() -> Scalar:
        number, places = build.index(last), positions()
        return matches(places, number).select(fetch(places, number), neutral)

    combined = build.reduce(node.map([], contribution, shape=searched), kind, [last])
    return node.map([data, build.remove_dimensions(combined, [last])], COMBINE[kind], shape=data.shape)


@onnx_operator("TensorScatter")
def tensor_scatter(node: Node) -> ir.Value:
    """A key/value cache with `update` written at each batch entry's own position, wrapping around when
    circular.
    """
    cache, update = node.input(0), node.input(1)
    axis = node.axis(node.get("axis", -2), cache.rank)
    circular = node.get("mode", "linear") == "circular"
    starts = node.optional(2)
    values = update.value
    size, length = cache.shape[axis], update.shape[axis]

    def body(old: Scalar) -> Scalar:
        places = [build.index(number) for number in range(cache.rank)]
        start = build.element_at(starts.value, [places[0]]).cast("i64") if starts else Scalar.constant(0, "i64")
        offset = places[axis] - start
        if circular:
            offset = offset % build.dimension(size)
        inside = offset.ge(0) & offset.lt(build.dimension(length))
        there = offset.clip(0, build.dimension(length) - 1)
        new = build.element_at(values, [*places[:axis], there, *places[axis + 1 :]])
        return inside.select(new, old)

    return node.map([cache], body, shape=cache.shape)
