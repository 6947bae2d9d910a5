"""GridSample: an image read at positions given by another tensor.

In: an image [N, C, spatial...] and positions [N, output..., dimensions] in [-1, 1], last image dimension
first. Out: one map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.symbolic import Expression
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator

MODES = {"linear": "linear", "bilinear": "linear", "nearest": "nearest", "cubic": "cubic", "bicubic": "cubic"}
Read = Callable[[Sequence[Scalar]], Scalar]
CUBIC = -0.75  # the coefficient of Keys' kernel that the operator fixes


@onnx_operator("GridSample")
def grid_sample(node: Node) -> ir.Value:
    x, grid = node.input(0), node.input(1)
    mode = MODES.get(node.get("mode", "linear"))
    padding, aligned = node.get("padding_mode", "zeros"), bool(node.get("align_corners", 0))
    if mode is None or padding not in ("zeros", "border", "reflection"):
        raise Unsupported(f"GridSample mode '{node.get('mode')}', padding '{padding}'", ", ".join(MODES))
    spatial = x.shape[2:]
    rank = len(spatial)
    table, positions = x.value, grid.value

    def body() -> Scalar:
        batch, channel = build.index(0), build.index(1)
        here = [build.index(2 + axis) for axis in range(rank)]
        taps: list[list[tuple[Scalar, Scalar | None]]] = []
        for axis, size in enumerate(spatial):
            raw = build.element_at(positions, [batch, *here, rank - 1 - axis]).cast("f32")
            taps.append(_taps(_denormalised(raw, size, aligned), size, mode, padding, aligned))

        def read(places: Sequence[Scalar]) -> Scalar:
            return _read(table, batch, channel, places, spatial, padding, aligned)

        return _weighted(read, [], taps).cast(x.dtype)

    return node.map([], body, shape=[x.shape[0], x.shape[1], *grid.shape[1:-1]])


def _denormalised(position: Scalar, size: Expression, aligned: bool) -> Scalar:
    extent = build.dimension(size).cast("f32")
    return (position + 1.0) * 0.5 * (extent - 1.0) if aligned else ((position + 1.0) * extent - 1.0) * 0.5


def _taps(
    position: Scalar, size: Expression, mode: str, padding: str, aligned: bool
) -> list[tuple[Scalar, Scalar | None]]:
    """(i64 position, weight) of the elements an output element needs along one axis."""
    if mode == "nearest":
        return [(position.round().cast("i64"), None)]
    if padding != "zeros" and mode == "linear":
        position = _kept_inside(position, size, padding, aligned)
    first = position.floor()
    fraction = position - first
    start = first.cast("i64")
    if mode == "linear":
        return [(start, 1.0 - fraction), (start + 1, fraction)]
    distances = [fraction + 1.0, fraction, 1.0 - fraction, 2.0 - fraction]
    return [(start + (number - 1), _cubic(distance)) for number, distance in enumerate(distances)]


def _cubic(d: Scalar) -> Scalar:
    near = ((CUBIC + 2.0) * d - (CUBIC + 3.0)) * d * d + 1.0
    far = ((CUBIC * d - 5.0 * CUBIC) * d + 8.0 * CUBIC) * d - 4.0 * CUBIC
    return d.le(1.0).select(near, far)


def _kept_inside(position: Scalar, size: Expression, padding: str, aligned: bool) -> Scalar:
    """The position clamped to the image, or mirrored at its borders (f32)."""
    extent = build.dimension(size).cast("f32")
    if padding == "border":
        return position.clip(0.0, extent - 1.0)
    low = 0.0 if aligned else -0.5
    span = ((extent - 1.0) if aligned else extent).maximum(1.0)  # of one pixel, every place is clipped to it
    phase = (position - low).abs()
    turns = (phase / span).floor()
    rest = phase - turns * span
    odd = (turns - (turns * 0.5).floor() * 2.0).gt(0.5)
    mirrored = odd.select(span - rest, rest) + low
    return mirrored.clip(0.0, extent - 1.0)


def _read(
    table: ir.Value,
    batch: Scalar,
    channel: Scalar,
    places: Sequence[Scalar],
    spatial: Sequence[Expression],
    padding: str,
    aligned: bool,
) -> Scalar:
    """One element of the image as f32; outside it zero, the border's or the mirrored one."""
    valid = Scalar.constant(1, "i1")
    inside = []
    for place, size in zip(places, spatial, strict=True):
        extent = build.dimension(size)
        if padding == "zeros":
            valid = valid & place.ge(0) & place.lt(extent)
        elif padding == "reflection":
            place = _kept_inside(place.cast("f32"), size, padding, aligned).round().cast("i64")
        inside.append(place.clip(0, extent - 1))
    value = build.element_at(table, [batch, channel, *inside]).cast("f32")
    return valid.select(value, 0.0)


def _weighted(read: Read, places: list[Scalar], taps: list[list[tuple[Scalar, Scalar | None]]]) -> Scalar:
    if not taps:
        return read(places)
    total: Scalar | None = None
    for position, weight in taps[0]:
        value = _weighted(read, [*places, position], taps[1:])
        value = value if weight is None else value * weight
        total = value if total is None else total + value
    assert total is not None
    return total
