"""Roundings of the NumPy engine: directed modes, narrowing to halves and tf32, float to integer.

In: arrays or NumPy scalars. Out: the same. Why: the rules about NaN, infinity, saturation and ties are all
here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

Values = Any

_TOWARDS = {"rz": 0.0, "rm": -np.inf, "rp": np.inf}


def select(predicate: Values, yes: Values, no: Values) -> Values:
    """`yes` where the predicate holds, else `no`."""
    if np.ndim(predicate) == 0:
        return yes if predicate else no
    return np.where(predicate, yes, no)


def _directed(narrow: Values, exact: Values, mode: str) -> Values:
    """Move `narrow`, the nearest value to `exact`, by one step when it lies on the wrong side."""
    wide = narrow.astype("f8")
    wrong = {
        "rz": lambda: np.abs(wide) > np.abs(exact),
        "rm": lambda: wide > exact,
        "rp": lambda: wide < exact,
    }[mode]()
    stepped = np.nextafter(narrow, narrow.dtype.type(_TOWARDS[mode]))
    return select(wrong, stepped, narrow)


def f64_to_f32_directed(mode: str, value: Values) -> Values:
    """f64 to f32 towards zero (rz), down (rm) or up (rp)."""
    return _directed(value.astype("f4"), value, mode)


def f32_to_f16(value: Values) -> Values:
    """Nearest even, as a b16 pattern; also for f64. NaN becomes 0x7fff."""
    half = value.astype("f2")
    nan = np.isnan(half)
    bits = half.view("u2")
    return select(nan, np.uint16(0x7FFF), bits) if nan.any() else bits


def to_f16_directed(mode: str, value: Values) -> Values:
    """f32 or f64 to a b16 pattern in a directed mode."""
    half = value.astype("f2")
    return _directed(half, value.astype("f8"), mode).view("u2")


def f32_to_bf16(value: Values) -> Values:
    """Nearest even, as a b16 pattern. NaN becomes 0x7fff."""
    bits = value.view("u4")
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = ((bits + odd + np.uint32(0x7FFF)) >> np.uint32(16)).astype("u2")
    nan = np.isnan(value)
    return select(nan, np.uint16(0x7FFF), rounded) if nan.any() else rounded


def f64_to_bf16(value: Values) -> Values:
    """Through f32 rounded to odd, so that the result is rounded once."""
    narrow = value.astype("f4")
    inexact = narrow.astype("f8") != value
    truncated = _directed(narrow, value, "rz")
    odd = (truncated.view("u4") | np.uint32(1)).view("f4")
    return f32_to_bf16(select(inexact & np.isfinite(narrow), odd, narrow))


def to_bf16_directed(mode: str, value: Values) -> Values:
    """Truncate the pattern, then step outwards where the mode asks for it."""
    narrow = f64_to_f32_directed("rz", value.astype("f8"))
    bits = narrow.view("u4")
    kept = (bits >> np.uint32(16)).astype("u2")
    back = (kept.astype("u4") << np.uint32(16)).view("f4").astype("f8")
    step = np.uint16(0)
    if mode == "rp":
        step = (back < value).astype("u2")
    elif mode == "rm":
        step = (back > value).astype("u2")
    return select(np.isnan(value), np.uint16(0x7FFF), kept + step)


def f32_to_tf32_nearest_away(value: Values) -> Values:
    """cvt.rna.tf32: ties away from zero; infinity and NaN pass."""
    bits = value.view("u4")
    rounded = (bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    return select(np.isfinite(value), rounded, bits).view("f4")


def f32_to_tf32_nearest_even(value: Values) -> Values:
    """cvt.rn.tf32: ties to even; infinity and NaN pass."""
    bits = value.view("u4")
    odd = (bits >> np.uint32(13)) & np.uint32(1)
    rounded = (bits + odd + np.uint32(0xFFF)) & np.uint32(0xFFFFE000)
    return select(np.isfinite(value), rounded, bits).view("f4")


_INTEGRAL: dict[str, Callable[[Values], Values]] = {
    "rni": np.rint,
    "rzi": np.trunc,
    "rmi": np.floor,
    "rpi": np.ceil,
}


def float_to_integer(target: str, mode: str, value: Values) -> Values:
    """Round and clamp to the range of `target`. NaN gives 0, or the top bit where f64 or a 64-bit integer is
    involved.
    """
    limits = np.iinfo(target)
    double = value.dtype == np.float64 or limits.bits == 64
    whole = _INTEGRAL[mode](value)
    if limits.bits == 32 and value.dtype == np.float32 and limits.min < 0:
        inside = np.abs(whole) < np.float32(2147483648.0)
        if inside.all():
            return whole.astype(target)
    wide = whole.astype("f8")
    high = float(limits.max)  # rounds up to a power of two for 64 bits, hence >=
    over, under = wide >= high, wide <= float(limits.min)
    nan = np.isnan(wide)
    safe = select(over | under | nan, np.float64(0), wide)
    result = safe.astype(target)
    result = select(over, np.dtype(target).type(limits.max), result)
    result = select(under, np.dtype(target).type(limits.min), result)
    missing = (1 << (limits.bits - 1)) if double else 0
    missing = missing - (1 << limits.bits) if double and limits.min < 0 else missing
    return select(nan, np.dtype(target).type(missing), result)


def integer_saturating(target: str, value: Values) -> Values:
    """Integer to a narrower or differently signed integer, clamped."""
    limits, source = np.iinfo(target), np.iinfo(value.dtype)
    if limits.min > source.min:
        value = np.maximum(value, value.dtype.type(limits.min))
    if limits.max < source.max:
        value = np.minimum(value, value.dtype.type(limits.max))
    return value.astype(target)


ROUNDING_OPERATIONS: dict[str, Callable[..., Values]] = {
    "f32_to_f16": f32_to_f16, "f64_to_f16": f32_to_f16, "f32_to_bf16": f32_to_bf16, "f64_to_bf16": f64_to_bf16,
    "f32_to_tf32_rna": f32_to_tf32_nearest_away, "f32_to_tf32_rn": f32_to_tf32_nearest_even,
    "round_rni": np.rint, "round_rzi": np.trunc, "round_rmi": np.floor, "round_rpi": np.ceil,
    **{f"f64_to_f32_{mode}": functools.partial(f64_to_f32_directed, mode) for mode in _TOWARDS},
    **{f"{source}_to_f16_{mode}": functools.partial(to_f16_directed, mode)
       for mode in _TOWARDS for source in ("f32", "f64")},
    **{f"{source}_to_bf16_{mode}": functools.partial(to_bf16_directed, mode)
       for mode in _TOWARDS for source in ("f32", "f64")},
}  # fmt: skip
"""Operations by their emitter names."""
