"""Col2Im and MaxUnpool: what a window took from an image is put back.

In: columns, or pooled maxima with their places. Out: the image; every element gathers what falls on it.
"""

from __future__ import annotations

import math

from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.symbolic import Expression
from ..node import Node
from ..registry import onnx_operator
from .windows import window_of


@onnx_operator("Col2Im")
def column_to_image(node: Node) -> ir.Value:
    """[N, C * kernel, positions] -> [N, C, image...]: overlapping windows add up."""
    x = node.input(0)
    image, kernel = node.sizes(1, "image shape"), node.integers(2, "block shape")
    window = window_of(node, kernel, image)
    rank, taps = window.rank, math.prod(kernel)
    channels = x.shape[1] // taps
    counts = [
        (image[axis] + window.pads[axis] + window.pads[rank + axis] - window.extent(axis)) // window.strides[axis] + 1
        for axis in range(rank)
    ]
    table = x.value

    def body() -> Scalar:
        tap = rest = build.index(2 + rank)
        offsets: list[Scalar] = []
        for size in reversed(kernel):
            offsets.insert(0, rest.remainder(size))
            rest = rest / size
        inside, position = Scalar.constant(1, "i1"), Scalar.constant(0, "i64")
        for axis in range(rank):
            start = build.index(2 + axis) + build.dimension(window.pads[axis]) - offsets[axis] * window.dilations[axis]
            place, extent = start // window.strides[axis], build.dimension(counts[axis])
            inside = inside & (start % window.strides[axis]).eq(0) & place.ge(0) & place.lt(extent)
            position = position * extent + place.clip(0, extent - 1)
        value = build.element_at(table, [build.index(0), build.index(1) * taps + tap, position])
        return inside.select(value, 0)

    spread = node.map([], body, shape=[x.shape[0], channels, *image, Expression.constant(taps)])
    return build.remove_dimensions(build.reduce(spread, "sum", [2 + rank]), [2 + rank])


@onnx_operator("MaxUnpool")
def max_unpool(node: Node) -> ir.Value:
    """Every maximum goes to its place, which counts through the whole output that the attributes imply; else 0."""
    x, places = node.input(0), node.input(1)
    window = window_of(node, node.get("kernel_shape"), x.shape[2:])
    rank = window.rank
    natural = [
        (x.shape[2 + axis] - 1) * window.strides[axis]
        + window.kernel[axis]
        - window.pads[axis]
        - window.pads[rank + axis]
        for axis in range(rank)
    ]
    output = node.sizes(2, "output shape") if node.has(2) else [*x.shape[:2], *natural]
    planes, size, pooled = output[0] * output[1], build.product(output[2:]), build.product(x.shape[2:])
    values, numbers = (node.reshaped(tensor, [planes, pooled]).value for tensor in (x, places))
    own = build.product(natural)

    def falls_here() -> Scalar:
        """Which pooled element of the plane falls on this element of the image, or -1."""
        plane, here, candidate = (build.index(axis) for axis in range(3))
        target = build.element_at(numbers, [plane, candidate]).cast("i64") - plane * build.dimension(own)
        # Places count through an image of the natural size: a larger output has them at the same coordinates.
        rest, moved, stride = target, Scalar.constant(0, "i64"), Scalar.constant(1, "i64")
        for axis in reversed(range(rank)):
            extent = build.dimension(natural[axis])
            moved = moved + rest.remainder(extent) * stride
            rest, stride = rest / extent, stride * build.dimension(output[2 + axis])
        return moved.eq(here).select(candidate, -1)

    found = build.reduce(node.map([], falls_here, shape=[planes, size, pooled]), "max", [2])

    def body(number: Scalar) -> Scalar:
        value = build.element_at(values, [build.index(0), number.maximum(0)])
        return number.lt(0).select(0, value)

    return build.reshape(node.map([build.remove_dimensions(found, [2])], body, shape=[planes, size]), output)
