"""Tensor maps, encoded by the driver in memory that is aligned as it asks.

In: what a tensor map says, and the driver. Out: its 128 bytes. Why not by the functions of cuda-bindings: their
CUtensorMap lies at any multiple of 16 bytes, and the driver documents 64, its header since CUDA 13 even 128.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

from .cuda_errors import describe
from .errors import DeviceError
from .tensor_map import TensorMap, check

_BYTES = 128
_ALIGNMENT = 128
_VERSION = 12000  # of CUDA, the first with these functions
_PREFIX = "CU_TENSOR_MAP"

# The map, type, rank, address, extents, strides; box or corners; element strides; interleave, swizzle, promotion, fill.
_HEAD = (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, *[ctypes.c_void_p] * 3)
_CORNERS = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32)
_TAIL = (ctypes.c_void_p, *[ctypes.c_int] * 4)
_TILED = ctypes.CFUNCTYPE(ctypes.c_int, *_HEAD, ctypes.c_void_p, *_TAIL)
_IM2COL = ctypes.CFUNCTYPE(ctypes.c_int, *_HEAD, *_CORNERS, *_TAIL)


def encode(call: Callable[..., Any], driver: Any, description: TensorMap) -> bytes:
    """A CUtensorMap. `call(name, *arguments)` calls the driver, in the context. Raises DeviceError."""
    check(description)
    im2col = description.im2col
    name, prototype = ("cuTensorMapEncodeTiled", _TILED) if im2col is None else ("cuTensorMapEncodeIm2col", _IM2COL)
    pointer, _ = call("cuGetProcAddress", name.encode(), _VERSION, 0)
    if not pointer:
        raise DeviceError(f"CUDA: the driver has no {name}: it is older than CUDA 12")
    if im2col is None:
        middle: tuple[Any, ...] = (_array(ctypes.c_uint32, description.box),)
    else:
        corners = (_array(ctypes.c_int, corner) for corner in (im2col.lower_corner, im2col.upper_corner))
        middle = (*corners, im2col.channels_per_pixel, im2col.pixels_per_column)
    memory = (ctypes.c_ubyte * (_BYTES + _ALIGNMENT))()
    start = -ctypes.addressof(memory) % _ALIGNMENT
    status = prototype(int(pointer))(
        ctypes.addressof(memory) + start,
        int(getattr(driver.CUtensorMapDataType, f"{_PREFIX}_DATA_TYPE_{description.data_type.upper()}")),
        len(description.shape),
        description.address,
        _array(ctypes.c_uint64, description.shape),
        _array(ctypes.c_uint64, description.strides),
        *middle,
        _array(ctypes.c_uint32, description.element_strides),
        *_modes(driver, description),
    )
    if status != 0:
        raise DeviceError(f"CUDA: {name} failed: {describe(driver, driver.CUresult(status))}\n  {description}")
    return bytes(memory[start : start + _BYTES])


def _modes(driver: Any, description: TensorMap) -> tuple[int, ...]:
    """Interleave, swizzle, promotion, fill."""
    fill = "NONE" if description.fill == "zeros" else "NAN_REQUEST_ZERO_FMA"
    promotion = "NONE" if description.l2_promotion == "none" else f"L2_{description.l2_promotion.upper()}"
    return (
        int(driver.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE),
        int(getattr(driver.CUtensorMapSwizzle, f"{_PREFIX}_SWIZZLE_{description.swizzle.upper()}")),
        int(getattr(driver.CUtensorMapL2promotion, f"{_PREFIX}_L2_PROMOTION_{promotion}")),
        int(getattr(driver.CUtensorMapFloatOOBfill, f"{_PREFIX}_FLOAT_OOB_FILL_{fill}")),
    )


def _array(element: Any, values: Sequence[int]) -> Any:
    return (element * len(values))(*values)
