"""Integer operations of the fast engine that are more than one LLVM instruction.

In: a `Code`, a PTX type, values. Out: values. Why: PTX defines shifts, fields and selections beyond the width, and
division by zero; the host would trap or answer anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from .llvm_values import BITS, Code, Value

_TABLES = {
    "f4e": (0x3210, 0x4321, 0x5432, 0x6543), "b4e": (0x5670, 0x6701, 0x7012, 0x0123),
    "rc8": (0x0000, 0x1111, 0x2222, 0x3333), "ecl": (0x3210, 0x3211, 0x3222, 0x3333),
    "ecr": (0x0000, 0x1110, 0x2210, 0x3210), "rc16": (0x1010, 0x3232, 0x1010, 0x3232),
}  # fmt: skip
"""prmt's named modes as selectors of the default mode, by the low two bits of the control operand."""


def _signed(type: str) -> bool:
    return type[0] == "s"


def shift(direction: str, code: Code, type: str, value: Value, count: Value) -> Value:
    """Counts beyond the width give 0, or copies of the sign."""
    width = BITS[value.element]
    arithmetic = direction == "right" and _signed(type)
    opcode = "shl" if direction == "left" else "ashr" if arithmetic else "lshr"
    limit = code.integer(value.element, width - 1)
    if count.is_literal:
        amount = int(count.text) & ((1 << width) - 1)
        if amount < width:
            return code.binary(opcode, value, count)
        return code.binary(opcode, value, limit) if arithmetic else code.integer(value.element, 0)
    clamped = code.intrinsic("umin", value.element, count, limit)
    shifted = code.binary(opcode, value, clamped)
    if arithmetic:
        return shifted
    return code.select(code.compare("icmp ugt", count, limit), code.integer(value.element, 0), shifted)


def divide(remainder: bool, code: Code, type: str, a: Value, b: Value) -> Value:
    """Truncating; division by zero gives 0, the remainder has the dividend's sign. Up to 32 bits through f64, where
    the quotient's distance from a whole number exceeds its rounding error."""
    signed, width = _signed(type), BITS[a.element]
    zero = code.integer(a.element, 0)
    invalid = code.compare("icmp eq", b, zero)
    safe = code.select(invalid, code.integer(a.element, 1), b)
    if signed:
        # The smallest number divided by -1 would trap: divide by 1 and negate instead.
        negative = code.compare("icmp eq", safe, code.integer(a.element, -1))
        safe = code.select(negative, code.integer(a.element, 1), safe)
    if width <= 32 and (a.wide or b.wide):
        kind = "si" if signed else "ui"
        exact = [code.cast(f"{kind}tofp", value, "double") for value in code.unify(a, safe)]
        quotient = code.cast(f"fpto{kind}", code.binary("fdiv", *exact), a.element)
    else:
        quotient = code.binary("sdiv" if signed else "udiv", a, safe)
    if remainder:
        result = code.binary("sub", a, code.binary("mul", quotient, safe))
    else:
        result = quotient
        if signed:
            result = code.select(negative, code.binary("sub", zero, quotient), quotient)
    return code.select(invalid, zero, result)


def multiply_high(code: Code, type: str, a: Value, b: Value) -> Value:
    """The upper half of the double-width product."""
    width = BITS[a.element]
    wide = f"i{2 * width}"
    signed = _signed(type)
    factors = [code.resize(value, wide, signed) for value in code.unify(a, b)]
    product = code.binary("mul", *factors)
    return code.resize(code.binary("lshr", product, code.integer(wide, width)), a.element)


def low_24(code: Code, type: str, value: Value) -> Value:
    """The low 24 bits, extended by sign or zeros."""
    eight = code.integer("i32", 8)
    return code.binary("ashr" if _signed(type) else "lshr", code.binary("shl", value, eight), eight)


def multiply_24_high(code: Code, type: str, a: Value, b: Value) -> Value:
    """Bits 16 to 47 of a product of 24-bit factors."""
    factors = [code.resize(value, "i64", _signed(type)) for value in code.unify(a, b)]
    product = code.binary("mul", *factors)
    return code.resize(code.binary("lshr", product, code.integer("i64", 16)), "i32")


def carry_of_add(code: Code, type: str, a: Value, b: Value) -> Value:
    """Carry out of a + b."""
    a, b = code.unify(a, b)
    return code.compare("icmp ult", code.binary("add", a, b), a)


