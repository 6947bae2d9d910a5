"""Tensors of a sequence that only a run knows, put together to one tensor, and a tensor cut into such a sequence.

In: a sequence that the host holds, or a tensor and sizes of parts. Out: the other one. In between all parts' elements
lie one after the other; where that is not the order of the tensor, a map finds each one's part by binary search.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.symbolic import ONE, Expression
from ..errors import Unsupported
from ..held import HeldValue
from ..node import Node
from ..tensor import Tensor
from .scanning import running
from .selection import position_of


def joined_shape(
    node: Node, sequence: HeldValue, axis: int, stack: bool, count: Expression | None = None
) -> list[Expression]:
    """The shape of all tensors along a new first dimension (`stack`), or one after the other along `axis`. The host
    finds what is not known, `count` of the tensors, too. Raises Unsupported for a sequence of text or unknown rank.
    """
    content = sequence.content
    if content.shape is None or content.dtype == "string":
        what = f"{node.operator} of a sequence of {'strings' if content.shape else 'tensors of unknown rank'}"
        raise Unsupported(what, "tensors of numbers of one rank", node.sources)
    sizes = [None if place == axis and not stack else size for place, size in enumerate(content.shape)]
    asked = [place for place, size in enumerate(sizes) if size is None]
    options = {"operator": node.operator, "rank": len(sizes), "axis": axis, "stack": stack, "axes": asked}
    found: list[Expression] = []
    if asked or count is None:
        found = node.found("joined_sizes", [sequence], 1 + len(asked), options=options)
    rest = iter(found[1:])
    shape = [next(rest) if size is None else size for size in sizes]
    return [count if count is not None else found[0], *shape] if stack else shape


def stacked(node: Node, sequence: HeldValue, axis: int) -> ir.Value:
    """All tensors along a new dimension."""
    shape = joined_shape(node, sequence, 0, stack=True)
    rows = build.upload(sequence.value, shape, sequence.content.dtype)
    order = list(range(1, len(shape)))
    order.insert(axis, 0)
    return build.transpose(rows, order)


def concatenated(node: Node, sequence: HeldValue, axis: int) -> ir.Value:
    """All tensors one after the other along a dimension."""
    dtype = sequence.content.dtype
    shape = joined_shape(node, sequence, axis, stack=False)
    if axis == 0:
        return build.upload(sequence.value, shape, dtype)
    count = node.found("sequence_length", [sequence], 1)[0]
    lengths = build.upload(node.host("sizes_along", [sequence], 1, {"axis": axis})[0], [count], "i64")
    flat = build.upload(sequence.value, [build.product(shape)], dtype)
    order = Order(shape, axis, lengths, running(node, lengths, 0))
    return node.map([], lambda: build.element_at(flat, [order.place()]), shape=shape)


def split(node: Node, x: Tensor, axis: int, lengths: ir.Value, host_lengths: Tensor) -> ir.Value:
    """The parts of those lengths along a dimension, as a sequence that the host holds."""
    value, sizes = x.value, list(x.shape)
    if axis:
        order = Order(sizes, axis, lengths, running(node, lengths, 0))
        value = node.map([], lambda: build.element_at(x.value, order.source()), shape=[build.product(sizes)])
    whole = node.on_host(build.keep(value), "object")
    return node.host("parts", [whole, host_lengths], 1, {"axis": axis}, sizes)[0]


def rows(node: Node, x: Tensor, axis: int, host_lengths: Tensor, keep: bool) -> ir.Value:
    """The slices along a dimension, with it as a size of 1 or without it, as a sequence that the host holds."""
    order = [axis, *(place for place in range(x.rank) if place != axis)]
    whole = node.on_host(build.keep(build.transpose(x.value, order)), "object")
    sizes = [ONE if place == axis else size for place, size in enumerate(x.shape) if keep or place != axis]
    return node.host("parts", [whole, host_lengths], 1, {"axis": None}, sizes)[0]


@dataclass(frozen=True)
class Order:
    """Two orders of the same elements: that of a tensor of `shape`, and that of its parts along `axis`, one part after
    the other; `lengths` are their sizes, and `ends` the positions along the axis where they end.
    """

    shape: Sequence[Expression]
    axis: int
    lengths: ir.Value
    ends: ir.Value

    def place(self) -> Scalar:
        """In a map over the tensor: where its element lies among those of the parts."""
        part, inside = self._part(build.index(self.axis))
        length = build.element_at(self.lengths, [part])
        before, rest = self._flat(range(self.axis)), self._flat(range(self.axis + 1, len(self.shape)))
        start = (build.index(self.axis) - inside) * self._size(lambda place: place != self.axis)
        return start + (before * length + inside) * self._size(lambda place: place > self.axis) + rest

    def source(self) -> list[Scalar]:
        """In a map over all elements of the parts: the position of each in the tensor."""
        others, inner = self._size(lambda place: place != self.axis), self._size(lambda place: place > self.axis)
        own = build.index(0)
        part, _ = self._part(own / others.maximum(1))
        length = build.element_at(self.lengths, [part])
        start = build.element_at(self.ends, [part]) - length
        own = own - start * others
        along, rest = own / inner.maximum(1), own.remainder(inner.maximum(1))
        before, inside = along / length.maximum(1), along.remainder(length.maximum(1))
        outer, last = self._places(before, range(self.axis)), self._places(rest, range(self.axis + 1, len(self.shape)))
        return [*outer, start + inside, *last]

    def _part(self, position: Scalar) -> tuple[Scalar, Scalar]:
        """The part that a position along the axis is in, and where in it."""
        part = position_of(self.ends, position)
        start = build.element_at(self.ends, [part]) - build.element_at(self.lengths, [part])
        return part, position - start

    def _size(self, chosen: Callable[[int], bool]) -> Scalar:
        return build.dimension(build.product([size for place, size in enumerate(self.shape) if chosen(place)]))

    def _flat(self, axes: range) -> Scalar:
        """The row-major number of this element among those of some dimensions."""
        number = Scalar.constant(0, "i64")
        for place in axes:
            number = number * build.dimension(self.shape[place]) + build.index(place)
        return number

    def _places(self, number: Scalar, axes: range) -> list[Scalar]:
        places: list[Scalar] = []
        for place in reversed(axes):
            extent = build.dimension(self.shape[place]).maximum(1)
            places.insert(0, number.remainder(extent))
            number = number / extent
        return places
