"""The emulator's encoding of a tensor map: 128 bytes that only it reads, as the driver's are opaque to everybody.

In: a `TensorMap`, or the bytes that a kernel points to. Out: the other. Why: kernels take tensor maps as 128-byte
parameters or by pointer, and what they point to must be found out to be none.
"""

from __future__ import annotations

import functools
import struct

from ..tensor_map import ELEMENT_BYTES, FILLS, L2_PROMOTIONS, SWIZZLE_BYTES, Im2col, TensorMap, check

TENSOR_MAP_BYTES = 128
TENSOR_MAP_ALIGNMENT = 64
MAGIC = b"twTM"
_HEAD = struct.Struct("<4s6BH")  # magic; rank, data type, swizzle, promotion, fill, im2col; room
_BODY = struct.Struct("<Q5I4Q5H5B6hHHx")  # address, extents - 1, strides, box, element strides, corners, two counts
BODY_START = _HEAD.size
FIELDS: dict[str, tuple[int, int]] = {
    "rank": (4, 1), "elemtype": (5, 1), "swizzle_mode": (6, 1), "fill_mode": (8, 1),
    **{name: (BODY_START + start, nbytes) for name, start, nbytes in (
        ("global_address", 0, 8), ("global_dim", 8, 4), ("global_stride", 28, 8), ("box_dim", 60, 2),
        ("element_stride", 70, 1),
    )},
}  # fmt: skip
"""What tensormap.replace may change, by its names: the first byte, and the bytes of each number."""
_TYPES, _SWIZZLES = tuple(ELEMENT_BYTES), tuple(SWIZZLE_BYTES)


def _padded(values: tuple[int, ...], count: int) -> tuple[int, ...]:
    return values + (0,) * (count - len(values))


def encode(tensor_map: TensorMap) -> bytes:
    """The 128 bytes. Raises DeviceError for parameters that the driver would refuse."""
    check(tensor_map)
    im2col = tensor_map.im2col or Im2col((), (), 0, 0)
    head = _HEAD.pack(
        MAGIC, len(tensor_map.shape), _TYPES.index(tensor_map.data_type), _SWIZZLES.index(tensor_map.swizzle),
        L2_PROMOTIONS.index(tensor_map.l2_promotion), FILLS.index(tensor_map.fill), tensor_map.im2col is not None, 0,
    )  # fmt: skip
    body = _BODY.pack(
        tensor_map.address, *_padded(tuple(extent - 1 for extent in tensor_map.shape), 5),
        *_padded(tensor_map.strides, 4), *_padded(tensor_map.box, 5), *_padded(tensor_map.element_strides, 5),
        *_padded(im2col.lower_corner, 3), *_padded(im2col.upper_corner, 3), im2col.channels_per_pixel,
        im2col.pixels_per_column,
    )  # fmt: skip
    return (head + body).ljust(TENSOR_MAP_BYTES, b"\0")


@functools.lru_cache(maxsize=256)
def decode(data: bytes) -> TensorMap | None:
    """The map that `data` (128 bytes) is; None when it is none."""
    if data[:4] != MAGIC:
        return None
    _, rank, data_type, swizzle, promotion, fill, im2col, _ = _HEAD.unpack_from(data)
    address, *numbers = _BODY.unpack_from(data, _HEAD.size)
    parts = []
    for count in (5, 4, 5, 5, 3, 3, 2):
        parts.append(tuple(numbers[:count]))
        del numbers[:count]
    extents, strides, box, steps, lower, upper, (channels, pixels) = parts
    spatial = rank - 2
    mode = Im2col(lower[:spatial], upper[:spatial], channels, pixels) if im2col else None
    return TensorMap(
        _TYPES[data_type], address, tuple(extent + 1 for extent in extents[:rank]), strides[: rank - 1],
        () if im2col else box[:rank], steps[:rank], _SWIZZLES[swizzle], L2_PROMOTIONS[promotion], FILLS[fill], mode,
    )  # fmt: skip
