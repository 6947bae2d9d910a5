"""Binds a call's arrays to the engine's inputs: every mistake of a caller is found here, before the device is
touched.

In: the manifest and the arrays by name. Out: the value of every symbolic dimension, or a ModelError that says
what is wanted. It exists so that kernels can trust sizes, dtypes and ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .dlpack import ForeignMemory
from .dtypes import COMPLEX_OF, DType, dtype, from_numpy
from .errors import ModelError
from .manifest import Manifest, TensorBinding, evaluate


@dataclass(frozen=True)
class HostValue:
    """An input that stays on the host: an array of strings, a sequence (list of arrays) or an optional."""

    kind: str
    value: Any

    @staticmethod
    def of(kind: str, value: Any, what: str) -> HostValue:
        """Checked and with arrays inside. Raises ModelError."""
        if kind == "string":
            array = np.asarray(value)
            if array.dtype.kind not in "OUST":
                raise ModelError(f"{what} is an array of {array.dtype}\n  wanted: strings")
            return HostValue(kind, array.astype(object))
        if kind == "sequence":
            if not isinstance(value, list | tuple):
                raise ModelError(f"{what} is a {type(value).__name__}\n  wanted: a list of arrays")
            return HostValue(kind, [np.asarray(item) for item in value])
        if value is None or isinstance(value, list | tuple):
            return HostValue(kind, value if value is None else [np.asarray(item) for item in value])
        array = np.asarray(value)
        return HostValue(kind, None if array.dtype == object and array.shape == () else array)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an array of strings; () for anything else."""
        return tuple(self.value.shape) if self.kind == "string" else ()


Value = np.ndarray[Any, Any] | ForeignMemory | HostValue


@dataclass(frozen=True)
class TensorSpecification:
    """An input or output as callers see it: dimensions are integers, or text such as `n` or `2*n + 1`."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"


def describe(binding: TensorBinding) -> TensorSpecification:
    """The specification of a binding."""
    shape = tuple(str(extent) if (size := extent.as_constant()) is None else size for extent in binding.shape)
    if binding.complex:
        return TensorSpecification(binding.name, COMPLEX_OF[binding.dtype], shape[:-1])
    return TensorSpecification(binding.name, binding.dtype, shape)


def parts_of(
    binding: TensorBinding, value: np.ndarray[Any, Any] | ForeignMemory
) -> np.ndarray[Any, Any] | ForeignMemory:
    """Complex numbers as their parts, which are a last dimension of 2. Raises ModelError for other numbers."""
    given = element_of(value)
    if given.name != COMPLEX_OF[binding.dtype]:
        raise ModelError(f"input {binding.name!r} is an array of {given.name}\n  wanted: {describe(binding)}")
    part = dtype(binding.dtype)
    if isinstance(value, ForeignMemory):
        shape, strides = (*value.shape, 2), (*value.strides, part.bytes)
        return ForeignMemory(value.address, part, shape, strides, value.owner)
    native = np.ascontiguousarray(value, given.numpy)  # the caller's may have the other byte order
    return native.reshape(-1).view(part.numpy).reshape((*value.shape, 2))


def check_names(manifest: Manifest, names: Mapping[str, Any]) -> None:
    """Raise ModelError unless exactly the engine's inputs are given."""
    wanted = [binding.name for binding in manifest.inputs]
    signature = "\n  inputs: " + ("; ".join(str(describe(binding)) for binding in manifest.inputs) or "none")
    if not isinstance(names, Mapping):
        raise ModelError(f"inputs are given as a {type(names).__name__}, not as arrays by name{signature}")
    missing = [name for name in wanted if name not in names]
    unknown = [str(name) for name in names if name not in wanted]
    if unknown:
        raise ModelError(f"the model has no input {', '.join(map(repr, unknown))}{signature}")
    if missing:
        raise ModelError(f"input {', '.join(map(repr, missing))} is missing{signature}")


def element_of(value: np.ndarray[Any, Any] | ForeignMemory) -> DType:
    """The element type of a given array."""
    return value.dtype if isinstance(value, ForeignMemory) else from_numpy(value.dtype)


def bind(manifest: Manifest, values: Mapping[str, Value]) -> dict[str, int]:
    """The value of every symbol, after checking dtype, rank and dimensions. Raises ModelError."""
    symbols: dict[str, int] = {}
    for binding in manifest.inputs:
        _check_type(binding, values[binding.name])
    for symbol, source in manifest.symbols.items():
        symbols[symbol] = values[source.input].shape[source.axis]
    for binding in manifest.inputs:
        _check_shape(binding, values[binding.name].shape, symbols, manifest)
    check_equalities(manifest, symbols)
    return symbols


def check_equalities(manifest: Manifest, symbols: Mapping[str, int], since: Sequence[str] = ()) -> None:
    """Raise ModelError unless sizes that the model needs to be equal are, where all their symbols are known.

    With `since`, only those that mention one of these symbols.
    """
    for equality in manifest.equalities:
        mentioned = equality.left.symbols | equality.right.symbols
        if mentioned - symbols.keys() or (since and not mentioned & set(since)):
            continue
        left, right = (evaluate(side, symbols, "the model") for side in (equality.left, equality.right))
        if left != right:
            sizes = ", ".join(f"{name} = {value}" for name, value in symbols.items())
            raise ModelError(
                f"these input shapes do not fit together: the model needs {equality.left} == {equality.right}, "
                f"which are {left} and {right}\n  sizes: {sizes}"
            )


def _check_type(binding: TensorBinding, value: Value) -> None:
    wanted = describe(binding)
    if isinstance(value, HostValue):
        if value.kind == "string" and len(value.shape) != len(binding.shape):
            raise ModelError(f"input {binding.name!r} has the shape {list(value.shape)}\n  wanted: {wanted}")
        return
    given = element_of(value)
    if given.name != binding.dtype:
        raise ModelError(f"input {binding.name!r} is an array of {given.name}\n  wanted: {wanted}")
    if len(value.shape) != len(binding.shape):
        raise ModelError(f"input {binding.name!r} has the shape {_as_given(binding, value.shape)}\n  wanted: {wanted}")


def _check_shape(
    binding: TensorBinding, shape: tuple[int, ...], symbols: Mapping[str, int], manifest: Manifest
) -> None:
    for axis, (extent, given) in enumerate(zip(binding.shape, shape, strict=True)):
        wanted = evaluate(extent, symbols, f"input {binding.name!r}")
        if wanted != given:
            reason = _origin(extent, symbols, manifest)
            raise ModelError(
                f"input {binding.name!r} has the shape {_as_given(binding, shape)}: "
                f"dimension {axis} should be {wanted}{reason}\n  wanted: {describe(binding)}"
            )


def _as_given(binding: TensorBinding, shape: tuple[int, ...]) -> list[int]:
    """The shape of the caller's array."""
    return list(shape[:-1] if binding.complex else shape)


def _origin(extent: Any, symbols: Mapping[str, int], manifest: Manifest) -> str:
    names = sorted(extent.symbols)
    if not names:
        return ""
    parts = (f"{n} = {symbols[n]} from input {manifest.symbols[n].input!r}" for n in names)
    return f" ({extent}, {', '.join(parts)})"
