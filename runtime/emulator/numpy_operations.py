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

from .memory import LOCAL_WINDOW, PARAMETER_WINDOW, SHARED_WINDOW, WINDOW_BYTES
from .numpy_rounding import ROUNDING_OPERATIONS, float_to_integer, integer_saturating
from .ptx import TYPE_BITS

Values = Any
"""A NumPy array or scalar; which of the two is decided while running, which is how uniform values stay cheap.
"""

DTYPES: dict[str, str] = {
    "u8": "u1", "s8": "i1", "b8": "u1", "u16": "u2", "s16": "i2", "b16": "u2", "f16": "u2", "bf16": "u2",
    "u32": "u4", "s32": "i4", "b32": "u4", "f32": "f4", "tf32": "f4", "f16x2": "u4", "bf16x2": "u4",
    "u16x2": "u4", "s16x2": "u4", "u64": "u8", "s64": "i8", "b64": "u8", "f64": "f8", "f32x2": "u8", "pred": "?",
    "e4m3x2": "u2", "e5m2x2": "u2",
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
def select(predicate: Values, yes: Values, no: Values) -> Values:
    if predicate.ndim == 0:
        return yes if predicate else no
    return np.where(predicate, yes, no)


def unordered(a: Values, b: Values) -> Values:
    return np.isnan(a) | np.isnan(b)


def ordered(a: Values, b: Values) -> Values:
    return ~unordered(a, b)


def not_equal_ordered(a: Values, b: Values) -> Values:
    return (a < b) | (a > b)


def equal_unordered(a: Values, b: Values) -> Values:
    return ~not_equal_ordered(a, b)


# Floating point.
_F16_TO_F32 = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32)
_BF16_SHIFT = np.uint32(16)


def f16_to_f32(value: Values) -> Values:
    return _F16_TO_F32.take(value)


def bf16_to_f32(value: Values) -> Values:
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


def fma_f32_wide(a: Values, b: Values, c: Values) -> Values:
    """fma of f64 values that came from f32: the product is exact, the sum rounds to f64."""
    return a * b + c


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
    return value.dtype.type(1) / value


def reciprocal_square_root(value: Values) -> Values:
    return value.dtype.type(1) / np.sqrt(value)


def reciprocal_square_root_f32(value: Values) -> Values:
    return (1.0 / np.sqrt(value.astype("f8"))).astype("f4")


def is_normal(value: Values) -> Values:
    return np.isfinite(value) & (np.abs(value) >= np.finfo(value.dtype).tiny)


def is_subnormal(value: Values) -> Values:
    return (value != 0) & (np.abs(value) < np.finfo(value.dtype).tiny)


def pack_halves(low: Values, high: Values) -> Values:
    return low.astype("u4") | (high.astype("u4") << _BF16_SHIFT)


# Integers.
def divide_signed(a: Values, b: Values) -> Values:
    """Truncating division; NumPy floors. Division by zero gives 0, INT_MIN / -1 wraps."""
    quotient = a // b
    inexact = (quotient * b != a) & ((a < 0) != (b < 0)) & (b != 0)
    return quotient + inexact.astype(a.dtype)


def divide_unsigned(a: Values, b: Values) -> Values:
    return a // b


def remainder(a: Values, b: Values) -> Values:
    return np.fmod(a, b)


def multiply_high(a: Values, b: Values) -> Values:
    """The upper half of the double-width product, for u/s of 16, 32 and 64 bits."""
    kind, width = a.dtype.kind, a.dtype.itemsize
    if width < 8:
        wide = np.dtype(f"{kind}{2 * width}")
        return ((a.astype(wide) * b.astype(wide)) >> wide.type(8 * width)).astype(a.dtype)
    x, y = a.view("u8"), b.view("u8")
    low, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    x0, x1, y0, y1 = x & low, x >> shift, y & low, y >> shift
    middle = x1 * y0 + ((x0 * y0) >> shift)
    carry = x0 * y1 + (middle & low)
    high = x1 * y1 + (middle >> shift) + (carry >> shift)
    if kind == "i":
        zero = np.uint64(0)
        high = high - select(a < 0, y, zero) - select(b < 0, x, zero)
        return high.view("i8")
    return high


def low_24(value: Values) -> Values:
    eight = value.dtype.type(8)
    return (value << eight) >> eight


def multiply_24_high(a: Values, b: Values) -> Values:
    wide = np.dtype(f"{a.dtype.kind}8")
    return ((a.astype(wide) * b.astype(wide)) >> wide.type(16)).astype(a.dtype)


def carry_add(a: Values, b: Values) -> Values:
    return (a + b) < a


def carry_subtract(a: Values, b: Values) -> Values:
    return a < b


def add_carry(a: Values, b: Values, carry: Values) -> Values:
    return a + b + carry.astype(a.dtype)


def subtract_carry(a: Values, b: Values, borrow: Values) -> Values:
    return a - b - borrow.astype(a.dtype)


def carry_add_carry(a: Values, b: Values, carry: Values) -> Values:
    total = a + b
    return (total < a) | ((total + carry.astype(a.dtype)) < total)


