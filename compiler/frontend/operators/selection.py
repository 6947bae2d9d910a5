"""Operators that keep some of the elements: how many is known only when the program runs.

In: a tensor, or a condition. Out: the kept elements or their positions. Kernels count and select; the host
reads the count, which becomes the size of the result.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.symbolic import Expression
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Tensor
from .indexing import in_bounds
from .scanning import running

MOST_STEPS = 31  # of a binary search: tensors have fewer than 2^31 elements


def chosen_positions(node: Node, mask: ir.Value) -> tuple[Expression, ir.Value]:
    """(how many elements of a vector of i1 are true, a tensor [size] of how many are true up to each)."""
    ones = build.cast(mask, "i64")
    count = build.reshape(build.reduce(ones, "sum", [0]), [1])
    found = node.found("sizes", [node.tensor(count)], 1, options={"operator": node.operator})[0]
    return found, running(node, ones, 0)


def position_of(running: ir.Value, number: Scalar) -> Scalar:
    """In a map: where the running count passes `number`, by binary search."""
    size = build.shape_of(running)[0]
    static = size.as_constant()
    steps = MOST_STEPS if static is None else max(static, 1).bit_length()
    extent = build.dimension(size)
    position = Scalar.constant(0, "i64")
    for step in reversed(range(steps)):
        probe = position + (1 << step)
        before = build.element_at(running, [(probe - 1).minimum(extent - 1).maximum(0)])
        position = (probe.le(extent) & before.le(number)).select(probe, position)
    return position.minimum(extent - 1).maximum(0)


@onnx_operator("NonZero")
def non_zero(node: Node) -> ir.Value:
    """Positions of the elements that are not zero, [rank, count], in row-major order."""
    x = node.input(0)
    flat = node.map([node.reshaped(x, [build.product(x.shape)])], lambda v: v.cast("i1"))
    count, running = chosen_positions(node, flat)

    def body() -> Scalar:
        rest = position_of(running, build.index(1))
        result = Scalar.constant(0, "i64")
        for axis in reversed(range(x.rank)):
            extent = build.dimension(x.shape[axis]).maximum(1)
            result = build.index(0).eq(axis).select(rest.remainder(extent), result)
            rest = rest / extent
        return result

    return node.map([], body, shape=build.expressions([x.rank, count]))


@onnx_operator("Compress")
def compress(node: Node) -> ir.Value:
    """The slices along an axis, or the elements, where the condition holds."""
    x, condition = node.input(0), node.constant(1)
    axis = node.get("axis")
    if axis is None:
        x, axis = node.reshaped(x, [build.product(x.shape)]), 0
    axis = node.axis(axis, x.rank)
    if condition is not None:
        rows = node.literal(np.flatnonzero(condition).astype(np.int64), "i64")
        return _taken(node, x, axis, rows.shape[0], lambda place: build.element_at(rows.value, [place]))
    count, running = chosen_positions(node, node.value(1))
    return _taken(node, x, axis, count, lambda place: position_of(running, place))


def _taken(node: Node, x: Tensor, axis: int, count: Expression, row: Callable[[Scalar], Scalar]) -> ir.Value:
    shape = [size if position != axis else count for position, size in enumerate(x.shape)]
    table = x.value

    def body() -> Scalar:
        places = [build.index(position) for position in range(x.rank)]
        places[axis] = in_bounds(row(places[axis]), x.shape[axis])
        return build.element_at(table, places)

    return node.map([], body, shape=shape)

