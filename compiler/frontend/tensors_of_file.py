"""Constant tensors of a model file, read when they are needed.

In: a `TensorProto`, with its data inside or in an external file. Out: a function that gives the array.
External files are memory-mapped and must lie in the model's folder, wherever links lead.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import onnx.external_data_helper
import onnx.numpy_helper

from ...dialects.narrow import PACKED
from ...runtime.dtypes import COMPLEX, DTYPES, DType
from ...runtime.errors import ModelError
from .errors import Unsupported
from .tensor import Array, Loader

ELEMENT_TYPES: dict[int, str] = {
    onnx.TensorProto.FLOAT: "f32",
    onnx.TensorProto.FLOAT16: "f16",
    onnx.TensorProto.BFLOAT16: "bf16",
    onnx.TensorProto.DOUBLE: "f64",
    onnx.TensorProto.INT8: "i8",
    onnx.TensorProto.INT16: "i16",
    onnx.TensorProto.INT32: "i32",
    onnx.TensorProto.INT64: "i64",
    onnx.TensorProto.UINT8: "ui8",
    onnx.TensorProto.UINT16: "ui16",
    onnx.TensorProto.UINT32: "ui32",
    onnx.TensorProto.UINT64: "ui64",
    onnx.TensorProto.BOOL: "i1",
    onnx.TensorProto.FLOAT8E4M3FN: "f8E4M3FN",
    onnx.TensorProto.FLOAT8E4M3FNUZ: "f8E4M3FNUZ",
    onnx.TensorProto.FLOAT8E5M2: "f8E5M2",
    onnx.TensorProto.FLOAT8E5M2FNUZ: "f8E5M2FNUZ",
    onnx.TensorProto.FLOAT8E8M0: "f8E8M0FNU",
    onnx.TensorProto.FLOAT4E2M1: "f4E2M1FN",
    onnx.TensorProto.INT4: "i4",
    onnx.TensorProto.UINT4: "ui4",
    onnx.TensorProto.INT2: "i2",
    onnx.TensorProto.UINT2: "ui2",
}
COMPLEX_TYPES: dict[int, str] = {onnx.TensorProto.COMPLEX64: "complex64", onnx.TensorProto.COMPLEX128: "complex128"}
NUMBERS = ("float_data", "double_data", "int32_data", "int64_data", "uint64_data")  # fields of a tensor


def stored_bytes(dtype: DType, shape: tuple[int, ...]) -> int:
    """What a tensor takes in a file."""
    return -(-math.prod(shape) // PACKED[dtype.name]) if dtype.name in PACKED else math.prod(shape) * dtype.bytes


def _unpacked(raw: Array, dtype: DType, shape: tuple[int, ...]) -> Array:
    """One element a byte, as kernels and numpy have them."""
    count = PACKED[dtype.name]
    bits = 8 // count
    parts = raw.view(np.uint8)[:, None] >> np.arange(0, 8, bits, dtype=np.uint8) & np.uint8((1 << bits) - 1)
    array: Array = parts.reshape(-1)[: math.prod(shape)].view(dtype.numpy)
    return array.reshape(shape)


def element_name(kind: int) -> str:
    """The dtype name of an ONNX element type. Raises Unsupported."""
    found = ELEMENT_TYPES.get(kind)
    if found is None:
        try:
            label: str = onnx.TensorProto.DataType.Name(kind).lower()
        except ValueError:
            raise ModelError(f"unknown ONNX element type {kind}") from None
        raise Unsupported(f"element type {label}", ", ".join(DTYPES))
    return found


def loader_of(
    tensor: onnx.TensorProto, folder: Path | None, raw: Array | None = None
) -> tuple[Loader, str, tuple[int, ...]]:
    """(function that reads the array, dtype name, shape). Raises ModelError at once for what is wrong with
    the layout.
    """
    dtype = COMPLEX.get(COMPLEX_TYPES.get(tensor.data_type, "")) or DTYPES[element_name(tensor.data_type)]
    shape = tuple(tensor.dims)
    if any(size < 0 for size in shape):
        raise ModelError(f"tensor '{tensor.name}' has a negative dimension: {list(shape)}")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        mapped = _map_external(tensor, dtype, shape, folder)
        return (lambda: mapped), dtype.name, shape
    expected = stored_bytes(dtype, shape)
    if raw is not None:
        if dtype.name in PACKED:
            return (lambda: _unpacked(raw, dtype, shape)), dtype.name, shape
        if raw.nbytes != expected:
            raise _wrong_size(tensor, raw.nbytes, expected)
        return (lambda: np.require(raw.view(dtype.numpy), requirements="A").reshape(shape)), dtype.name, shape
    if tensor.HasField("raw_data") and len(tensor.raw_data) != expected:
        raise _wrong_size(tensor, len(tensor.raw_data), expected)
    _check_numbers(tensor, dtype, shape)
    return (lambda: _read(tensor, dtype)), dtype.name, shape


def _check_numbers(tensor: onnx.TensorProto, dtype: DType, shape: tuple[int, ...]) -> None:
    """Raises ModelError where the data are written as numbers and are not as many as the shape has."""
    if tensor.HasField("raw_data"):
        return
    given = sum(len(getattr(tensor, field)) for field in NUMBERS)
    parts = 2 if dtype.name in COMPLEX else 1
    wanted = stored_bytes(dtype, shape) if dtype.name in PACKED else parts * math.prod(shape)
    if given != wanted:
        raise ModelError(f"tensor '{tensor.name}' has {given} numbers; its shape {list(shape)} needs {wanted}")


def _wrong_size(tensor: onnx.TensorProto, actual: int, expected: int) -> ModelError:
    return ModelError(
        f"tensor '{tensor.name}' has {actual} bytes of data; its shape {list(tensor.dims)} needs {expected}"
    )


def _read(tensor: onnx.TensorProto, dtype: DType) -> Array:
    if tensor.raw_data and dtype.name not in PACKED:
        data = np.frombuffer(tensor.raw_data, dtype=dtype.numpy.newbyteorder("<") if dtype.bytes > 1 else dtype.numpy)
        return data.reshape(tuple(tensor.dims))
    try:
        array = onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError) as error:
        raise ModelError(f"tensor '{tensor.name}' is damaged: {error}") from None
    return array if array.dtype == dtype.numpy else array.astype(dtype.numpy)


def _map_external(tensor: onnx.TensorProto, dtype: DType, shape: tuple[int, ...], folder: Path | None) -> Array:
    if folder is None:
        raise ModelError(f"tensor '{tensor.name}' has external data, but the model did not come from a file")
    try:
        information = onnx.external_data_helper.ExternalDataInfo(tensor)
        offset = int(information.offset or 0)
        length = int(information.length) if information.length is not None else None
    except (ValueError, TypeError) as error:
        raise ModelError(f"tensor '{tensor.name}' describes its external data wrongly: {error}") from None
    if "\0" in information.location:
        raise ModelError(f"tensor '{tensor.name}': no file has the name {information.location!r}")
    path = (folder / information.location).resolve()
    if not information.location or not path.is_relative_to(folder.resolve()):
        raise ModelError(f"tensor '{tensor.name}': external data outside the model's folder: {information.location!r}")
    expected = stored_bytes(dtype, shape)
    if length is not None and length != expected:
        raise _wrong_size(tensor, length, expected)
    try:
        available = path.stat().st_size if path.is_file() else None
    except OSError:
        available = None
    if available is None:
        raise ModelError(f"tensor '{tensor.name}': there is no external data file {information.location!r} in {folder}")
    if offset < 0 or offset + expected > available:
        raise ModelError(
            f"tensor '{tensor.name}' needs bytes {offset} to {offset + expected} of "
            f"{information.location!r}, which has {available}"
        )
    if expected == 0:
        return np.zeros(shape, dtype.numpy)
    if dtype.name in PACKED:
        return _unpacked(np.memmap(path, dtype=np.uint8, mode="r", offset=offset, shape=(expected,)), dtype, shape)
    return np.memmap(path, dtype=dtype.numpy, mode="r", offset=offset, shape=shape)
