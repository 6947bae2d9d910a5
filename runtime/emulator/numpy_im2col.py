"""The im2col mode of tensor copies: which runs of pixels a copy takes.

In: a tensor map in im2col mode, start coordinates, filter offsets. Out: strided runs of global memory with their rows
in the copied matrix. Why: pixels of one image row follow each other at one stride, so a copy is a few runs.
"""

from __future__ import annotations

from typing import Any

from ..tensor_map import Im2col, TensorMap

Run = tuple[int, tuple[int, ...], tuple[int, ...], tuple[Any, ...]]


def pixel_runs(tensor_map: TensorMap, coordinates: tuple[int, ...], offsets: tuple[int, ...]) -> list[Run]:
    """Runs (address, shape, strides, slices of [pixels, channels]) of the part that lies inside the tensor.

    Base pixels start at `coordinates` and walk through the bounding box, width first, by the map's element strides;
    each is read at its place plus `offsets`. A store has no `offsets`.
    """
    im2col = tensor_map.im2col
    assert im2col is not None
    moved = (*offsets, *(0,) * (len(tensor_map.shape) - 2 - len(offsets)))
    pixel, image = list(coordinates[1:-1]), coordinates[-1]
    step, end = tensor_map.element_strides[1], tensor_map.shape[1] + im2col.upper_corner[0]
    runs: list[Run] = []
    row = 0
    while row < im2col.pixels_per_column:
        count = min(im2col.pixels_per_column - row, max(1, -((pixel[0] - end) // step)))
        read = [place + shift for place, shift in zip(pixel, moved, strict=True)]
        run = _run(tensor_map, coordinates[0], (*read, image), row, count)
        if run is not None:
            runs.append(run)
        row += count
        image += _next_line(tensor_map, im2col, pixel)
    return runs


def _run(tensor_map: TensorMap, channel: int, place: tuple[int, ...], row: int, count: int) -> Run | None:
    """`count` pixels of one image line from `place` (width first, image last), as rows from `row` on."""
    im2col, step = tensor_map.im2col, tensor_map.element_strides[1]
    assert im2col is not None
    first, last = max(0, -channel), min(im2col.channels_per_pixel, tensor_map.shape[0] - channel)
    begin, end = max(0, -(place[0] // step)), min(count, -((place[0] - tensor_map.shape[1]) // step))
    inside = all(0 <= at < extent for at, extent in zip(place[1:], tensor_map.shape[2:], strict=True))
    if not inside or first >= last or begin >= end:
        return None
    address = tensor_map.address + (channel + first) * tensor_map.element_bytes
    for at, stride in zip((place[0] + begin * step, *place[1:]), tensor_map.strides, strict=True):
        address += at * stride
    strides = (step * tensor_map.strides[0], tensor_map.element_bytes)
    return address, (end - begin, last - first), strides, (slice(row + begin, row + end), slice(first, last))


def _next_line(tensor_map: TensorMap, im2col: Im2col, pixel: list[int]) -> int:
    """Move `pixel` to the start of the bounding box's next line; 1 when that is in the next image."""
    pixel[0] = im2col.lower_corner[0]
    for axis in range(1, len(pixel)):
        pixel[axis] += tensor_map.element_strides[axis + 1]
        if pixel[axis] < tensor_map.shape[axis + 1] + im2col.upper_corner[axis]:
            return 0
        pixel[axis] = im2col.lower_corner[axis]
    return 1
