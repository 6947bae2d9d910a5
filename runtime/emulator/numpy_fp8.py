"""8-bit floats of the NumPy engine: e4m3 and e5m2, to f32 by table and from f32 by rounding.

In: patterns or f32 values. Out: the other. Why: NumPy has no such types; both are small enough for tables.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def _decoded(exponent_bits: int, mantissa_bits: int, bias: int, infinite: bool) -> Array:
    """Values of all 256 patterns. e4m3 has no infinities and one NaN pattern a sign; e5m2 is an f16 cut short."""
    patterns = np.arange(256)
    exponent = patterns >> mantissa_bits & ((1 << exponent_bits) - 1)
    mantissa = patterns & ((1 << mantissa_bits) - 1)
    fraction = np.where(exponent > 0, 1.0, 0.0) + mantissa / (1 << mantissa_bits)
    values = np.ldexp(fraction, np.maximum(exponent, 1) - bias)
    top = exponent == (1 << exponent_bits) - 1
    if infinite:
        values = np.where(top, np.where(mantissa == 0, np.inf, np.nan), values)
    else:
        values = np.where(top & (mantissa == (1 << mantissa_bits) - 1), np.nan, values)
    return np.where(patterns < 128, values, -values).astype("f4")


_VALUES = {"e4m3": _decoded(4, 3, 7, False), "e5m2": _decoded(5, 2, 15, True)}
_LARGEST = {"e4m3": 448.0, "e5m2": 57344.0}
_NAN = {"e4m3": 0x7F, "e5m2": 0x7F}


def fp8_to_f32(type: str, patterns: Array) -> Array:
    """Patterns (u1) as f32, exactly."""
    return np.asarray(_VALUES[type].take(patterns))


def _midpoints(type: str) -> Array:
    """Halfway between neighbours among the positive finite values, in f64."""
    values = _VALUES[type][:128].astype("f8")
    finite = values[np.isfinite(values)]
    return np.asarray((finite[1:] + finite[:-1]) / 2)


_MIDPOINTS = {type: _midpoints(type) for type in _VALUES}


def f32_to_fp8(type: str, values: Array) -> Array:
    """Nearest even with .satfinite: beyond the largest value it is that one; NaN is 0x7f. Gives u1 patterns."""
    midpoints = _MIDPOINTS[type]
    magnitude = np.minimum(np.abs(values.astype("f8")), _LARGEST[type])
    # A midpoint goes to the neighbour with the even pattern.
    above = np.searchsorted(midpoints, magnitude, side="right")
    below = np.searchsorted(midpoints, magnitude, side="left")
    pattern = np.where(above % 2 == 0, above, below).astype("u1")
    pattern = np.where(np.isnan(values), np.uint8(_NAN[type]), pattern)
    negative = np.signbit(values) & ~np.isnan(values)
    return np.asarray(pattern | np.where(negative, np.uint8(0x80), np.uint8(0)))
