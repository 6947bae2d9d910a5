"""TopK: the first elements of a sorted axis.

In: a tensor and k. Out: the k largest or smallest along one axis, in order, with their positions. One launch sorts the
keys; a long axis of known size is sorted in runs, which are then merged pair by pair.
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
from .ordering import key_of

RUN = 2048  # elements that one block sorts in its shared memory (passes/tile/sort.py)
Key = Callable[[Scalar], Scalar]


@onnx_operator("TopK")
def top_k(node: Node) -> list[ir.Value]:
    """Of equal elements the first comes first; NaN is larger than everything."""
    x = node.input(0)
    axis = node.axis(node.get("axis", -1), x.rank)
    count = Expression.constant(int(node.get("k"))) if node.get("k") is not None else node.sizes(1, "k")[0]
    descending = bool(node.get("largest", 1))
    others = [number for number in range(x.rank) if number != axis]
    lines = build.transpose(x.value, [*others, axis])
    order = sorted_positions(node, lines, (lambda v: ~key_of(v)) if descending else key_of)
    table, last = x.value, build.dimension
    shape = [*x.shape[:axis], count, *x.shape[axis + 1 :]]

    def place() -> Scalar:
        own = [build.index(number) for number in range(x.rank)]
        rank = own[axis].minimum(last(x.shape[axis]) - 1).maximum(0)  # k may be more than a run finds
        return build.element_at(order, [*(own[number] for number in others), rank]).cast("i64")

    def value() -> Scalar:
        own = [build.index(number) for number in range(x.rank)]
        return build.element_at(table, [*own[:axis], place(), *own[axis + 1 :]])

    return [node.map([], value, shape=shape), node.map([], place, shape=shape)]


def sorted_positions(node: Node, lines: ir.Value, key: Key) -> ir.Value:
    """Positions (i32) along the last axis in the order of the elements' keys; of equal ones the first comes first."""
    length = build.shape_of(lines)[-1].as_constant()
    keys = node.map([lines], key)
    if length is None or length <= RUN:
        return build.sort(keys)
    order = build.sort(keys, RUN)
    run = RUN
    while run < length:
        size = node.literal(np.array([run], np.int64), "i64").value  # not in the body: all rounds are one kernel
        order = _merged(node, lines, key, order, size, length)
        run *= 2
    return order


def _merged(node: Node, lines: ir.Value, key: Key, order: ir.Value, size: ir.Value, length: int) -> ir.Value:
    """Neighbouring sorted runs of `size` merged: every place of the result finds out how many of the elements before
    it come from the first run, by binary search along its diagonal.
    """
    rank = build.rank_of(lines)

    def body() -> Scalar:
        *line, place = (build.index(number) for number in range(rank))
        run = build.element_at(size, [0])
        start = place & ~(run * 2 - 1)
        middle = (start + run).minimum(length)
        end = (middle + run).minimum(length)
        done = place - start

        def position(at: Scalar) -> Scalar:
            return build.element_at(order, [*line, at.minimum(length - 1).maximum(0)]).cast("i64")

        def comes_first(left: Scalar, right: Scalar) -> Scalar:
            """Whether number `left` of the first run stands before number `right` of the second."""
            one, other = (
                key(build.element_at(lines, [*line, position(at)])) for at in (start + left, middle + right)
            )
            return one.le(other)

        low, high = (done - (end - middle)).maximum(0), done.minimum(middle - start)
        for _ in range(length.bit_length()):
            probe = (low + high).shift_right(1)
            taken = low.lt(high) & comes_first(probe, done - 1 - probe)
            low, high = taken.select(probe + 1, low), (low.lt(high) & ~taken).select(probe, high)
        others = done - low
        first = low.lt(middle - start) & (others.ge(end - middle) | comes_first(low, others))
        return position(first.select(start + low, middle + others)).cast("i32")

    return node.map([], body, shape=build.shape_of(order))
