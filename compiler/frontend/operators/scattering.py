"""Scatter operators: every update is sent to its place, and what meets there is combined.

In: data, indices and updates. Out: a tensor like data. With constant indices that are not reduced the inverse of the
scatter is computed while importing and the operator is one gather. Otherwise graph.scatter combines them, or finds for
every place the last update that falls there; indices outside the data are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar, is_float
from ....runtime.errors import ModelError
from ....runtime.symbolic import Expression
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Array, Tensor
from .ordering import key_of, value_of, widened

ATOMIC = {"add": "sum", "mul": "product"}
Position = Callable[[list[Scalar]], list[Scalar]]  # of an update: where in the data it goes


@onnx_operator("ScatterElements", "Scatter")
def scatter_elements(node: Node) -> ir.Value:
    """output[.., indices[i, j], ..] = updates[i, j] along one axis."""
    node.same_rank(0, 1, 2)
    data, indices, updates = node.input(0), node.input(1), node.input(2)
    axis = node.axis(node.get("axis", 0), data.rank)
    constant = node.constant(1)
    if constant is not None and _is_plain(node) and data.size is not None:
        inverse = np.full([size.as_constant() or 0 for size in data.shape], -1, np.int64)
        places: list[Array] = list(np.indices(constant.shape))
        places[axis] = _wrapped(constant, inverse.shape[axis])
        inverse[tuple(places)] = np.arange(constant.size).reshape(constant.shape)
        return _gathered(node, data, updates, inverse, constant.shape)
    table = indices.value

    def position(own: list[Scalar]) -> list[Scalar]:
        return [*own[:axis], build.element_at(table, own).cast("i64"), *own[axis + 1 :]]

    places_of = _places(node, indices.shape, data.shape, position)
    if not _is_plain(node):
        return _reduced(node, data, places_of, updates.value)
    count = build.product(indices.shape)
    flat = node.reshaped(updates, [count]).value
    latest = _latest(node, build.reshape(places_of, [count]), data.shape)
    return _replaced(node, data, latest, lambda number, own: build.element_at(flat, [number]))


@onnx_operator("ScatterND")
def scatter_nd(node: Node) -> ir.Value:
    """output[indices[i]] = updates[i] where the last dimension of indices is a position."""
    data, indices, updates = node.input(0), node.input(1), node.input(2)
    depth = indices.shape[-1].as_constant()
    if depth is None or not 0 < depth <= data.rank:
        raise Unsupported("ScatterND with index tuples of dynamic or wrong length", "static lengths up to the rank")
    constant = node.constant(1)
    if constant is not None and _is_plain(node) and data.size is not None:
        sizes = [size.as_constant() or 0 for size in data.shape]
        columns = [_wrapped(constant[..., i].ravel(), sizes[i]) for i in range(depth)]
        tail = sizes[depth:]
        inverse = np.full(sizes, -1, np.int64)
        count = constant.size // depth
        inverse[tuple(columns)] = np.arange(count * int(np.prod(tail))).reshape([count, *tail])
        return _gathered(node, data, updates, inverse, (count, *tail))
    total = build.product(indices.shape[:-1])
    rows = node.reshaped(indices, [total, depth]).value
    values = node.reshaped(updates, [total, *data.shape[depth:]]).value

    def position(own: list[Scalar]) -> list[Scalar]:
        return [*(build.element_at(rows, [own[0], axis]).cast("i64") for axis in range(depth)), *own[1:]]

    if not _is_plain(node):
        return _reduced(node, data, _places(node, build.shape_of(values), data.shape, position), values)
    heads = data.shape[:depth]  # whole rows are replaced: the last update of each is found once
    latest = _latest(node, _places(node, [total], heads, position), heads)
    return _replaced(node, data, latest, lambda number, own: build.element_at(values, [number, *own[depth:]]))


def _places(node: Node, shape: Sequence[Expression], sizes: Sequence[Expression], position: Position) -> ir.Value:
    """Flat places in a tensor of `sizes` for updates of `shape`; -1 where an index lies outside."""

    def body() -> Scalar:
        flat, inside = Scalar.constant(0, "i64"), Scalar.constant(1, "i1")
        for index, size in zip(position([build.index(axis) for axis in range(len(shape))]), sizes, strict=True):
            extent = build.dimension(size)
            wrapped = index.lt(0).select(index + extent, index)
            inside = inside & wrapped.ge(0) & wrapped.lt(extent)
            flat = flat * extent + wrapped
        return inside.select(flat, -1)

    return node.map([], body, shape=list(shape))


def _latest(node: Node, places: ir.Value, shape: Sequence[Expression]) -> ir.Value:
    """For every place of `shape` one more than the number of the last update that falls there; 0 for none."""
    numbers = node.map([], lambda: (build.index(0) + 1).cast("i32"), shape=build.shape_of(places))
    return build.scatter(places, numbers, "max", shape)


def _replaced(
    node: Node, data: Tensor, latest: ir.Value, fetch: Callable[[Scalar, list[Scalar]], Scalar]
) -> ir.Value:
    """The update of the latest number in the place of the data."""
    depth = build.rank_of(latest)

    def body(old: Scalar) -> Scalar:
        own = [build.index(axis) for axis in range(data.rank)]
        number = build.element_at(latest, own[:depth]).cast("i64")
        return number.eq(0).select(old, fetch((number - 1).maximum(0), own))

    if build.product(build.shape_of(latest)) == 0:
        return data.value
    return node.map([data], body, shape=data.shape)


def _reduced(node: Node, data: Tensor, places: ir.Value, updates: ir.Value) -> ir.Value:
    """The data combined with all updates that fall on it."""
    reduction = str(node.get("reduction"))
    wide = widened(data.dtype)
    if reduction in ATOMIC:
        start, values = build.cast(data.value, wide), build.cast(updates, wide)
        return build.cast(build.scatter(places, values, ATOMIC[reduction], initial=start), data.dtype)
    if reduction not in ("max", "min"):
        raise ModelError(f"node '{node.name}' ({node.operator}): there is no reduction '{reduction}'")
    smallest = reduction == "min"

    def key(value: Scalar) -> Scalar:
        if not smallest:
            return key_of(value)
        return value.is_nan().select(-1, ~key_of(value)) if is_float(value.dtype) else ~key_of(value)

    def chosen(old: Scalar, found: Scalar) -> Scalar:
        value = value_of(~found if smallest else found, data.dtype)
        better = old.minimum(value) if smallest else old.maximum(value)
        return found.eq(0).select(old, better)  # 0 is the least key: nothing, or what changes nothing

    best = build.scatter(places, node.map([updates], key), "max", data.shape)
    return node.map([data, best], chosen, shape=data.shape)


def _is_plain(node: Node) -> bool:
    return str(node.get("reduction", "none")) == "none"


def _wrapped(indices: Array, size: int) -> Array:
    if indices.size and (indices.min() < -size or indices.max() >= size):
        raise ModelError(f"scatter index outside a dimension of size {size}")
    return np.where(indices < 0, indices + size, indices).astype(np.int64)


def _gathered(node: Node, data: Tensor, updates: Tensor, inverse: Array, shape: tuple[int, ...]) -> ir.Value:
    """data where `inverse` is -1, else the update of that number."""
    where = node.literal(inverse, "i64")
    flat = node.reshaped(updates, [int(np.prod(shape))]).value
    if not np.prod(shape):
        return data.value

    def body(old: Scalar, number: Scalar) -> Scalar:
        return number.lt(0).select(old, build.element_at(flat, [number.maximum(0)]))

    return node.map([data, where], body, shape=data.shape)


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
