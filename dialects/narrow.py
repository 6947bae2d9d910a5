"""Element types of fewer than 16 bits: what a stored pattern means, and which pattern a value gets.

In: scalars whose value is a byte with the pattern in its low bits (`f8E4M3FN`, `f4E2M1FN`, `i4`, ...), or
f32 and i32 scalars. Out: integer operations that decode and encode them, one byte an element. Targets have
instructions for some of the formats only; arithmetic on bits is the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..runtime.dtypes import DTYPES, NARROW

if TYPE_CHECKING:
    from .scalar import Scalar

_MANTISSA = 23  # bits of an f32's fraction
_BIAS = 127  # of an f32's exponent


@dataclass(frozen=True)
class FloatFormat:
    """A sign bit, `exponent` bits with `bias`, `mantissa` bits; `largest` is the pattern of the largest finite number.

    `nan` is the pattern of a NaN or None; `infinity` that of infinity or None. With `unsigned_zero` there is no
    minus zero: its pattern is the NaN.
    """

    exponent: int
    mantissa: int
    bias: int
    largest: int
    nan: int | None
    infinity: int | None = None
    unsigned_zero: bool = False

    @property
    def sign(self) -> int:
        """The pattern of the sign bit."""
        return 1 << (self.exponent + self.mantissa)


FLOATS = {
    "f8E4M3FN": FloatFormat(4, 3, 7, 0x7E, 0x7F),
    "f8E4M3FNUZ": FloatFormat(4, 3, 8, 0x7F, 0x80, unsigned_zero=True),
    "f8E5M2": FloatFormat(5, 2, 15, 0x7B, 0x7E, infinity=0x7C),
    "f8E5M2FNUZ": FloatFormat(5, 2, 16, 0x7F, 0x80, unsigned_zero=True),
    "f4E2M1FN": FloatFormat(2, 1, 1, 0x7, None),
}
POWERS = "f8E8M0FNU"  # a power of two: 2^(pattern - 127), 255 is NaN
INTEGERS = {"i4": 4, "ui4": 4, "i2": 2, "ui2": 2}  # bits
PACKED = {"i4": 2, "ui4": 2, "f4E2M1FN": 2, "i2": 4, "ui2": 4}  # elements a byte in files, the first in the low bits
ROUNDINGS = ("up", "down", "nearest")


def is_narrow(dtype: str) -> bool:
    """True for the types of this file."""
    return dtype in NARROW


def is_narrow_float(dtype: str) -> bool:
    """True for floats of 4 and 8 bits."""
    return dtype in FLOATS or dtype == POWERS


def integer_range(dtype: str) -> tuple[int, int]:
    """The smallest and the largest number of an integer type, narrow or not."""
    bits = INTEGERS.get(dtype) or 8 * DTYPES[dtype].bytes
    return (0, (1 << bits) - 1) if dtype.startswith("ui") else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def pattern(value: float, dtype: str) -> int:
    """The stored byte of a number that the type can represent, as a signed integer."""
    return int(np.array([value]).astype(DTYPES[dtype].numpy).view(np.int8)[0])


def representable(value: float, dtype: str) -> float:
    """The number of that type nearest to `value`; what is too large becomes the largest."""
    kind = DTYPES[dtype].numpy
    if dtype in FLOATS and value == value:
        code = FLOATS[dtype].largest
        limit = float(np.array([code], np.uint8).view(kind)[0])
        value = min(max(value, -limit), limit)
    if dtype in INTEGERS:
        bits, signed = INTEGERS[dtype], dtype.startswith("i")
        wrapped = int(value) & ((1 << bits) - 1)
        return wrapped - (1 << bits) if signed and wrapped >> (bits - 1) else wrapped
    return float(np.array([value], np.float32).astype(kind)[0])


# Patterns to numbers ---------------------------------------------------------------------------------------
def decode(x: Scalar) -> Scalar:
    """The number: f32 for floats, i32 for integers."""
    if x.dtype in INTEGERS:
        shift = 32 - INTEGERS[x.dtype]
        moved = x.retyped("i8").cast("i32").shift_left(shift)
        if x.dtype.startswith("i"):
            return moved.shift_right(shift)
        return moved.retyped("ui32").shift_right(shift).retyped("i32")
    bits = x.retyped("ui8").cast("ui32")
    return _decode_power(bits) if x.dtype == POWERS else _decode_float(bits, FLOATS[x.dtype])


def _decode_power(bits: Scalar) -> Scalar:
    # Pattern 0 is 2^-127, a subnormal f32.
    tiny = bits.eq(0).select(_constant(1 << (_MANTISSA - 1), "ui32"), bits.shift_left(_MANTISSA))
    return bits.eq(0xFF).select(_constant(0x7FC00000, "ui32"), tiny).bitcast("f32")


def _decode_float(bits: Scalar, form: FloatFormat) -> Scalar:
    """Exponent and fraction moved to their places in an f32 are the number but for the difference of the biases."""
    magnitude = bits & (form.sign - 1)
    placed = magnitude.shift_left(_MANTISSA - form.mantissa).bitcast("f32")
    value = placed * 2.0 ** (_BIAS - form.bias)
    nan = _constant(0x7FC00000, "ui32").bitcast("f32")
    if form.infinity is not None:
        infinity = _constant(0x7F800000, "ui32").bitcast("f32")
        value = magnitude.ge(form.infinity).select(magnitude.eq(form.infinity).select(infinity, nan), value)
    elif form.nan is not None and not form.unsigned_zero:
        value = magnitude.eq(form.nan).select(nan, value)
    value = (bits & form.sign).ne(0).select(-value, value)
    return bits.eq(form.sign).select(nan, value) if form.unsigned_zero else value


# Numbers to patterns ---------------------------------------------------------------------------------------
def encode(x: Scalar, dtype: str, saturate: bool = True, rounding: str = "up") -> Scalar:
    """The pattern of a float or integer scalar. Floats round to nearest even, `f8E8M0FNU` as `rounding` says.

    With `saturate` what is too large becomes the largest finite number, else infinity or NaN. Integers take the
    low bits.
    """
    if dtype in INTEGERS:
        low = x.cast("i32") & ((1 << INTEGERS[dtype]) - 1)
        return low.cast("i8").retyped(dtype)
    bits = x.cast("f32").bitcast("ui32")
    if dtype == POWERS:
        result = _encode_power(bits, saturate, rounding)
    else:
        result = _encode_float(bits, FLOATS[dtype], saturate)
    return result.cast("ui8").retyped(dtype)


def _encode_power(bits: Scalar, saturate: bool, rounding: str) -> Scalar:
    magnitude = bits & 0x7FFFFFFF
    exponent = magnitude.shift_right(_MANTISSA)
    rest = magnitude & ((1 << _MANTISSA) - 1)
    half = 1 << (_MANTISSA - 1)
    # A subnormal number lies between 0 and 2^-126; the type's smallest number, 2^-127, is half of that.
    small = exponent.eq(0)
    above = {
        "up": small.select(rest.gt(half), rest.gt(0)),
        "nearest": small.select(rest.gt(half), rest.ge(half)),
        "down": _constant(0, "i1"),
    }[rounding]
    rounded = above.select(exponent + 1, exponent)
    largest = _constant(0xFE if saturate else 0xFF, "ui32")
    limited = rounded.gt(0xFE).select(largest, rounded)
    limited = magnitude.eq(0x7F800000).select(largest, limited)
    is_nan = magnitude.gt(0x7F800000)
    if not saturate:
        is_nan = is_nan | magnitude.lt(half)  # below 2^-127
    return is_nan.select(_constant(0xFF, "ui32"), limited)


def _encode_float(bits: Scalar, form: FloatFormat, saturate: bool) -> Scalar:
    magnitude = bits & 0x7FFFFFFF
    dropped = _MANTISSA - form.mantissa
    # Normal numbers: add just under half of the last kept place (and its parity, for ties), cut off, rebias.
    odd = magnitude.shift_right(dropped) & 1
    normal = (magnitude + ((1 << (dropped - 1)) - 1) + odd).shift_right(dropped) - (
        (_BIAS - form.bias) << form.mantissa
    )
    # Smaller ones: adding 2^23 last places leaves the rounded count of them in the fraction.
    quantum = 1 - form.bias - form.mantissa
    magic = 2.0 ** (quantum + _MANTISSA)
    anchor = int(np.float32(magic).view(np.uint32))
    subnormal = (magnitude.bitcast("f32") + magic).bitcast("ui32") - anchor
    smallest = (_BIAS + 1 - form.bias) << _MANTISSA
    code = magnitude.lt(smallest).select(subnormal, normal)
    code = _limited(code, magnitude, form, saturate)
    sign = bits.shift_right(31).shift_left(form.exponent + form.mantissa)
    is_nan = magnitude.gt(0x7F800000)
    if form.nan is None:  # onnx and ml_dtypes make minus zero of NaN
        return is_nan.select(_constant(form.sign, "ui32"), code | sign)
    if form.unsigned_zero:
        sign = code.eq(0).select(_constant(0, "ui32"), sign)
        return (is_nan | code.eq(form.nan)).select(_constant(form.nan, "ui32"), code | sign)
    return is_nan.select(_constant(form.nan, "ui32"), code) | sign


def _limited(code: Scalar, magnitude: Scalar, form: FloatFormat, saturate: bool) -> Scalar:
    """The code, or what stands for a number beyond the largest one."""
    beyond = form.infinity if form.infinity is not None else form.nan
    other = form.largest if saturate or beyond is None else beyond
    return code.gt(form.largest).select(_constant(other, "ui32"), code)


def _constant(value: int, dtype: str) -> Scalar:
    from .scalar import Scalar

    return Scalar.constant(value, dtype)
