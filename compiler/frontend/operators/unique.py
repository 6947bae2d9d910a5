"""Unique: different elements in order, where each was first, which one each element is, how often it occurs.

In: a tensor. Out: up to four tensors whose size is the number of different elements, which the host reads. Sorting
brings equal elements together; everything else is counted from there. Slices along an axis are sorted by one element
after the other, from the last; the host compares those of many elements.
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

MOST_COLUMNS = 16  # elements of a slice that kernels sort by: one sort for each


@onnx_operator("Unique")
def unique(node: Node) -> Sequence[ir.Value]:
    """Equal are elements with the same key: both zeros are one element, and all NaN."""
    x = node.input(0)
    axis = node.get("axis")
    axis = None if axis is None else node.axis(axis, x.rank)
    others = [] if axis is None else [place for place in range(x.rank) if place != axis]
    width = build.product([x.shape[place] for place in others]).as_constant()
    if x.dtype in NARROW or width is None or not 0 < width <= MOST_COLUMNS:
        return _on_host(node, axis)
    turned = x.value if axis is None else build.transpose(x.value, [axis, *others])
    length = build.product(x.shape) if axis is None else x.shape[axis]
    rows = build.reshape(turned, [length, width])
    order = _sorted_rows(node, rows)

    def is_new() -> Scalar:
        """Whether the row at this place of the order differs from the one before."""
        own = build.index(0)
        this, before = (build.element_at(order, [at]).cast("i64") for at in (own, (own - 1).maximum(0)))
        differs = own.eq(0)
        for column in range(width):
            keys = [key_of(build.element_at(rows, [place, column])) for place in (this, before)]
            differs = differs | keys[0].ne(keys[1])
        return differs

    count, running = chosen_positions(node, node.map([], is_new, shape=[length]))
    numbers = node.map([running], lambda v: v.cast("i32"))  # from 1
    group = build.scatter(build.cast(order, "i64"), numbers, "max", [length])  # of every element, from 1
    starts = node.map([], lambda: position_of(running, build.index(0)), shape=[count])
    firsts = node.map([starts], lambda start: build.element_at(order, [start]).cast("i64"))
    if not node.get("sorted", 1):
        firsts, group = _in_order_of_appearance(node, firsts, group)
    inverse = node.map([group], lambda v: v.cast("i64") - 1)
    values = node.map(
        [], lambda: build.element_at(rows, [build.element_at(firsts, [build.index(0)]), build.index(1)]),
        shape=build.expressions([count, width]),
    )  # fmt: skip
    values = build.reshape(values, [count, *(x.shape[place] for place in others)])
    if axis:
        values = build.transpose(values, [*range(1, axis + 1), 0, *range(axis + 1, x.rank)])
    return [values, firsts, inverse, _counts(node, inverse, count)]


def _sorted_rows(node: Node, rows: ir.Value) -> ir.Value:
    """Row numbers (i32) in the order of their elements, the first decides: sorted by the last one, then, keeping that
    order among equal ones, by the one before it, and so on.
    """
    length, width = build.shape_of(rows)
    order: ir.Value | None = None
    for column in reversed(range(width.as_constant() or 1)):

        def element(place: Scalar, column: int = column) -> Scalar:
            return build.element_at(rows, [place.cast("i64"), column])

        if order is None:
            line = node.map([], lambda: element(build.index(0)), shape=[length])
        else:
            line = node.map([order], element)
        places = build.reshape(sorted_positions(node, build.reshape(line, [1, length]), key_of), [length])
        table = order
        order = places if table is None else node.map(
            [places], lambda place, table=table: build.element_at(table, [place.cast("i64")])
        )  # fmt: skip
    assert order is not None
    return order


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


def _on_host(node: Node, axis: int | None) -> Sequence[ir.Value]:
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