def carry_subtract_carry(a: Values, b: Values, borrow: Values) -> Values:
    return (a < b) | ((a == b) & borrow)


def _saturating(operator: Callable[[Values, Values], Values]) -> Callable[[Values, Values], Values]:
    def compute(a: Values, b: Values) -> Values:
        wide = operator(a.astype("i8"), b.astype("i8"))
        limits = np.iinfo(a.dtype)
        return np.minimum(np.maximum(wide, limits.min), limits.max).astype(a.dtype)

    return compute


def funnel(direction: str, mode: str, low: Values, high: Values, count: Values) -> Values:
    """shf: shift the 64-bit (high, low) pair and take the upper (left) or lower (right) word."""
    limit = np.uint32(31)
    count = count & limit if mode == "wrap" else np.minimum(count, np.uint32(32))
    pair = (high.astype("u8") << np.uint64(32)) | low.astype("u8")
    if direction == "l":
        return ((pair << count.astype("u8")) >> np.uint64(32)).astype("u4")
    return (pair >> count.astype("u8")).astype("u4")


_POPULATION = np.array([bin(byte).count("1") for byte in range(256)], dtype="u4")
_REVERSED = np.array([int(f"{byte:08b}"[::-1], 2) for byte in range(256)], dtype="u1")


def population_count(value: Values) -> Values:
    result = np.uint32(0)
    for shift in range(0, 8 * value.dtype.itemsize, 8):
        result = result + _POPULATION.take((value >> value.dtype.type(shift)).astype("u1"))
    return result


def _smear(value: Values) -> Values:
    shift = 1
    while shift < 8 * value.dtype.itemsize:
        value = value | (value >> value.dtype.type(shift))
        shift *= 2
    return value


def leading_zeros(value: Values) -> Values:
    return np.uint32(8 * value.dtype.itemsize) - population_count(_smear(value))


def reverse_bits(value: Values) -> Values:
    width = value.dtype.itemsize
    result = value.dtype.type(0)
    for byte in range(width):
        part = _REVERSED.take((value >> value.dtype.type(8 * byte)).astype("u1")).astype(value.dtype)
        result = result | (part << value.dtype.type(8 * (width - 1 - byte)))
    return result


def find_bit(value: Values) -> Values:
    """Position of the most significant bit that is not the sign; 0xffffffff when there is none."""
    if value.dtype.kind == "i":
        value = value ^ (value >> value.dtype.type(8 * value.dtype.itemsize - 1))
    bits = value.view(f"u{value.dtype.itemsize}")
    return population_count(_smear(bits)) - np.uint32(1)


def find_bit_shift_amount(value: Values) -> Values:
    position = find_bit(value)
    return select(
        position == np.uint32(0xFFFFFFFF), position, np.uint32(8 * value.dtype.itemsize - 1) - position
    )


def _field(dtype: np.dtype[Any], start: Values, length: Values) -> tuple[Values, Values]:
    unsigned = np.dtype(f"u{dtype.itemsize}")
    byte = np.uint32(0xFF)
    return (start & byte).astype(unsigned), (length & byte).astype(unsigned)


def extract_bits(value: Values, start: Values, length: Values) -> Values:
    """bfe: a field beyond the top is filled with the sign (signed) or zero."""
    width = 8 * value.dtype.itemsize
    first, count = _field(value.dtype, start, length)
    unsigned = value.view(first.dtype)
    one = first.dtype.type(1)
    full = first.dtype.type(width)
    mask = (one << np.minimum(count, full)) - one
    field = (unsigned >> first) & mask
    if value.dtype.kind == "u":
        return field
    top = np.minimum(first + count - one, full - one)
    sign = ((unsigned >> top) & one).astype("?") & (count != 0)
    return select(sign, field | ~_shifted_mask(mask, first, full), field).view(value.dtype)


def _shifted_mask(mask: Values, first: Values, full: Values) -> Values:
    """The bits of the result that come from the value itself, not from sign extension."""
    one = full.dtype.type(1)
    available = select(first >= full, full.dtype.type(0), full - np.minimum(first, full))
    return mask & ((one << available) - one)


def insert_bits(field: Values, base: Values, start: Values, length: Values) -> Values:
    first, count = _field(base.dtype, start, length)
    one, full = base.dtype.type(1), base.dtype.type(8 * base.dtype.itemsize)
    mask = ((one << np.minimum(count, full)) - one) << first
    return (base & ~mask) | ((field << first) & mask)


def _selected_byte(pair: Values, index: Values) -> Values:
    return (pair >> (index << np.uint64(3))) & np.uint64(0xFF)


