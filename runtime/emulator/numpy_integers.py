"""Integer operations of the NumPy engine that are more than one ufunc: division, high products, carries, bit fields.

In: arrays over threads or NumPy scalars. Out: the same. Why: PTX's rules for shifts, fields and byte selections beyond
the width, and for division by zero, are not NumPy's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .numpy_rounding import select

Values = Any


def divide_signed(a: Values, b: Values) -> Values:
    """Truncating division; NumPy floors. Division by zero gives 0, INT_MIN / -1 wraps."""
    quotient = a // b
    inexact = (quotient * b != a) & ((a < 0) != (b < 0)) & (b != 0)
    return quotient + inexact.astype(a.dtype)


def divide_unsigned(a: Values, b: Values) -> Values:
    """Quotient; division by zero gives 0."""
    return a // b


def remainder(a: Values, b: Values) -> Values:
    """Remainder with the sign of the dividend."""
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
    """The low 24 bits, extended by sign or zeros."""
    eight = value.dtype.type(8)
    return (value << eight) >> eight


def multiply_24_high(a: Values, b: Values) -> Values:
    """Bits 16 to 47 of a product of 24-bit factors."""
    wide = np.dtype(f"{a.dtype.kind}8")
    return ((a.astype(wide) * b.astype(wide)) >> wide.type(16)).astype(a.dtype)


def carry_add(a: Values, b: Values) -> Values:
    """Carry out of a + b."""
    return (a + b) < a


def carry_subtract(a: Values, b: Values) -> Values:
    """Borrow of a - b."""
    return a < b


def add_carry(a: Values, b: Values, carry: Values) -> Values:
    """a + b + carry."""
    return a + b + carry.astype(a.dtype)


def subtract_carry(a: Values, b: Values, borrow: Values) -> Values:
    """a - b - borrow."""
    return a - b - borrow.astype(a.dtype)


def carry_add_carry(a: Values, b: Values, carry: Values) -> Values:
    """Carry out of a + b + carry."""
    total = a + b
    return (total < a) | ((total + carry.astype(a.dtype)) < total)


def carry_subtract_carry(a: Values, b: Values, borrow: Values) -> Values:
    """Borrow of a - b - borrow."""
    return (a < b) | ((a == b) & borrow)


def saturating(operator: Callable[[Values, Values], Values]) -> Callable[[Values, Values], Values]:
    """Addition or subtraction that clamps to the range of its type."""

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
    """Number of one bits, as u32."""
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
    """Number of zero bits above the highest one, as u32."""
    return np.uint32(8 * value.dtype.itemsize) - population_count(_smear(value))


def reverse_bits(value: Values) -> Values:
    """The bits in opposite order."""
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
    """How far to shift left so that the found bit is on top."""
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
    """bfi: `length` bits of `field` into `base` at `start`."""
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
    """prmt with one of the named modes."""
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
    """Unsigned parts, the first lowest, as one wider integer."""
    width = parts[0].dtype.itemsize
    wide = np.dtype(f"u{width * len(parts)}")
    result = parts[0].astype(wide)
    for index, part in enumerate(parts[1:], 1):
        result = result | (part.astype(wide) << wide.type(8 * width * index))
    return result


def part(index: int, count: int, value: Values) -> Values:
    """One of `count` equal parts of an integer."""
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
