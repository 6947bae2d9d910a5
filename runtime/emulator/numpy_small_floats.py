"""Floats of 4, 6 and 8 bits of the NumPy engine: to f32 by table, from f32 by rounding.

In: patterns or f32 values. Out: the other. Why: NumPy has no such types; all are small enough for tables.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Format:
    """A sign, `exponent` and `mantissa` bits. `infinite`: the top exponent is infinity and NaN; `nan`: the pattern of
    NaN without its sign, or -1 where there is none and NaN becomes the largest value.
    """

    exponent: int
    mantissa: int
    bias: int
    infinite: bool = False
    nan: int = -1

    @property
    def sign(self) -> int:
        """The sign bit."""
        return 1 << (self.exponent + self.mantissa)


FORMATS = {
    "e4m3": Format(4, 3, 7, nan=0x7F), "e5m2": Format(5, 2, 15, infinite=True, nan=0x7F), "e2m1": Format(2, 1, 1),
    "e2m3": Format(2, 3, 1), "e3m2": Format(3, 2, 3),
}  # fmt: skip


@functools.cache
def _values(name: str) -> Array:
    """f32 values of all 256 bytes; bits above the format's are ignored."""
    form = FORMATS[name]
    patterns = np.arange(256)
    exponent = patterns >> form.mantissa & ((1 << form.exponent) - 1)
    mantissa = patterns & ((1 << form.mantissa) - 1)
    fraction = np.where(exponent > 0, 1.0, 0.0) + mantissa / (1 << form.mantissa)
    values = np.ldexp(fraction, np.maximum(exponent, 1) - form.bias)
    if form.infinite:
        special = np.where(mantissa == 0, np.inf, np.nan)
        values = np.where(exponent == (1 << form.exponent) - 1, special, values)
    elif form.nan >= 0:
        values = np.where(patterns & (form.sign - 1) == form.nan, np.nan, values)
    return np.asarray(np.where(patterns & form.sign, -values, values).astype("f4"))


@functools.cache
def _midpoints(name: str) -> Array:
    """Halfway between neighbours among the positive finite values, in f64."""
    values = _values(name)[: FORMATS[name].sign].astype("f8")
    finite = values[np.isfinite(values)]
    return np.asarray((finite[1:] + finite[:-1]) / 2)


def largest(name: str) -> float:
    """The largest finite value."""
    values = _values(name)[: FORMATS[name].sign]
    return float(values[np.isfinite(values)].max())


def small_to_f32(name: str, patterns: Array) -> Array:
    """Patterns (u1) as f32, exactly."""
    return np.asarray(_values(name).take(patterns))


def f32_to_small(name: str, values: Any) -> Any:
    """Nearest even with .satfinite: beyond the largest value it is that one. Gives u1 patterns."""
    form, midpoints = FORMATS[name], _midpoints(name)
    nan = np.isnan(values)
    magnitude = np.abs(values.astype("f8"))
    # A midpoint goes to the neighbour with the even pattern.
    above = np.searchsorted(midpoints, magnitude, side="right")
    below = np.searchsorted(midpoints, magnitude, side="left")
    pattern = np.where(above % 2 == 0, above, below) | np.where(np.signbit(values), form.sign, 0)
    missing = form.nan if form.nan >= 0 else len(midpoints)
    return np.where(nan, missing, pattern).astype("u1")[()]
