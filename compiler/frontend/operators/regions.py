"""Regions of interest: parts of an image, given as boxes, pooled to one size.

In: an image [N, C, H, W] and boxes. Out: [boxes, C, height, width]: a map over sampling points and a reduction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.symbolic import Expression
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator


@dataclass(frozen=True)
class Bins:
    """How boxes are divided: `output` bins along height and width, with sampling points in each."""

    output: tuple[int, int]
    scale: float
    shift: float  # of image coordinates: half an element since opset 16
    ratio: int  # sampling points along each side of a bin; 0: as many as the bin has elements

    def side(self, boxes: ir.Value, box: Scalar, axis: int) -> tuple[Scalar, Scalar]:
        """In a map: (begin, length of a bin) of a box along axis 0 (y) or 1 (x), in elements."""
        begin = build.element_at(boxes, [box, 1 - axis]).cast("f32") * self.scale - self.shift
        end = build.element_at(boxes, [box, 3 - axis]).cast("f32") * self.scale - self.shift
        length = end - begin
        if not self.shift:
            length = length.maximum(1.0)  # older boxes are at least one element wide
        return begin, length / float(self.output[axis])

    def points(self, bin_length: Scalar) -> Scalar:
        """In a map: sampling points along that side of a bin, i64."""
        if self.ratio:
            return Scalar.constant(self.ratio, "i64")
        return bin_length.ceil().cast("i64").maximum(1)


@onnx_operator("RoiAlign")
def roi_align(node: Node) -> ir.Value:
    """Bilinear samples at regular points of every bin, averaged, or the largest weighted corner of any sample."""
    x, boxes, batches = node.input(0), node.input(1), node.input(2)
    mode = node.get("mode", "avg")
    if mode not in ("avg", "max"):
        raise Unsupported(f"RoiAlign mode '{mode}'", "avg, max")
    half = node.version >= 16 and node.get("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    output = (int(node.get("output_height", 1)), int(node.get("output_width", 1)))
    bins = Bins(output, node.get("spatial_scale", 1.0), 0.5 if half else 0.0, int(node.get("sampling_ratio", 0)))
    table, corners, owners = x.value, boxes.value, batches.value
    count = boxes.shape[0]
    grid = [_most_points(node, corners, count, bins, axis) for axis in (0, 1)]

    def body() -> Scalar:
        box, channel = build.index(0), build.index(1)
        image = build.element_at(owners, [box]).cast("i64")
        inside, positions, points = Scalar.constant(1, "i1"), [], []
        for axis in (0, 1):
            begin, length = bins.side(corners, box, axis)
            number, here = bins.points(length), build.index(4 + axis)
            step = (here.cast("f32") + 0.5) * length / number.cast("f32")
            positions.append(begin + build.index(2 + axis).cast("f32") * length + step)
            inside = inside & here.lt(number)
            points.append(number)
        read = _reader(table, image, channel)
        if mode == "max":
            return inside.select(_sample(positions, x.shape[2:], read, Scalar.maximum), float("-inf"))
        sample = _sample(positions, x.shape[2:], read, lambda a, b: a + b)
        return inside.select(sample / (points[0] * points[1]).cast("f32"), 0.0)

    shape = build.expressions([count, x.shape[1], *output, *grid])
    pooled = build.reduce(node.map([], body, shape=shape), "max" if mode == "max" else "sum", [4, 5])
    return build.cast(build.remove_dimensions(pooled, [4, 5]), x.dtype)


def _most_points(node: Node, boxes: ir.Value, count: Expression, bins: Bins, axis: int) -> Expression:
    """Sampling points that the largest box needs: the host reads how many where the boxes decide it."""
    if bins.ratio:
        return Expression.constant(bins.ratio)
    needed = node.map([], lambda: bins.points(bins.side(boxes, build.index(0), axis)[1]), shape=[count])
    most = build.reduce(needed, "max", [0])
    return node.found("sizes", [node.tensor(most)], 1, options={"operator": node.operator})[0]


def _reader(table: ir.Value, image: Scalar, channel: Scalar) -> Callable[[Scalar, Scalar], Scalar]:
    return lambda row, column: build.element_at(table, [image, channel, row, column]).cast("f32")


def _sample(
    positions: list[Scalar],
    sizes: tuple[Expression, ...],
    read: Callable[[Scalar, Scalar], Scalar],
    combine: Callable[[Scalar, Scalar], Scalar],
) -> Scalar:
    """The four weighted elements around a position, combined; 0 more than one element outside the image."""
    inside = Scalar.constant(1, "i1")
    corners: list[list[tuple[Scalar, Scalar]]] = []
    for position, size in zip(positions, sizes, strict=True):
        extent = build.dimension(size)
        inside = inside & position.ge(-1.0) & position.le(extent.cast("f32"))
        kept = position.clip(0.0, extent.cast("f32") - 1.0)
        low = kept.cast("i64")
        fraction = kept - low.cast("f32")
        corners.append([(low, 1.0 - fraction), ((low + 1).minimum(extent - 1), fraction)])
    total: Scalar | None = None
    for row, vertical in corners[0]:
        for column, horizontal in corners[1]:
            value = read(row, column) * (vertical * horizontal)
            total = value if total is None else combine(total, value)
    assert total is not None
    return inside.select(total, 0.0)


@onnx_operator("MaxRoiPool")
def max_roi_pool(node: Node) -> ir.Value:
    """The largest element of every bin of every box; boxes [count, 5] name their image first. Empty bins give 0."""
    x, boxes = node.input(0), node.input(1)
    output = [int(size) for size in node.get("pooled_shape")]
    scale: float = node.get("spatial_scale", 1.0)
    table, corners = x.value, boxes.value

    def bounds(axis: int) -> tuple[Scalar, Scalar]:
        """First and end position of the bin along y (0) or x (1)."""
        box = build.index(0)
        begin = (build.element_at(corners, [box, 2 - axis]).cast("f32") * scale + 0.5).floor()
        end = (build.element_at(corners, [box, 4 - axis]).cast("f32") * scale + 0.5).floor()
        length = (end - begin + 1.0).maximum(1.0) / float(output[axis])
        here, extent = build.index(2 + axis).cast("f32"), build.dimension(x.shape[2 + axis]).cast("f32")
        first = ((here * length).floor() + begin).clip(0.0, extent)
        last = (((here + 1.0) * length).ceil() + begin).clip(0.0, extent)
        return first.cast("i64"), last.cast("i64")

    def body() -> Scalar:
        image = build.element_at(corners, [build.index(0), 0]).cast("i64")
        inside = Scalar.constant(1, "i1")
        for axis in (0, 1):
            first, last = bounds(axis)
            inside = inside & build.index(4 + axis).ge(first) & build.index(4 + axis).lt(last)
        value = build.element_at(table, [image, build.index(1), build.index(4), build.index(5)])
        return inside.select(value.cast("f32"), float("-inf"))

    shape = build.expressions([boxes.shape[0], x.shape[1], *output, x.shape[2], x.shape[3]])
    pooled = build.remove_dimensions(build.reduce(node.map([], body, shape=shape), "max", [4, 5]), [4, 5])
    return node.map([pooled], lambda v: v.eq(float("-inf")).select(0.0, v), element=x.dtype)
