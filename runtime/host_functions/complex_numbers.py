"""Sequences and optionals of complex numbers: the program has the real and the imaginary parts of each apart.

In: what a caller gave, or two lists of floats. Out: the two lists, or complex numbers again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ModelError
from . import HostCall, host_function


@host_function("complex_parts")
def complex_parts(call: HostCall) -> Sequence[Any]:
    """The real and the imaginary parts of an array, of all arrays of a list, or of nothing."""
    value = call.inputs[0]
    if value is None:
        return [None, None]
    if isinstance(value, list):
        return [[_part(item, name) for item in value] for name in ("real", "imag")]
    return [_part(value, name) for name in ("real", "imag")]


def _part(value: Any, name: str) -> Any:
    if value.dtype.kind != "c":
        raise ModelError(f"an array of {value.dtype} among complex numbers")
    return np.ascontiguousarray(getattr(value, name)).reshape(value.shape)


@host_function("complex_joined")
def complex_joined(call: HostCall) -> Sequence[Any]:
    """Of the real parts in the first input and the imaginary ones in the second."""
    real, imaginary = call.inputs
    if isinstance(real, list):
        return [[_joined(one, two) for one, two in zip(real, imaginary, strict=True)]]
    return [None if real is None else _joined(real, imaginary)]


def _joined(real: Any, imaginary: Any) -> Any:
    result = np.empty(real.shape, np.result_type(real, np.complex64))
    result.real, result.imag = real, imaginary
    return result
