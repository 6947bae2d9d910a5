"""DLPack, the protocol by which array libraries lend each other memory, over ctypes.

In: a `dltensor` capsule of another library, or a piece of memory of ours. Out: a description of what it
holds, or a capsule. It exists because numpy's own reader knows neither CUDA memory nor bfloat16, and the
runtime depends on no other array library.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from .dtypes import COMPLEX, DTYPES, DType
from .errors import ModelError

CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13  # DLDeviceType
_NAME = b"dltensor"

# (DLDataTypeCode, bits) of each element type.
_CODES = {
    "i8": (0, 8),
    "i16": (0, 16),
    "i32": (0, 32),
    "i64": (0, 64),
    "ui8": (1, 8),
    "ui16": (1, 16),
    "ui32": (1, 32),
    "ui64": (1, 64),
    "f16": (2, 16),
    "f32": (2, 32),
    "f64": (2, 64),
    "bf16": (4, 16),
    "complex64": (5, 64),
    "complex128": (5, 128),
    "i1": (6, 8),
}
_BY_CODE = {code: (DTYPES | COMPLEX)[name] for name, code in _CODES.items()}


class _Device(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int32), ("id", ctypes.c_int32))


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _ManagedTensor(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("manager_context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


@dataclass(frozen=True)
class ForeignMemory:
    """Memory that another library owns: `strides` are in bytes, `owner` keeps it alive."""

    address: int
    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    owner: object


def _capsule_function(name: str, result: Any, *arguments: Any) -> Any:
    return ctypes.PYFUNCTYPE(result, *arguments)((name, ctypes.pythonapi))


_is_valid = _capsule_function("PyCapsule_IsValid", ctypes.c_int, ctypes.py_object, ctypes.c_char_p)
_pointer = _capsule_function("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
# The same two for a capsule that is being destroyed: it must not be given a reference again.
_is_valid_raw = _capsule_function("PyCapsule_IsValid", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)
_pointer_raw = _capsule_function("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
_new = _capsule_function("PyCapsule_New", ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)


def read(capsule: Any) -> ForeignMemory:
    """What a `dltensor` capsule holds; the capsule stays its owner. Raises ModelError for what cannot be
    used.
    """
    if not _is_valid(capsule, _NAME):
        raise ModelError("the array gave no valid DLPack capsule (it may have been used already)")
    managed = _ManagedTensor.from_address(_pointer(capsule, _NAME))
    tensor = managed.tensor
    kind = tensor.dtype
    element = _BY_CODE.get((kind.code, kind.bits)) if kind.lanes == 1 else None
    if element is None:
        raise ModelError(
            f"DLPack element type (code {kind.code}, {kind.bits} bits, {kind.lanes} lanes) is not supported"
        )
    shape = tuple(tensor.shape[axis] for axis in range(tensor.ndim))
    if tensor.strides:
        strides = tuple(tensor.strides[axis] * element.bytes for axis in range(tensor.ndim))
    else:
        strides = contiguous_strides(shape, element.bytes)
    return ForeignMemory((tensor.data or 0) + tensor.byte_offset, element, shape, strides, capsule)


def contiguous_strides(shape: tuple[int, ...], item: int) -> tuple[int, ...]:
    """Byte strides of a C-contiguous array with elements of `item` bytes."""
    strides, step = [], item
    for extent in reversed(shape):
        strides.append(step)
        step *= max(extent, 1)
    return tuple(reversed(strides))


@dataclass(frozen=True)
class _Lent:
    """Everything a lent tensor points to; kept until its deleter runs."""

    managed: _ManagedTensor
    shape: Any
    owner: object


_lent: dict[int, _Lent] = {}


def _delete(address: int) -> None:
    _lent.pop(address, None)


def _destroy_capsule(capsule: int) -> None:
    # A consumer renames the capsule and calls the deleter itself; otherwise nobody used it.
    if _is_valid_raw(capsule, _NAME):
        _delete(_pointer_raw(capsule, _NAME))


_DELETER = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(_delete)
_DESTRUCTOR = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(_destroy_capsule)
# Other libraries may call these after this module is gone at interpreter exit.
ctypes.pythonapi.Py_IncRef(ctypes.py_object(_DELETER))
ctypes.pythonapi.Py_IncRef(ctypes.py_object(_DESTRUCTOR))


def lend(address: int, dtype: DType, shape: tuple[int, ...], place: tuple[int, int], owner: object) -> Any:
    """A `dltensor` capsule for C-contiguous memory at `address`; `owner` is kept until its user is done."""
    rank = len(shape)
    strides = (step // dtype.bytes for step in contiguous_strides(shape, dtype.bytes))
    extents = (ctypes.c_int64 * (2 * rank + 1))(*shape, *strides)  # one array for both; never empty
    managed = _ManagedTensor()
    code, bits = _CODES[dtype.name]
    managed.tensor.data = address
    managed.tensor.device = _Device(*place)
    managed.tensor.ndim = rank
    managed.tensor.dtype = _DataType(code, bits, 1)
    managed.tensor.shape = ctypes.cast(extents, ctypes.POINTER(ctypes.c_int64))
    past_shape = ctypes.byref(extents, rank * ctypes.sizeof(ctypes.c_int64))
    managed.tensor.strides = ctypes.cast(past_shape, ctypes.POINTER(ctypes.c_int64))
    managed.deleter = ctypes.cast(_DELETER, ctypes.c_void_p).value
    own = ctypes.addressof(managed)
    _lent[own] = _Lent(managed, extents, owner)
    return _new(own, _NAME, ctypes.cast(_DESTRUCTOR, ctypes.c_void_p))