def permute_bytes(a: Values, b: Values, selector: Values) -> Values:
    """prmt, default mode: each selector nibble picks a byte of {b, a}; its top bit replicates that byte's
    sign.
    """
    pair = (b.astype("u8") << np.uint64(32)) | a.astype("u8")
    result = np.uint64(0)
    if selector.ndim == 0:
        for position in range(4):
            nibble = (int(selector) >> (4 * position)) & 15
            byte = (pair >> np.uint64(8 * (nibble & 7))) & np.uint64(0xFF)
            if nibble & 8:
                byte = (byte >> np.uint64(7)) * np.uint64(0xFF)
            result = result | (byte << np.uint64(8 * position))
        return result.astype("u4")
    control = selector.astype("u8")
    for position in range(4):
        nibble = (control >> np.uint64(4 * position)) & np.uint64(15)
        byte = _selected_byte(pair, nibble & np.uint64(7))
        signs = (byte >> np.uint64(7)) * np.uint64(0xFF)
        byte = select((nibble & np.uint64(8)) != 0, signs, byte)
        result = result | (byte << np.uint64(8 * position))
    return result.astype("u4")


_BYTE_TABLES = {
    "f4e": ((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 6)),
    "b4e": ((0, 7, 6, 5), (1, 0, 7, 6), (2, 1, 0, 7), (3, 2, 1, 0)),
    "rc8": ((0, 0, 0, 0), (1, 1, 1, 1), (2, 2, 2, 2), (3, 3, 3, 3)),
    "ecl": ((0, 1, 2, 3), (1, 1, 2, 3), (2, 2, 2, 3), (3, 3, 3, 3)),
    "ecr": ((0, 0, 0, 0), (0, 1, 1, 1), (0, 1, 2, 2), (0, 1, 2, 3)),
    "rc16": ((0, 1, 0, 1), (2, 3, 2, 3), (0, 1, 0, 1), (2, 3, 2, 3)),
}


def permute_bytes_mode(mode: str, a: Values, b: Values, selector: Values) -> Values:
    nibbles = np.array(
        [sum(byte << (4 * i) for i, byte in enumerate(row)) for row in _BYTE_TABLES[mode]], dtype="u4"
    )
    return permute_bytes(a, b, nibbles.take(selector & np.uint32(3)))


def logic3(table: int, a: Values, b: Values, c: Values) -> Values:
    """lop3: the or of the minterms whose bit in `table` is set (bit index = 4a + 2b + c)."""
    result = np.uint32(0)
    for term in range(8):
        if table >> term & 1:
            result = result | ((a if term & 4 else ~a) & (b if term & 2 else ~b) & (c if term & 1 else ~c))
    return result


def concatenate(*parts: Values) -> Values:
    width = parts[0].dtype.itemsize
    wide = np.dtype(f"u{width * len(parts)}")
    result = parts[0].astype(wide)
    for index, part in enumerate(parts[1:], 1):
        result = result | (part.astype(wide) << wide.type(8 * width * index))
    return result


def part(index: int, count: int, value: Values) -> Values:
    narrow = np.dtype(f"u{value.dtype.itemsize // count}")
    return (value >> value.dtype.type(8 * narrow.itemsize * index)).astype(narrow)


def dot_product(opcode: str, left: str, right: str, half: str, a: Values, b: Values, c: Values) -> Values:
    """dp4a, and dp2a with 16-bit a and the low or high byte pair of b; wraps at 32 bits."""
    if opcode == "dp4a":
        pairs = [(8, 8 * lane, 8 * lane) for lane in range(4)]
    else:
        pairs = [(16, 16 * lane, 8 * lane + (16 if half == "hi" else 0)) for lane in range(2)]
    total = c.astype("u4")
    for bits, first, second in pairs:
        x = (a >> np.uint32(first)).astype(f"{'i' if left == 's' else 'u'}{bits // 8}").astype("i4")
        y = (b >> np.uint32(second)).astype("i1" if right == "s" else "u1").astype("i4")
        total = total + (x * y).view("u4")
    return total


def is_in_window(window: int, address: Values) -> Values:
    return (address >= np.uint64(window)) & (address < np.uint64(window + WINDOW_BYTES))


FUNCTIONS: dict[str, Callable[..., Values]] = {
    "select": select, "unordered": unordered, "ordered": ordered, "ne_ordered": not_equal_ordered,
    "eq_unordered": equal_unordered, "f16_to_f32": f16_to_f32, "bf16_to_f32": bf16_to_f32, "fma:f64": fma_f64,
    "fma_of_f32": fma_f32_wide,
    "flush": flush, "saturate": saturate, "rcp": reciprocal, "rsqrt": reciprocal_square_root,
    "rsqrt:f32": reciprocal_square_root_f32, "is_normal": is_normal, "is_subnormal": is_subnormal,
    "pack_halves": pack_halves, "rem": remainder,
    **{f"div:s{bits}": divide_signed for bits in (16, 32, 64)},
    **{f"div:u{bits}": divide_unsigned for bits in (16, 32, 64)},
    "mul_high": multiply_high, "low_24": low_24, "mul24_high": multiply_24_high, "carry_add": carry_add,
    "carry_sub": carry_subtract, "add_carry": add_carry, "sub_carry": subtract_carry, "carry_addc": carry_add_carry,
    "carry_subc": carry_subtract_carry, "add_saturating": _saturating(lambda a, b: a + b),
    "sub_saturating": _saturating(lambda a, b: a - b), "population_count": population_count,
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
