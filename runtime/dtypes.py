"""The element types of tensors: one table that says how each is named, stored and seen by numpy.

In: a name as the graph level spells it (`f32`, `bf16`, `i1`) or a numpy dtype. Out: a `DType` with its numpy
dtype and size. It exists so that compiler, engine file and runtime agree on storage in one place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from .errors import ModelError


@dataclass(frozen=True)
class DType:
    """One element type: `name` as in the IR, its little-endian `numpy` dtype, and the `bytes` one element
    takes.
    """

    name: str
    numpy: np.dtype[Any]
    bytes: int

    def __str__(self) -> str:
        return self.name


def _row(name: str, scalar: Any) -> DType:
    numpy_dtype = np.dtype(scalar)
    return DType(name, numpy_dtype, numpy_dtype.itemsize)


# `i1` is one byte, 0 or 1. bfloat16 and what is narrower are numpy extension types of ml_dtypes.
DTYPES: dict[str, DType] = {
    row.name: row
    for row in (
        _row("f32", np.float32),
        _row("f16", np.float16),
        _row("bf16", ml_dtypes.bfloat16),
        _row("f64", np.float64),
        _row("i8", np.int8),
        _row("i16", np.int16),
        _row("i32", np.int32),
        _row("i64", np.int64),
        _row("ui8", np.uint8),
        _row("ui16", np.uint16),
        _row("ui32", np.uint32),
        _row("ui64", np.uint64),
        _row("i1", np.bool_),
        _row("f8E4M3FN", ml_dtypes.float8_e4m3fn),
        _row("f8E4M3FNUZ", ml_dtypes.float8_e4m3fnuz),
        _row("f8E5M2", ml_dtypes.float8_e5m2),
        _row("f8E5M2FNUZ", ml_dtypes.float8_e5m2fnuz),
        _row("f8E8M0FNU", ml_dtypes.float8_e8m0fnu),
        _row("f4E2M1FN", ml_dtypes.float4_e2m1fn),
        _row("i4", ml_dtypes.int4),
        _row("ui4", ml_dtypes.uint4),
        _row("i2", ml_dtypes.int2),
        _row("ui2", ml_dtypes.uint2),
    )
}

# Elements that callers have and no kernel knows: a device has their real and imaginary parts as a last dimension of 2.
COMPLEX: dict[str, DType] = {
    row.name: row for row in (_row("complex64", np.complex64), _row("complex128", np.complex128))
}
COMPLEX_PARTS = {"complex64": "f32", "complex128": "f64"}
COMPLEX_OF = {part: name for name, part in COMPLEX_PARTS.items()}

# What has no elements in device memory: values of the host program (docs/host-operations.md).
HOST_TYPES = ("string", "sequence", "optional", "object")

# Types that no kernel computes with: a byte an element, the pattern in its low bits.
NARROW = frozenset(name for name in DTYPES if name.startswith(("f8", "f4")) or name in ("i4", "ui4", "i2", "ui2"))

_BY_NUMPY: dict[np.dtype[Any], DType] = {row.numpy: row for row in (*DTYPES.values(), *COMPLEX.values())}


def dtype(name: str) -> DType:
    """The element type called `name`. Raises ModelError for any other name."""
    found = DTYPES.get(name)
    if found is None:
        raise ModelError(f"unknown element type {name!r}\n  supported: {', '.join(DTYPES)}")
    return found


def from_numpy(numpy_dtype: np.dtype[Any]) -> DType:
    """The element type stored as `numpy_dtype`, of either byte order. Raises ModelError if there is none."""
    found = _BY_NUMPY.get(np.dtype(numpy_dtype).newbyteorder("="))
    if found is None:
        raise ModelError(
            f"arrays of numpy dtype {numpy_dtype} are not supported\n  supported: {', '.join(DTYPES)}"
        )
    return found


def least_finite(numpy_dtype: np.dtype[Any]) -> float:
    """The least finite number of a float type, ml_dtypes' own too."""
    return float(ml_dtypes.finfo(numpy_dtype).min)  # type: ignore[no-untyped-call]


def raw_bytes(array: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The elements, C order and little-endian, as a flat array of bytes; a view where `array` is so."""
    little = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    flat = np.ascontiguousarray(little).reshape(-1)
    return flat.view(np.uint8)
