"""Poolings over windows.

In: a tensor [N, C, spatial...]. Out: graph.pool. With `ceil_mode` the last window may hang over the padded
input.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.symbolic import Expression, minimum
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator
from .reduction import widened
from .windows import Window, window_of

UNROLLED_ELEMENTS = 64  # window elements that the search for a maximum's place looks at one by one


def pooling_window(node: Node) -> tuple[Window, list[Expression]]:
    """The window and the output's spatial sizes."""
    sizes = node.shape(0)[2:]
    window = window_of(node, node.get("kernel_shape") or [], sizes)
    return window, [_output(node, window, axis, size) for axis, size in enumerate(sizes)]


def _output(node: Node, window: Window, axis: int, size: Expression) -> Expression:
    begin, end = window.pads[axis], window.pads[window.rank + axis]
    covered = size + begin + end - window.extent(axis)
    stride = window.strides[axis]
    if not node.get("ceil_mode", 0):
        return covered // stride + 1
    # The last window must start inside the input or its begin padding.
    positions, limit = covered.ceil_divide(stride) + 1, (size + begin).ceil_divide(stride)
    if (limit - positions).is_nonnegative():
        return positions
    return limit if (positions - limit).is_nonnegative() else minimum(positions, limit)


def pool(node: Node, value: ir.Value, kind: str, include_padding: bool = False) -> ir.Value:
    """graph.pool of `value`, which has the node's input shape, with the node's window."""
    window, output = pooling_window(node)
    return build.pool(
        value, kind, window.kernel, window.strides, window.pads, window.dilations, include_padding, output
    )


@onnx_operator("MaxPool")
def max_pool(node: Node) -> list[ir.Value]:
    """The second output, when it is wanted, gives the place of each maximum in the flattened input."""
    largest = pool(node, node.value(0), "max")
    return [largest, _places(node, largest)] if node.wants(1) else [largest]


def _places(node: Node, largest: ir.Value) -> ir.Value:
    """The first element of each window that equals its maximum, found by looking at all of them."""
    x = node.input(0)
    window, _ = pooling_window(node)
    if math.prod(window.kernel) > UNROLLED_ELEMENTS:
        raise Unsupported(f"MaxPool indices of windows {window.kernel}", f"up to {UNROLLED_ELEMENTS} elements")
    column_major = bool(node.get("storage_order", 0))
    table, spatial = x.value, x.shape[2:]

    def body(best: Scalar) -> Scalar:
        here = [build.index(number) for number in range(x.rank)]
        result = Scalar.constant(0, "i64")
        for offsets in reversed(list(itertools.product(*[range(size) for size in window.kernel]))):
            places, inside = _window_element(window, here[2:], offsets, spatial)
            value = build.element_at(table, [*here[:2], *places])
            plane = here[0] * build.dimension(x.shape[1]) + here[1]
            number = _flattened(places, spatial, column_major) + plane * build.dimension(build.product(spatial))
            result = (inside & value.eq(best)).select(number, result)
        return result

    return node.map([largest], body)


def _window_element(
    window: Window, output: list[Scalar], offsets: tuple[int, ...], spatial: Sequence[Expression]
) -> tuple[list[Scalar], Scalar]:
    """Where one element of the windows lies, clamped to the input, and whether it was inside."""
    inside, places = Scalar.constant(1, "i1"), []
    for axis, (position, offset, size) in enumerate(zip(output, offsets, spatial, strict=True)):
        place = position * window.strides[axis] + offset * window.dilations[axis]
        place = place - build.dimension(window.pads[axis])
        extent = build.dimension(size)
        inside = inside & place.ge(0) & place.lt(extent)
        places.append(place.clip(0, extent - 1))
    return places, inside


def _flattened(places: list[Scalar], spatial: Sequence[Expression], column_major: bool) -> Scalar:
    pairs = list(zip(places, spatial, strict=True))
    result = Scalar.constant(0, "i64")
    for place, size in reversed(pairs) if column_major else pairs:
        result = result * build.dimension(size) + place
    return result


@onnx_operator("AveragePool")
def average_pool(node: Node) -> ir.Value:
    include = bool(node.get("count_include_pad", 0))
    value, dtype = widened(node, node.input(0)), node.dtype(0)
    if not (include and node.get("ceil_mode", 0)):
        return build.cast(pool(node, value, "average", include), dtype)
    window, _ = pooling_window(node)
    total = pool(node, value, "sum")
    sizes = node.shape(0)[2:]

    def body(x: Scalar) -> Scalar:
        count = Scalar.constant(1, "i64")
        for axis, size in enumerate(sizes):
            # Elements of the window that lie in the padded input: the last window may hang over.
            padded = build.dimension(size + window.pads[axis] + window.pads[window.rank + axis])
            room = padded - build.index(2 + axis) * window.strides[axis] + (window.dilations[axis] - 1)
            count = count * (room / window.dilations[axis]).minimum(window.kernel[axis])
        return x / count.cast(x.dtype)

    return node.map([total], body, element=dtype)


@onnx_operator("LpPool")
def lp_pool(node: Node) -> ir.Value:
    power = node.get("p", 2)
    powers = node.map([widened(node, node.input(0))], lambda x: x.abs().power(power))
    return node.map([pool(node, powers, "sum")], lambda x: x.power(1.0 / power), element=node.dtype(0))
