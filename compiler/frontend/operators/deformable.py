"""DeformConv: a convolution whose taps are read at offsets that another tensor gives.

In: image [N, C, H, W], weights [O, C/groups, kh, kw], offsets, bias and mask. Out: one map that reads every tap
bilinearly, then a matrix product.
"""

from __future__ import annotations

from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.symbolic import Expression
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator
from .windows import Window, window_of


@onnx_operator("DeformConv")
def deformable_convolution(node: Node) -> ir.Value:
    x, weight = node.input(0), node.input(1)
    kernel = [size.as_constant() for size in weight.shape[2:]]
    if x.rank != 4 or None in kernel:
        raise Unsupported("DeformConv of other than images with a static kernel", "rank 4")
    window = window_of(node, [size for size in kernel if size is not None], x.shape[2:])
    groups = int(node.get("group", 1))
    output = [
        build.window_output(
            x.shape[2 + axis], window.kernel[axis], window.strides[axis], window.pads[axis],
            window.pads[2 + axis], window.dilations[axis],
        )
        for axis in (0, 1)
    ]  # fmt: skip
    channels, taps = weight.shape[1], window.kernel[0] * window.kernel[1]
    positions = output[0] * output[1]
    columns = node.map(
        [], lambda: _tap(node, window, output), shape=[x.shape[0], x.shape[1], Expression.constant(taps), *output]
    )
    columns = build.reshape(columns, [x.shape[0], groups, channels * taps, positions])
    rows = node.reshaped(weight, [1, groups, weight.shape[0] // groups, channels * taps])
    product = build.reshape(build.matmul(rows.value, columns), [x.shape[0], weight.shape[0], *output])
    if not node.has(3):
        return product
    return node.map([product, node.per_channel(node.input(3), 4)], lambda v, b: v + b)


def _tap(node: Node, window: Window, output: list[Expression]) -> Scalar:
    """In a map over [N, C, tap, y, x]: the image at the tap's moved position, 0 outside, times the mask."""
    x, offsets = node.input(0), node.input(2)
    batch, channel, tap = (build.index(axis) for axis in range(3))
    here = [build.index(3), build.index(4)]
    parts = int(node.get("offset_group", 1))
    taps = window.kernel[0] * window.kernel[1]
    part = channel / (build.dimension(x.shape[1]) / parts) if parts > 1 else Scalar.constant(0, "i64")
    grid = [tap / window.kernel[1], tap.remainder(window.kernel[1])]
    places = []
    for axis in (0, 1):
        moved = build.element_at(offsets.value, [batch, (part * taps + tap) * 2 + axis, *here]).cast("f32")
        fixed = (
            here[axis] * window.strides[axis] + grid[axis] * window.dilations[axis] - build.dimension(window.pads[axis])
        )
        places.append(fixed.cast("f32") + moved)
    value = _bilinear(x.value, batch, channel, places, x.shape[2:])
    if node.has(4):
        value = value * build.element_at(node.value(4), [batch, part * taps + tap, *here]).cast("f32")
    return value.cast(x.dtype)


def _bilinear(
    table: ir.Value, batch: Scalar, channel: Scalar, places: list[Scalar], sizes: tuple[Expression, ...]
) -> Scalar:
    """Four neighbours weighted; those outside the image count as 0."""
    lows = [place.floor() for place in places]
    total = Scalar.constant(0.0, "f32")
    for down in (0, 1):
        for right in (0, 1):
            weight, inside, position = Scalar.constant(1.0, "f32"), Scalar.constant(1, "i1"), []
            for axis, step in enumerate((down, right)):
                fraction = places[axis] - lows[axis]
                weight = (fraction if step else 1.0 - fraction) * weight
                place, extent = lows[axis].cast("i64") + step, build.dimension(sizes[axis])
                inside = inside & place.ge(0) & place.lt(extent)
                position.append(place.clip(0, extent - 1))
            value = build.element_at(table, [batch, channel, *position]).cast("f32")
            total = total + inside.select(value * weight, 0.0)
    return total
