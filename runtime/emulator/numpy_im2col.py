"""The im2col mode of tensor copies: which runs of pixels a copy takes.

In: a tensor map in im2col mode, start coordinates, filter offsets. Out: strided runs of global memory with their rows
in the copied matrix. Why: pixels of one image row follow each other at one stride, so a copy is a few runs.
"""

from __future__ import annotations

from typing import Any

from ..tensor_map import TensorMap

Run = tuple[int, tuple[int, ...], tuple[int, ...], tuple[Any, ...]]


def pixel_runs(tensor_map: TensorMap, coordinates: tuple[int, ...], offsets: tuple[int, ...]) -> list[Run]:
    """Runs (address, shape, strides, slices of [pixels, channels]) of the part that lies inside the tensor.

    Base pixels start at `coordinates` and walk through the bounding box, width first, by the map's element strides;
    each is read at its place plus `offsets`. A tensor without `offsets` (a store) has none.
    """
    im2col = tensor_map.im2col
    assert im2col is not None
    spatial = len(tensor_map.shape) - 2
    moved = (*offsets, *(0,) * (spatial - len(offsets)))
    channels, images = tensor_map.shape[0], tensor_map.shape[-1]
    first = max(0, -coordinates[0])
    last = min(im2col.channels_per_pixel, channels - coordinates[0])
    pixel, image = list(coordinates[1:-1]), coordinates[-1]
    runs: list[Run] = []
    for row in range(im2col.pixels_per_column):
        read = [place + shift for place, shift in zip(pixel, moved, strict=True)]
        inside = all(0 <= place < extent for place, extent in zip(read, tensor_map.shape[1:-1], strict=True))
        if inside and 0 <= image < images and first < last:
            address = tensor_map.address + (coordinates[0] + first) * tensor_map.element_bytes
            for place, stride in zip((*read, image), tensor_map.strides, strict=True):
                address += place * stride
            shape, strides = (1, last - first), (tensor_map.strides[0], tensor_map.element_bytes)
            runs.append((address, shape, strides, (slice(row, row + 1), slice(first, last))))
        image += _advance(tensor_map, pixel)
    return runs


def _advance(tensor_map: TensorMap, pixel: list[int]) -> int:
    """Move `pixel` to the next base pixel of the bounding box; 1 when that is in the next image."""
    im2col = tensor_map.im2col
    assert im2col is not None
    for axis, (low, high) in enumerate(zip(im2col.lower_corner, im2col.upper_corner, strict=True)):
        pixel[axis] += tensor_map.element_strides[axis + 1]
        if pixel[axis] < tensor_map.shape[axis + 1] + high:
            return 0
        pixel[axis] = low
    return 1
