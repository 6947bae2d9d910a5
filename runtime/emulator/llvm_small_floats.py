"""Floats of 4, 6 and 8 bits of the fast engine: to f32 by way of halves, from f32 by rounding the bits.

In: patterns or f32 values, one for all lanes or one per lane. Out: the other. Why: a GPU converts them in one
instruction; kernels that quantise spend their time in it. The formats are those of `numpy_small_floats.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from .llvm_values import Code, Value
from .numpy_small_floats import FORMATS, Format, largest

_HALF_MANTISSA, _HALF_BIAS = 10, 15
_MANTISSA, _BIAS = 23, 127
_NAN = 0x7FC00000


def _to_f32(name: str, code: Code, type: str, pattern: Value) -> Value:
    """Exactly: as the half of the same bits, whose exponent counts from elsewhere."""
    form = FORMATS[name]
    bits = code.resize(pattern, "i16")
    magnitude = code.binary("and", bits, code.integer("i16", form.sign - 1))
    half = code.binary("shl", magnitude, code.integer("i16", _HALF_MANTISSA - form.mantissa))
    wide = code.cast("fpext", code.cast("bitcast", half, "half"), "float")
    value = code.binary("fmul", wide, code.real("float", 2.0 ** (_HALF_BIAS - form.bias)))
    if form.nan >= 0 and not form.infinite:
        nan = code.compare("icmp eq", magnitude, code.integer("i16", form.nan))
        value = code.select(nan, code.cast("bitcast", code.integer("i32", _NAN), "float"), value)
    sign = code.resize(code.binary("and", bits, code.integer("i16", form.sign)), "i32")
    top = code.binary("shl", sign, code.integer("i32", 32 - form.sign.bit_length()))
    return code.cast("bitcast", code.binary("or", code.bits(value), top), "float")


def _from_f32(name: str, code: Code, type: str, value: Value) -> Value:
    """Nearest even, and the largest value for all that is beyond it."""
    form = FORMATS[name]
    magnitude = code.intrinsic("fabs", "float", value)
    limit = code.real("float", largest(name))
    limited = code.select(code.compare("fcmp olt", magnitude, limit), magnitude, limit)
    smallest_normal = code.real("float", 2.0 ** (1 - form.bias))
    small = code.compare("fcmp olt", limited, smallest_normal)
    pattern = code.select(small, _subnormal(code, form, limited), _normal(code, form, limited))
    sign = code.binary("lshr", code.bits(value), code.integer("i32", 32 - form.sign.bit_length()))
    pattern = code.binary("or", pattern, code.binary("and", sign, code.integer("i32", form.sign)))
    nan = code.compare("fcmp uno", value, value)
    missing = code.integer("i32", form.nan if form.nan >= 0 else form.sign - 1)
    return code.resize(code.select(nan, missing, pattern), "i8")


def _normal(code: Code, form: Format, magnitude: Value) -> Value:
    """The top bits of the mantissa, rounded; a carry goes into the exponent, which then counts from another place."""
    dropped = _MANTISSA - form.mantissa
    bits = code.bits(magnitude)
    odd = code.binary("and", code.binary("lshr", bits, code.integer("i32", dropped)), code.integer("i32", 1))
    half = code.integer("i32", (1 << (dropped - 1)) - 1)
    rounded = code.binary("lshr", code.binary("add", code.binary("add", bits, half), odd), code.integer("i32", dropped))
    return code.binary("sub", rounded, code.integer("i32", (_BIAS - form.bias) << form.mantissa))


def _subnormal(code: Code, form: Format, magnitude: Value) -> Value:
    """Added to a power of two whose last bit is worth as much as the format's, the value is rounded to those."""
    power = code.real("float", 2.0 ** (1 - form.bias - form.mantissa + _MANTISSA))
    total = code.binary("fadd", magnitude, power)
    return code.binary("sub", code.bits(total), code.bits(power))


SMALL_FLOAT_PATTERNS: list[tuple[re.Pattern[str], Callable[..., Callable[..., Value]]]] = [
    (re.compile(r"(e\dm\d)_to_f32"), partial(partial, _to_f32)),
    (re.compile(r"f32_to_(e\dm\d)"), partial(partial, _from_f32)),
]
"""By emitter name."""
