"""Elements as unsigned integers that are ordered as they are: what sorting and atomic maxima compare.

In: a scalar of any dtype. Out: a ui32 or ui64, and back. Of floats, both zeros are one, and every NaN is the largest.
"""

from __future__ import annotations

from ....dialects.scalar import Scalar, is_float, is_unsigned
from ....runtime.dtypes import dtype as dtype_of

WIDE = {"f16": "f32", "bf16": "f32", "i8": "i32", "i16": "i32", "i1": "ui32", "ui8": "ui32", "ui16": "ui32"}


def widened(dtype: str) -> str:
    """The dtype of 32 or 64 bits that holds every value of `dtype`."""
    return WIDE.get(dtype, dtype)


def key_dtype(dtype: str) -> str:
    """The dtype of keys of elements of `dtype`."""
    return "ui64" if dtype_of(widened(dtype)).bytes == 8 else "ui32"


def key_of(value: Scalar) -> Scalar:
    """The key of a value: a smaller one for what is smaller."""
    wide, key = widened(value.dtype), key_dtype(value.dtype)
    value = value.cast(wide)
    if is_unsigned(wide):
        return value
    sign = 1 << (8 * dtype_of(wide).bytes - 1)
    if not is_float(wide):
        return value.retyped(key) ^ sign
    bits = (value + 0.0).bitcast(key)  # -0 becomes 0
    ordered = bits.ge(sign).select(~bits, bits ^ sign)
    return value.is_nan().select(2 * sign - 1, ordered)


def value_of(key: Scalar, dtype: str) -> Scalar:
    """The value of that dtype whose key this is."""
    wide = widened(dtype)
    if is_unsigned(wide):
        return key.cast(dtype)
    sign = 1 << (8 * dtype_of(wide).bytes - 1)
    if is_float(wide):
        return key.ge(sign).select(key ^ sign, ~key).bitcast(wide).cast(dtype)
    return (key ^ sign).retyped(wide).cast(dtype)