def borrow_of_subtract(code: Code, type: str, a: Value, b: Value) -> Value:
    """Borrow of a - b."""
    return code.compare("icmp ult", a, b)


def add_carry(opcode: str, code: Code, type: str, a: Value, b: Value, carry: Value) -> Value:
    """a + b + carry, or a - b - borrow."""
    return code.binary(opcode, code.binary(opcode, a, b), code.resize(carry, a.element))


def carry_of_add_carry(code: Code, type: str, a: Value, b: Value, carry: Value) -> Value:
    """Carry out of a + b + carry."""
    total = code.binary("add", a, b)
    first = code.compare("icmp ult", total, a)
    second = code.compare("icmp ult", code.binary("add", total, code.resize(carry, a.element)), total)
    return code.binary("or", first, second)


def borrow_of_subtract_borrow(code: Code, type: str, a: Value, b: Value, borrow: Value) -> Value:
    """Borrow of a - b - borrow."""
    less = code.compare("icmp ult", a, b)
    equal = code.compare("icmp eq", a, b)
    return code.binary("or", less, code.binary("and", equal, borrow))


def saturating(name: str, code: Code, type: str, a: Value, b: Value) -> Value:
    """add or sub that clamps to the range of its type."""
    return code.intrinsic(f"{'s' if _signed(type) else 'u'}{name}.sat", a.element, *code.unify(a, b))


def funnel(direction: str, mode: str, code: Code, type: str, low: Value, high: Value, count: Value) -> Value:
    """shf: shift the 64-bit (high, low) pair and take the upper (left) or lower (right) word."""
    if mode == "wrap":
        return code.intrinsic("fshl" if direction == "l" else "fshr", "i32", high, low, count)
    limited = code.resize(code.intrinsic("umin", "i32", count, code.integer("i32", 32)), "i64")
    upper = code.binary("shl", code.resize(high, "i64"), code.integer("i64", 32))
    pair = code.binary("or", upper, code.resize(low, "i64"))
    if direction == "l":
        shifted = code.binary("lshr", code.binary("shl", pair, limited), code.integer("i64", 32))
    else:
        shifted = code.binary("lshr", pair, limited)
    return code.resize(shifted, "i32")


def population_count(code: Code, type: str, value: Value) -> Value:
    """Number of one bits, as u32."""
    return code.resize(code.intrinsic("ctpop", value.element, value), "i32")


def leading_zeros(code: Code, type: str, value: Value) -> Value:
    """Number of zero bits above the highest one, as u32."""
    return code.resize(code.intrinsic("ctlz", value.element, value, flags="i1 false"), "i32")


def reverse_bits(code: Code, type: str, value: Value) -> Value:
    """The bits in opposite order."""
    return code.intrinsic("bitreverse", value.element, value)


def find_bit(amount: bool, code: Code, type: str, value: Value) -> Value:
    """Position of the highest bit that is not the sign, or the shift that brings it to the top; -1 for none."""
    width = BITS[value.element]
    if _signed(type):
        sign = code.binary("ashr", value, code.integer(value.element, width - 1))
        value = code.binary("xor", value, sign)
    zeros = leading_zeros(code, type, value)
    if not amount:
        return code.binary("sub", code.integer("i32", width - 1), zeros)
    none = code.compare("icmp eq", zeros, code.integer("i32", width))
    return code.select(none, code.integer("i32", -1), zeros)


def _field(code: Code, element: str, value: Value) -> Value:
    return code.resize(code.binary("and", value, code.integer("i32", 0xFF)), element)


def _ones(code: Code, element: str, count: Value) -> Value:
    """`count` low bits set, all of them from the width on."""
    one = code.integer(element, 1)
    return code.binary("sub", shift("left", code, "u", one, count), one)


