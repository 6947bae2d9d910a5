"""Pure per-thread operations of the NumPy engine.

In: arrays over threads, or NumPy scalars for values that all threads share. Out: the same. Why: the code
generator turns an operation name of the emitter API into an expression through `resolve`; everything that is
more than one ufunc stands here.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from .memory import LOCAL_WINDOW, PARAMETER_WINDOW, RANK_SHIFT, SHARED_WINDOW, WINDOW_BYTES
from .numpy_integers import (
    add_carry,
    carry_add,
    carry_add_carry,
    carry_subtract,
    carry_subtract_carry,
    concatenate,
    divide_signed,
    divide_unsigned,
    dot_product,
    extract_bits,
    find_bit,
    find_bit_shift_amount,
    funnel,
    insert_bits,
    leading_zeros,
    logic3,
    low_24,
    multiply_24_high,
    multiply_high,
    part,
    permute_bytes,
    permute_bytes_mode,
    population_count,
    remainder,
    reverse_bits,
    saturating,
    subtract_carry,
)
from .numpy_rounding import (
    ROUNDING_OPERATIONS,
    f64_to_f32_directed,
    float_to_integer,
    integer_saturating,
    select,
)
from .numpy_small_floats import f32_to_small, small_to_f32
from .ptx import TYPE_BITS

Values = Any
"""A NumPy array or scalar; which of the two is decided while running, which is how uniform values stay cheap.
"""

DTYPES: dict[str, str] = {
    "u8": "u1", "s8": "i1", "b8": "u1", "u16": "u2", "s16": "i2", "b16": "u2", "f16": "u2", "bf16": "u2",
    "u32": "u4", "s32": "i4", "b32": "u4", "f32": "f4", "tf32": "f4", "f16x2": "u4", "bf16x2": "u4",
    "b128": "c16", "u128": "c16",
    "u16x2": "u4", "s16x2": "u4", "u64": "u8", "s64": "i8", "b64": "u8", "f64": "f8", "f32x2": "u8", "pred": "?",
    "e4m3x2": "u2", "e5m2x2": "u2", "e2m1x2": "u1", "e2m3x2": "u2", "e3m2x2": "u2",
}  # fmt: skip
"""NumPy dtype of each PTX type; halves are kept as patterns."""

_COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}

TEMPLATES: dict[str, str] = {
    "add": "({0} + {1})", "sub": "({0} - {1})", "mul": "({0} * {1})",
    "div:f32": "({0} / {1})", "div:f64": "({0} / {1})",
    "and": "({0} & {1})", "or": "({0} | {1})", "xor": "({0} ^ {1})", "not": "(~{0})",
    "shift_left": "({0} << {1})", "shift_right": "({0} >> {1})", "neg": "(-{0})", "abs": "np.abs({0})",
    "minimum": "np.minimum({0}, {1})", "maximum": "np.maximum({0}, {1})",
    "minimum:f32": "np.fmin({0}, {1})", "maximum:f32": "np.fmax({0}, {1})",
    "minimum:f64": "np.fmin({0}, {1})", "maximum:f64": "np.fmax({0}, {1})",
    "minimum_nan": "np.minimum({0}, {1})", "maximum_nan": "np.maximum({0}, {1})",
    "sqrt": "np.sqrt({0})", "ex2": "np.exp2({0})", "lg2": "np.log2({0})",
    "sin": "np.sin({0})", "cos": "np.cos({0})", "tanh": "np.tanh({0})", "copysign": "np.copysign({0}, {1})",
    "is_finite": "np.isfinite({0})", "is_infinite": "np.isinf({0})", "is_notanumber": "np.isnan({0})",
    "is_number": "(~np.isnan({0}))", "low_half": "{0}.astype(u2)", "high_half": "({0} >> c_16).astype(u2)",
    "enter_shared_window": "({0} + c_shared)", "leave_shared_window": "({0} - c_shared)",
    "enter_local_window": "({0} + c_local)", "leave_local_window": "({0} - c_local)",
    "enter_param_window": "({0} + c_param)", "leave_param_window": "({0} - c_param)",
    "is_global_address": "({0} < c_shared)",
    **{name: f"({{0}} {sign} {{1}})" for name, sign in _COMPARE.items()},
    **{f"{name}_unordered": f"(~({{0}} {sign} {{1}}))" for name, sign in
       {"eq": "!=", "lt": ">=", "le": ">", "gt": "<=", "ge": "<"}.items() if name != "eq"},
}  # fmt: skip
"""Operations that are one expression, by `name` or `name:type`."""

CONSTANTS: dict[str, Any] = {
    "c_16": np.uint32(16), "c_shared": np.uint64(SHARED_WINDOW), "c_local": np.uint64(LOCAL_WINDOW),
    "c_param": np.uint64(PARAMETER_WINDOW),
}  # fmt: skip


def resolve(operation: str, type: str) -> str | Callable[..., Values]:
    """A template with `{0}`-style slots, or a function. Raises KeyError when the engine lacks the operation."""
    for key in (f"{operation}:{type}", operation):
        if key in TEMPLATES:
            return TEMPLATES[key]
        if key in FUNCTIONS:
            return FUNCTIONS[key]
    if operation in ROUNDING_OPERATIONS:
        return ROUNDING_OPERATIONS[operation]
    for pattern, build in _PATTERNS:
        match = pattern.fullmatch(operation)
        if match:
            return build(*match.groups())
    raise KeyError(f"{operation} on {type}")


# Selection and comparison.
def unordered(a: Values, b: Values) -> Values:
    """Whether either is NaN."""
    return np.isnan(a) | np.isnan(b)


def ordered(a: Values, b: Values) -> Values:
    """Whether neither is NaN."""
    return ~unordered(a, b)


def not_equal_ordered(a: Values, b: Values) -> Values:
    """Different, and neither is NaN."""
    return (a < b) | (a > b)


def equal_unordered(a: Values, b: Values) -> Values:
    """Equal, or either is NaN."""
    return ~not_equal_ordered(a, b)


# Floating point.
_F16_TO_F32 = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32)
_BF16_SHIFT = np.uint32(16)


def f16_to_f32(value: Values) -> Values:
    """A b16 pattern as f32, exactly, by table."""
    return _F16_TO_F32.take(value)


def bf16_to_f32(value: Values) -> Values:
    """A b16 pattern as f32, exactly."""
    return (value.astype("u4") << _BF16_SHIFT).view("f4")


_F32, _F64 = np.dtype("f4"), np.dtype("f8")


def fma_f32(scratch: Any, a: Values, b: Values, c: Values) -> Values:
    """`a` and `b` come in f64; `scratch` is f64 room for the sum, which is rounded once more to f32.

    That is one rounding too many in about one of 2^29 results. This is the hot spot of every strict matrix product.
    """
    if a.ndim and b.ndim:
        total = np.multiply(a, b, scratch)
        total += c
        return total.astype(_F32)
    return (a * b + c).astype(_F32)


def directed(exact: Callable[..., Values], mode: str, *values: Values) -> Values:
    """`exact` of f32 values, computed in f64 and rounded towards zero (rz), down (rm) or up (rp): quotients and roots
    of f32 are never so near to an f32 that f64 would not tell on which side they are."""
    return f64_to_f32_directed(mode, exact(*(value.astype("f8") for value in values)))


def directed_sum(sign: int, mode: str, a: Values, b: Values, c: Values | None = None) -> Values:
    """a + `sign` b of f32, or a b + c, rounded once in a directed mode."""
    x, y = a.astype("f8"), sign * b.astype("f8")
    if c is not None:
        x, y = x * y, c.astype("f8")
    total = x + y
    moved = total - x
    error = (x - (total - moved)) + (y - moved)  # what `total` lacks, exactly (Knuth)
    inexact = (error != 0) & np.isfinite(error) & (total.view("u8") & np.uint64(1) == 0)
    # Rounded to odd, `total` is on the same side of every f32 as the sum.
    result = f64_to_f32_directed(mode, select(inexact, np.nextafter(total, np.copysign(np.inf, error)), total))
    if mode == "rm":
        cancelled = (total == 0) & (np.signbit(x) != np.signbit(y))
        return select(cancelled, np.float32(-0.0), result)
    return result


_SPLIT = 134217729.0


def fma_f64(a: Values, b: Values, c: Values) -> Values:
    """Dekker's product and Knuth's sum: right to far below one ulp wherever the splitting does not overflow."""
    product = a * b
    a_high = a * _SPLIT - (a * _SPLIT - a)
    b_high = b * _SPLIT - (b * _SPLIT - b)
    a_low, b_low = a - a_high, b - b_high
    product_error = a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)
    total = product + c
    shifted = total - product
    total_error = (product - (total - shifted)) + (c - shifted)
    exact = total + (product_error + total_error)
    return select(np.isfinite(exact), exact, total)


_TINY = np.float32(2.0**-126)
_SIGN = np.uint32(0x80000000)


def flush(value: Values) -> Values:
    """Subnormal f32 to zero of the same sign."""
    small = np.abs(value) < _TINY
    if not small.any():
        return value
    return select(small, (value.view("u4") & _SIGN).view("f4"), value)


def saturate(value: Values) -> Values:
    """To [0, 1]; NaN to 0."""
    one = value.dtype.type(1)
    return np.fmin(np.fmax(value, value.dtype.type(0)), one)


def reciprocal(value: Values) -> Values:
    """1 / value, rounded once."""
    return value.dtype.type(1) / value


def reciprocal_square_root(value: Values) -> Values:
    """1 / sqrt(value) in the type of the value."""
    return value.dtype.type(1) / np.sqrt(value)


def reciprocal_square_root_f32(value: Values) -> Values:
    """1 / sqrt(value) computed in f64."""
    return (1.0 / np.sqrt(value.astype("f8"))).astype("f4")


def is_normal(value: Values) -> Values:
    """Finite, and neither zero nor subnormal."""
    return np.isfinite(value) & (np.abs(value) >= np.finfo(value.dtype).tiny)


def is_subnormal(value: Values) -> Values:
    """Not zero, and smaller than the smallest normal number."""
    return (value != 0) & (np.abs(value) < np.finfo(value.dtype).tiny)


def pack_halves(low: Values, high: Values) -> Values:
    """Two b16 patterns in one b32."""
    return low.astype("u4") | (high.astype("u4") << _BF16_SHIFT)


def is_in_window(window: int, address: Values) -> Values:
    """Whether a generic address lies in the window that starts at `window`."""
    return (address >= np.uint64(window)) & (address < np.uint64(window + WINDOW_BYTES))


_NO_RANK = ~(0xFF << RANK_SHIFT)


def map_shared_address(address: Values, rank: Values) -> Values:
    """mapa: the same place in the block of `rank`; for u32 addresses and generic u64 ones alike."""
    kind = address.dtype.type
    plain = address & kind(_NO_RANK & ((1 << 8 * address.dtype.itemsize) - 1))
    return plain | (rank.astype(address.dtype) + kind(1)) << kind(RANK_SHIFT)


def join_words(low: Values, high: Values) -> Values:
    """Two b64 as one b128, which travels as a complex number whose bits NumPy does not touch."""
    pair = np.stack(np.broadcast_arrays(low, high), axis=-1)
    return pair.view("c16")[..., 0]


def low_word(value: Values) -> Values:
    """The lower half of a b128."""
    return np.ascontiguousarray(value).reshape(-1).view("u8")[0::2].reshape(np.shape(value))[()]


def high_word(value: Values) -> Values:
    """The upper half of a b128."""
    return np.ascontiguousarray(value).reshape(-1).view("u8")[1::2].reshape(np.shape(value))[()]


FUNCTIONS: dict[str, Callable[..., Values]] = {
    "select": select, "unordered": unordered, "ordered": ordered, "ne_ordered": not_equal_ordered,
    "eq_unordered": equal_unordered, "f16_to_f32": f16_to_f32, "bf16_to_f32": bf16_to_f32, "fma:f64": fma_f64,
    **{f"{name}_{mode}:f32": functools.partial(directed, exact, mode) for mode in ("rz", "rm", "rp") for name, exact in
       (("mul", np.multiply), ("div", np.divide), ("rcp", reciprocal), ("sqrt", np.sqrt))},
    **{f"{name}_{mode}:f32": functools.partial(directed_sum, sign, mode) for mode in ("rz", "rm", "rp")
       for name, sign in (("add", 1), ("sub", -1), ("fma", 1))},
    "flush": flush, "saturate": saturate, "rcp": reciprocal, "rsqrt": reciprocal_square_root,
    "rsqrt:f32": reciprocal_square_root_f32, "is_normal": is_normal, "is_subnormal": is_subnormal,
    "concatenate_2:u64": join_words, "part_0_of_2:u128": low_word, "part_1_of_2:u128": high_word,
    "pack_halves": pack_halves, "map_shared_address": map_shared_address, "rem": remainder,
    **{f"div:s{bits}": divide_signed for bits in (16, 32, 64)},
    **{f"div:u{bits}": divide_unsigned for bits in (16, 32, 64)},
    "mul_high": multiply_high, "low_24": low_24, "mul24_high": multiply_24_high, "carry_add": carry_add,
    "carry_sub": carry_subtract, "add_carry": add_carry, "sub_carry": subtract_carry, "carry_addc": carry_add_carry,
    "carry_subc": carry_subtract_carry, "add_saturating": saturating(lambda a, b: a + b),
    "sub_saturating": saturating(lambda a, b: a - b), "population_count": population_count,
    "leading_zeros": leading_zeros, "reverse_bits": reverse_bits, "find_bit": find_bit,
    "find_bit_shift_amount": find_bit_shift_amount, "extract_bits": extract_bits, "insert_bits": insert_bits,
    "permute_bytes": permute_bytes,
    "is_shared_address": functools.partial(is_in_window, SHARED_WINDOW),
    "is_local_address": functools.partial(is_in_window, LOCAL_WINDOW),
    "is_param_address": functools.partial(is_in_window, PARAMETER_WINDOW),
}  # fmt: skip


def _part_builder(index: str, count: str) -> Callable[..., Values]:
    return functools.partial(part, int(index), int(count))


_PATTERNS: list[tuple[re.Pattern[str], Callable[..., str | Callable[..., Values]]]] = [
    (re.compile(r"reinterpret_(\w+)"), lambda type: "{0}.view(" + DTYPES[type] + ")"),
    (re.compile(r"(?:f32|f64)_to_([us]\d+)_(r[nzmp]i)"),
     lambda target, mode: functools.partial(float_to_integer, DTYPES[target], mode)),
    (re.compile(r"[us]\d+_to_([us]\d+)_saturating"),
     lambda target: functools.partial(integer_saturating, DTYPES[target])),
    (re.compile(r"f32_to_(e\dm\d)"), lambda name: functools.partial(f32_to_small, name)),
    (re.compile(r"(e\dm\d)_to_f32"), lambda name: functools.partial(small_to_f32, name)),
    (re.compile(r"funnel_([lr])_(wrap|clamp)"), lambda way, mode: functools.partial(funnel, way, mode)),
    (re.compile(r"permute_bytes_(\w+)"), lambda mode: functools.partial(permute_bytes_mode, mode)),
    (re.compile(r"logic3_([0-9a-f]+)"), lambda table: functools.partial(logic3, int(table, 16))),
    (re.compile(r"concatenate_(\d)"), lambda count: concatenate),
    (re.compile(r"part_(\d)_of_(\d)"), _part_builder),
    (re.compile(r"(dp[24]a)_([us])([us])_(lo|hi|all)"),
     lambda opcode, left, right, half: functools.partial(dot_product, opcode, left, right, half)),
]  # fmt: skip


def conversion(source: str, target: str) -> str:
    """Template of a numeric conversion; integers wrap, floats round to nearest even."""
    if TYPE_BITS[source] == TYPE_BITS[target] and source[0] in "usb" and target[0] in "usb":
        return "{0}" if DTYPES[source] == DTYPES[target] else "{0}.view(" + DTYPES[target] + ")"
    return "{0}" if source == target else "{0}.astype(" + DTYPES[target] + ")"
