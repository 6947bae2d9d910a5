"""TopK: the first elements of a sorted axis.

In: a tensor and k. Out: the k largest or smallest along one axis, in order, with their positions. Short axes
are ranked by counting, which is quadratic and takes two reductions; long ones are sorted by a bitonic network.
"""

from __future__ import annotations

import numpy as np
from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.symbolic import Expression
from ..node import Node
from ..registry import onnx_operator

LONGEST_COUNTED = 1024  # n*n comparisons a row; a network has n * log(n)^2 / 4, in one launch a stage


@onnx_operator("TopK")
def top_k(node: Node) -> list[ir.Value]:
    """Of equal elements the first comes first."""
    x = node.input(0)
    axis = node.axis(node.get("axis", -1), x.rank)
    count = Expression.constant(int(node.get("k"))) if node.get("k") is not None else node.sizes(1, "k")[0]
    descending = bool(node.get("largest", 1))
    static = x.shape[axis].as_constant()
    if static is not None and static > LONGEST_COUNTED:
        return _from_order(node, axis, count, sorted_positions(node, x.value, axis, static, descending))
    return _counted(node, axis, count, descending)


def _comes_first(one: Scalar, other: Scalar, earlier: Scalar, descending: bool) -> Scalar:
    """Whether an element stands before another; `earlier` says so for equal ones."""
    ahead = one.gt(other) if descending else one.lt(other)
    return ahead | (one.eq(other) & earlier)


def _from_order(node: Node, axis: int, count: Expression, order: ir.Value) -> list[ir.Value]:
    """Values and positions from the sorted positions along an axis."""
    x = node.input(0)
    table = x.value
    shape = [*x.shape[:axis], count, *x.shape[axis + 1 :]]

    def place() -> Scalar:
        return build.element_at(order, [build.index(number) for number in range(x.rank)]).cast("i64")

    def value() -> Scalar:
        places = [build.index(number) for number in range(x.rank)]
        return build.element_at(table, [*places[:axis], place(), *places[axis + 1 :]])

    return [node.map([], value, shape=shape), node.map([], place, shape=shape)]


def sorted_positions(node: Node, table: ir.Value, axis: int, length: int, descending: bool) -> ir.Value:
    """Positions (i32) along `axis`, sorted by their elements, in a tensor padded to a power of two.

    Every stage of the network is a map that exchanges positions of pairs. Its two numbers stand in a constant
    tensor, so that all stages are launches of one kernel.
    """
    shape = list(build.shape_of(table))
    padded = 1 << (length - 1).bit_length()
    shape[axis] = Expression.constant(padded)
    order = node.map([], lambda: build.index(axis).cast("i32"), shape=shape)
    block = 2
    while block <= padded:
        distance = block // 2
        while distance:
            stage = node.literal(np.array([block, distance], np.int32), "i32").value
            order = _exchanged(node, table, order, stage, axis, length, descending)
            distance //= 2
        block *= 2
    return order


def _exchanged(
    node: Node, table: ir.Value, order: ir.Value, stage: ir.Value, axis: int, length: int, descending: bool
) -> ir.Value:
    """One stage: each place keeps its own position or takes its partner's."""
    rank = build.rank_of(table)

    def body() -> Scalar:
        places = [build.index(number) for number in range(rank)]
        own = places[axis]
        block, distance = (build.element_at(stage, [number]).cast("i64") for number in (0, 1))
        lower = (own & distance).eq(0)
        partner = lower.select(own + distance, own - distance)
        mine, other = (
            build.element_at(order, [*places[:axis], at, *places[axis + 1 :]]).cast("i64") for at in (own, partner)
        )
        values = [
            build.element_at(table, [*places[:axis], at.minimum(length - 1), *places[axis + 1 :]])
            for at in (mine, other)
        ]
        first = _comes_first(values[0], values[1], mine.lt(other), descending)
        # What pads the axis has the largest positions and stands last.
        first = other.ge(length) | (mine.lt(length) & first)
        first = first & ~(mine.ge(length) & other.ge(length) & mine.gt(other))
        upward = (own & block).eq(0)
        keeps = upward.eq(lower).eq(first)
        return keeps.select(mine, other).cast("i32")

    return node.map([], body, shape=build.shape_of(order))


def _counted(node: Node, axis: int, count: Expression, descending: bool) -> list[ir.Value]:
    """Every element's rank is how many others come before it."""
    x = node.input(0)
    length, table, rank = x.shape[axis], x.value, x.rank
    last = rank  # the compared element's axis is added at the end

    def precedes() -> Scalar:
        """1 where the element at `last` comes before the one at `axis`."""
        places = [build.index(number) for number in range(rank)]
        mine = build.element_at(table, places)
        own, other_place = places[axis], build.index(last)
        other = build.element_at(table, [*places[:axis], other_place, *places[axis + 1 :]])
        return _comes_first(other, mine, other_place.lt(own), descending).cast("i32")

    compared = node.map([], precedes, shape=[*x.shape, length])
    order = build.remove_dimensions(build.reduce(compared, "sum", [last]), [last])
    outputs = [*x.shape[:axis], count, *x.shape[axis + 1 :]]

    def chosen(dtype: str, pick: bool) -> ir.Value:
        """The element (or its position) whose rank is the output's position along `axis`."""

        def body() -> Scalar:
            places = [build.index(number) for number in range(rank)]
            there = [*places[:axis], build.index(last), *places[axis + 1 :]]
            hit = build.element_at(order, there).cast("i64").eq(places[axis])
            value = build.element_at(table, there).cast(dtype) if pick else build.index(last)
            return hit.select(value, 0)

        spread = node.map([], body, shape=[*outputs, length])
        return build.remove_dimensions(build.reduce(spread, "sum", [last]), [last])

    wide = {"f16": "f32", "bf16": "f32"}.get(x.dtype, x.dtype)
    return [build.cast(chosen(wide, True), x.dtype), chosen("i64", False)]
