"""Unique: different elements in order, where each was first, which one each element is, how often it occurs.

In: a tensor. Out: up to four tensors whose size is the number of different elements, which the host reads. Sorting
brings equal elements together; everything else is counted from there. Slices along an axis are compared on the host.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.dtypes import NARROW
from ....runtime.symbolic import Expression
from ..node import Node
from ..registry import onnx_operator
from .ordering import key_of
from .ranking import sorted_positions
from .selection import chosen_positions, position_of


@onnx_operator("Unique")
def unique(node: Node) -> Sequence[ir.Value]:
    """Equal are elements with the same key: both zeros are one element, and all NaN."""
    x = node.input(0)
    axis = node.get("axis")
    axis = None if axis is None else node.axis(axis, x.rank)
    if x.dtype in NARROW or (axis is not None and x.rank > 1):
        return _slices(node, axis)
    flat = node.reshaped(x, [build.product(x.shape)]).value
    length = build.shape_of(flat)[0]
    order = sorted_positions(node, build.reshape(flat, [1, length]), key_of)
    order = build.reshape(order, [length])

    def is_new() -> Scalar:
        """Whether the element at this place of the order differs from the one before."""
        own = build.index(0)
        places = [build.element_at(order, [at]).cast("i64") for at in (own, (own - 1).maximum(0))]
        this, before = (key_of(build.element_at(flat, [place])) for place in places)
        return own.eq(0) | this.ne(before)

    count, running = chosen_positions(node, node.map([], is_new, shape=[length]))
    numbers = node.map([running], lambda v: v.cast("i32"))  # from 1
    group = build.scatter(build.cast(order, "i64"), numbers, "max", [length])  # of every element, from 1
    starts = node.map([], lambda: position_of(running, build.index(0)), shape=[count])
    firsts = node.map([starts], lambda start: build.element_at(order, [start]).cast("i64"))
    if not node.get("sorted", 1):
        firsts, group = _in_order_of_appearance(node, firsts, group)
    inverse = node.map([group], lambda v: v.cast("i64") - 1)
    values = node.map([firsts], lambda first: build.element_at(flat, [first]))
    return [values, firsts, inverse, _counts(node, inverse, count)]


def _in_order_of_appearance(node: Node, firsts: ir.Value, group: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The same with groups numbered by their first elements."""
    count = build.shape_of(firsts)[0]
    keys = build.reshape(node.map([firsts], lambda v: v.cast("ui32")), [1, count])
    order = build.reshape(build.sort(keys), [count])
    numbers = node.map([], lambda: (build.index(0) + 1).cast("i32"), shape=[count])
    ranks = build.scatter(build.cast(order, "i64"), numbers, "max", [count])

    group = node.map([group], lambda number: build.element_at(ranks, [number.cast("i64") - 1]))
    return node.map([order], lambda place: build.element_at(firsts, [place.cast("i64")])), group


def _counts(node: Node, inverse: ir.Value, count: Expression) -> ir.Value:
    """How many elements each group has."""
    ones = node.map([inverse], lambda _: Scalar.constant(1, "i64"))
    return build.scatter(inverse, ones, "sum", [count])


def _slices(node: Node, axis: int | None) -> Sequence[ir.Value]:
    """The same on the host."""
    x = node.input(0)
    symbol = node.importer.fresh_symbols(node.operator, 1)
    count = Expression.symbol(symbol[0])
    options = {"axis": axis, "sorted": bool(node.get("sorted", 1))}
    values = node.host("unique", [x], 4, options, symbols=symbol)
    length = build.product(x.shape) if axis is None else x.shape[axis]
    shape = [count] if axis is None else [*x.shape[:axis], count, *x.shape[axis + 1 :]]
    kinds = [(shape, x.dtype), ([count], "i64"), ([length], "i64"), ([count], "i64")]
    return [build.upload(value, *kind) for value, kind in zip(values, kinds, strict=True)]