def extract_bits(code: Code, type: str, value: Value, start: Value, length: Value) -> Value:
    """bfe: a field beyond the top is filled with the sign (signed) or zero."""
    element, width = value.element, BITS[value.element]
    first, count = _field(code, element, start), _field(code, element, length)
    mask = _ones(code, element, count)
    found = code.binary("and", shift("right", code, "u", value, first), mask)
    if not _signed(type):
        return found
    full = code.integer(element, width)
    one = code.integer(element, 1)
    top = code.binary("sub", code.binary("add", first, count), one)
    top = code.intrinsic("umin", element, top, code.integer(element, width - 1))
    sign = code.cast("trunc", code.binary("lshr", value, top), "i1")
    some = code.compare("icmp ne", count, code.integer(element, 0))
    sign = code.binary("and", sign, some)
    left = code.binary("sub", full, code.intrinsic("umin", element, first, full))
    known = code.binary("and", mask, _ones(code, element, left))
    above = code.binary("xor", known, code.integer(element, -1))
    return code.select(sign, code.binary("or", found, above), found)


def insert_bits(code: Code, type: str, field: Value, base: Value, start: Value, length: Value) -> Value:
    """bfi: `length` bits of `field` into `base` at `start`."""
    element = base.element
    first, count = _field(code, element, start), _field(code, element, length)
    mask = shift("left", code, "u", _ones(code, element, count), first)
    moved = code.binary("and", shift("left", code, "u", field, first), mask)
    kept = code.binary("and", base, code.binary("xor", mask, code.integer(element, -1)))
    return code.binary("or", kept, moved)


def permute_bytes(code: Code, type: str, a: Value, b: Value, selector: Value) -> Value:
    """prmt, default mode: each selector nibble picks a byte of {b, a}; its top bit replicates that byte's sign."""
    if selector.is_literal:
        return _permute_fixed(code, a, b, int(selector.text))
    upper = code.binary("shl", code.resize(b, "i64"), code.integer("i64", 32))
    pair = code.binary("or", upper, code.resize(a, "i64"))
    control = code.resize(selector, "i64")
    result = code.integer("i64", 0)
    for position in range(4):
        nibble = code.binary("lshr", control, code.integer("i64", 4 * position))
        amount = code.binary("shl", code.binary("and", nibble, code.integer("i64", 7)), code.integer("i64", 3))
        byte = code.binary("and", code.binary("lshr", pair, amount), code.integer("i64", 0xFF))
        sign = code.binary("mul", code.binary("lshr", byte, code.integer("i64", 7)), code.integer("i64", 0xFF))
        replicated = code.compare("icmp ne", code.binary("and", nibble, code.integer("i64", 8)), code.integer("i64", 0))
        byte = code.select(replicated, sign, byte)
        result = code.binary("or", result, code.binary("shl", byte, code.integer("i64", 8 * position)))
    return code.resize(result, "i32")


def _permute_fixed(code: Code, a: Value, b: Value, selector: int) -> Value:
    """The same for a known selector: bytes that move alike are moved together."""
    moves: dict[tuple[int, int], int] = {}
    result = code.integer("i32", 0)
    for position in range(4):
        nibble = selector >> (4 * position) & 15
        source = nibble & 7
        if nibble & 8:
            word = a if source < 4 else b
            top = code.binary("shl", word, code.integer("i32", 24 - 8 * (source & 3)))
            sign = code.binary("ashr", top, code.integer("i32", 31))
            kept = code.integer("i32", 0xFF << (8 * position))
            result = code.binary("or", result, code.binary("and", sign, kept))
            continue
        key = (source >> 2, position - (source & 3))
        moves[key] = moves.get(key, 0) | 0xFF << (8 * position)
    for (word_index, distance), mask in moves.items():
        moved = b if word_index else a
        if distance:
            opcode = "shl" if distance > 0 else "lshr"
            moved = code.binary(opcode, moved, code.integer("i32", 8 * abs(distance)))
        result = code.binary("or", result, code.binary("and", moved, code.integer("i32", mask)))
    return result


def permute_bytes_mode(mode: str, code: Code, type: str, a: Value, b: Value, selector: Value) -> Value:
    """prmt with one of the named modes."""
    table = _TABLES[mode]
    if selector.is_literal:
        return _permute_fixed(code, a, b, table[int(selector.text) & 3])
    index = code.binary("and", selector, code.integer("i32", 3))
    control = code.integer("i32", table[3])
    for number in (2, 1, 0):
        same = code.compare("icmp eq", index, code.integer("i32", number))
        control = code.select(same, code.integer("i32", table[number]), control)
    if control.is_literal:
        return _permute_fixed(code, a, b, int(control.text))
    return permute_bytes(code, type, a, b, control)


def logic3(table: str, code: Code, type: str, a: Value, b: Value, c: Value) -> Value:
    """lop3: the or of the minterms whose bit in `table` is set (bit index = 4a + 2b + c)."""
    wanted = int(table, 16)
    minus = code.integer("i32", -1)
    positive = (a, b, c)
    negative = tuple(code.binary("xor", value, minus) for value in positive)
    result = code.integer("i32", 0)
    for term in range(8):
        if wanted >> term & 1:
            parts = [positive[i] if term >> (2 - i) & 1 else negative[i] for i in range(3)]
            product = code.binary("and", code.binary("and", parts[0], parts[1]), parts[2])
            result = code.binary("or", result, product)
    return result


def concatenate(count: str, code: Code, type: str, *parts: Value) -> Value:
    """Unsigned parts, the first lowest, as one wider integer."""
    width = BITS[parts[0].element]
    wide = f"i{width * len(parts)}"
    result = code.resize(parts[0], wide)
    for index, part in enumerate(parts[1:], 1):
        moved = code.binary("shl", code.resize(part, wide), code.integer(wide, width * index))
        result = code.binary("or", result, moved)
    return result


def part(index: str, count: str, code: Code, type: str, value: Value) -> Value:
    """One of `count` equal parts of an integer."""
    width = BITS[value.element] // int(count)
    if int(index):
        value = code.binary("lshr", value, code.integer(value.element, width * int(index)))
    return code.resize(value, f"i{width}")


def dot_product(opcode: str, left: str, right: str, half: str, code: Code, type: str,
                a: Value, b: Value, c: Value) -> Value:  # fmt: skip
    """dp4a, and dp2a with 16-bit a and the low or high byte pair of b; wraps at 32 bits."""
    if opcode == "dp4a":
        pairs = [(8, 8 * lane, 8 * lane) for lane in range(4)]
    else:
        pairs = [(16, 16 * lane, 8 * lane + (16 if half == "hi" else 0)) for lane in range(2)]
    total = c
    for bits, first, second in pairs:
        x = code.resize(code.binary("lshr", a, code.integer("i32", first)), f"i{bits}")
        y = code.resize(code.binary("lshr", b, code.integer("i32", second)), "i8")
        product = code.binary("mul", code.resize(x, "i32", left == "s"), code.resize(y, "i32", right == "s"))
        total = code.binary("add", total, product)
    return total


INTEGER_OPERATIONS: dict[str, Callable[..., Value]] = {
    "shift_left": partial(shift, "left"), "shift_right": partial(shift, "right"),
    **{f"div:{sign}{bits}": partial(divide, False) for sign in "su" for bits in (16, 32, 64)},
    "rem": partial(divide, True), "mul_high": multiply_high, "low_24": low_24, "mul24_high": multiply_24_high,
    "carry_add": carry_of_add, "carry_sub": borrow_of_subtract, "add_carry": partial(add_carry, "add"),
    "sub_carry": partial(add_carry, "sub"), "carry_addc": carry_of_add_carry,
    "carry_subc": borrow_of_subtract_borrow, "add_saturating": partial(saturating, "add"),
    "sub_saturating": partial(saturating, "sub"), "population_count": population_count,
    "leading_zeros": leading_zeros, "reverse_bits": reverse_bits, "find_bit": partial(find_bit, False),
    "find_bit_shift_amount": partial(find_bit, True), "extract_bits": extract_bits, "insert_bits": insert_bits,
    "permute_bytes": permute_bytes,
}  # fmt: skip
"""By emitter name, or `name:type`."""

INTEGER_PATTERNS: list[tuple[re.Pattern[str], Callable[..., Callable[..., Value]]]] = [
    (re.compile(r"funnel_([lr])_(wrap|clamp)"), partial(partial, funnel)),
    (re.compile(r"permute_bytes_(\w+)"), partial(partial, permute_bytes_mode)),
    (re.compile(r"logic3_([0-9a-f]+)"), partial(partial, logic3)),
    (re.compile(r"concatenate_(\d)"), partial(partial, concatenate)),
    (re.compile(r"part_(\d)_of_(\d)"), partial(partial, part)),
    (re.compile(r"(dp[24]a)_([us])([us])_(lo|hi|all)"), partial(partial, dot_product)),
]
