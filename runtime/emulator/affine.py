"""Integers that differ between the lanes of a warp by known amounts.

In: an instruction and what is known of its operands. Out: what is known of its result. Why: addresses and indices are
nearly always one number plus a fixed pattern over the lanes (0, 4, 8, ...); an engine then computes lane 0's value,
with the very same instructions, and moves whole runs of memory without looking at single addresses.

`Lanes` says: the value in lane l is (value in lane 0) + pattern[l], modulo the width. The bits that lane 0's value can
have set decide whether shifts, masks and extensions keep that form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from .ptx import TYPE_BITS, Immediate, Instruction, Operand, Register, Special, Symbol

LANES = 32
_INTEGER = re.compile(r"[usb]\d+")
Pattern = tuple[int, ...]
ZERO: Pattern = (0,) * LANES


@dataclass(frozen=True, slots=True)
class Lanes:
    """`pattern[0]` is 0. `bits` has a one wherever lane 0's value may have one."""

    pattern: Pattern
    bits: int

    @property
    def uniform(self) -> bool:
        """Whether all lanes have the same value."""
        return self.pattern is ZERO or self.pattern == ZERO

    @property
    def own_bits(self) -> int:
        """Bits that the pattern sets; all of them when it goes below lane 0."""
        result = 0
        for distance in self.pattern:
            result |= distance
        return result if result >= 0 else -1

    @property
    def disjoint(self) -> bool:
        """Whether lane 0's value and the pattern share no bits, so that adding them never carries."""
        own = self.own_bits
        return own >= 0 and not own & self.bits


State = Lanes | None
"""None: the lanes differ in unknown ways."""


def full(type: str) -> int:
    """All bits of a type."""
    return (1 << TYPE_BITS[type]) - 1


def _wrapped(pattern: list[int], type: str) -> Pattern:
    """Distances as signed numbers of the width."""
    width = TYPE_BITS[type]
    half = 1 << (width - 1)
    if -half <= min(pattern) and max(pattern) < half:
        return tuple(pattern)
    return tuple((distance + half) % (1 << width) - half for distance in pattern)


def _sum_of_bits(a: int, b: int, type: str) -> int:
    """Bits that a + b may have: none below both, none above the carry out of the largest sum."""
    low = (a | b) & -(a | b)
    total = a + b
    if not low:
        return 0
    if total > full(type):
        return full(type) & ~(low - 1)
    return ((1 << total.bit_length()) - 1) & ~(low - 1)


class Affine:
    """The rules, for one block shape. `offsets` are the places of shared and local variables."""

    def __init__(self, shape: tuple[int, int, int], offsets: Mapping[str, int]) -> None:
        self.offsets = offsets
        x, y, z = shape
        threads = x * y * z
        linear = np.minimum(np.arange(-(-threads // LANES) * LANES), threads - 1).reshape(-1, LANES)
        self.specials = {"%laneid": Lanes(tuple(range(LANES)), 0)}
        for name, numbers in (("x", linear % x), ("y", linear // x % y), ("z", linear // (x * y))):
            rows = numbers - numbers[:, :1]
            if (rows == rows[0]).all():
                self.specials[f"%tid.{name}"] = Lanes(tuple(rows[0].tolist()), int(np.bitwise_or.reduce(numbers[:, 0])))

    def special(self, operand: Special) -> State:
        """What is known of a special register; shared ones only have unknown bits."""
        name = operand.name + ("." + operand.component if operand.component else "")
        if name in self.specials:
            return self.specials[name]
        if operand.name == "%tid" or operand.name.startswith("%lanemask"):
            return None
        return Lanes(ZERO, (1 << 64) - 1)

    def apply(self, instruction: Instruction, read: Callable[[Operand], State]) -> State:
        """The result of an instruction of which some operand is known to follow a pattern."""
        rule = _RULES.get(instruction.opcode)
        if rule is None or instruction.has("sat", "cc") or not _INTEGER.fullmatch(instruction.type):
            return None
        return rule(instruction, read)


def literal(operand: Operand) -> int | None:
    """The value of an integer literal."""
    return operand.bits if isinstance(operand, Immediate) and not operand.width else None


def _add(instruction: Instruction, read: Callable[[Operand], State]) -> State:
    type = instruction.type
    a, b = read(instruction.operands[1]), read(instruction.operands[2])
    if a is None or b is None:
        return None
    return _added(a, b, type)


def _added(a: Lanes, b: Lanes, type: str) -> Lanes:
    pattern = [one + other for one, other in zip(a.pattern, b.pattern, strict=True)]
    return Lanes(_wrapped(pattern, type), _sum_of_bits(a.bits & full(type), b.bits & full(type), type))


def _subtract(instruction: Instruction, read: Callable[[Operand], State]) -> State:
    type = instruction.type
    a, b = read(instruction.operands[1]), read(instruction.operands[2])
    if a is None or b is None:
        return None
    low = (a.bits | b.bits) & -(a.bits | b.bits)
    pattern = [one - other for one, other in zip(a.pattern, b.pattern, strict=True)]
    return Lanes(_wrapped(pattern, type), full(type) & ~(low - 1) if low else 0)


def _extended(value: Lanes, source: str, target: str) -> State:
    """The same value in more bits, if no lane wraps around in fewer."""
    if TYPE_BITS[target] <= TYPE_BITS[source]:
        return Lanes(_wrapped(list(value.pattern), target), value.bits & full(target))
    bits, half = value.bits & full(source), 1 << (TYPE_BITS[source] - 1)
    signed = source[0] == "s"
    highest = bits + max(value.pattern)
    lowest = min(value.pattern)
    fits = (highest < half and lowest >= -half) if signed else (highest <= full(source) and lowest >= 0)
    if not (fits or (value.disjoint and value.own_bits < half)):
        return None
    if signed and bits & half:
        bits |= full(target) & ~full(source)
    return Lanes(value.pattern, bits)


def _times(value: Lanes, factor: int, type: str) -> Lanes:
    if factor >= 0 and factor & (factor - 1) == 0:
        bits = value.bits * factor & full(type)
    else:
        low = value.bits & -value.bits
        small = factor & -factor
        total = value.bits * abs(factor)
        limit = full(type) if factor < 0 or total > full(type) else (1 << total.bit_length()) - 1
        bits = limit & ~(low * small - 1) if low else 0
    return Lanes(_wrapped([distance * factor for distance in value.pattern], type), bits)


def _multiply(instruction: Instruction, read: Callable[[Operand], State]) -> State:
    """By a literal; and multiply-add."""
    type = instruction.type
    if instruction.has("hi") or not instruction.has("lo", "wide"):
        return None
    first, second = instruction.operands[1:3]
    factor, other = (literal(second), first) if literal(second) is not None else (literal(first), second)
    value = read(other)
    if value is None:
        return None
    if factor is None:
        known = read(first), read(second)
        if known[0] is None or known[1] is None or not (known[0].uniform and known[1].uniform):
            return None
    result = type[0] + str(2 * TYPE_BITS[type]) if instruction.has("wide") else type
    if factor is None:
        product: State = Lanes(ZERO, full(result))
    else:
        factor &= full(type)
        if type[0] == "s" and factor > full(type) >> 1:
            factor -= full(type) + 1
        wide = _extended(value, type, result) if instruction.has("wide") else value
        product = None if wide is None else _times(wide, factor, result)
    if product is None or instruction.opcode == "mul":
        return product
    addend = read(instruction.operands[3])
    return None if addend is None else _added(product, addend, result)


def _shift_left(instruction: Instruction, read: Callable[[Operand], State]) -> State:
    count, value = literal(instruction.operands[2]), read(instruction.operands[1])
    if count is None or value is None or not 0 <= count < TYPE_BITS[instruction.type]:
        return None
    return _times(value, 1 << count, instruction.type)


def _shift_right(instruction: Instruction, read: Callable[[Operand], State]) -> State:
    type = instruction.type
    count, value = literal(instruction.operands[2]), read(instruction.operands[1])
    if count is None or value is None or not 0 <= count < TYPE_BITS[type] or not value.disjoint:
        return None
    bits = value.bits & full(type)
    moved = bits >> count
    if type[0] == "s" and bits >> (TYPE_BITS[type] - 1):
        moved |= full(type) & ~(full(type) >> count)
    return Lanes(tuple(distance >> count for distance in value.pattern), moved)


def _and(instruction: Instruction, read: Callable[[Operand], State]) -> State:
    first, second = instruction.operands[1:3]
    mask, other = (literal(second), first) if literal(second) is not None else (literal(first), second)
    value = read(other)
    if mask is None or value is None or not value.disjoint:
        return None
    mask &= full(instruction.type)
    return Lanes(tuple(distance & mask for distance in value.pattern), value.bits & mask)


def _or(instruction: Instruction, read: Callable[[Operand], State]) -> State:
    """An addition where no bit can be set twice; also with a literal that covers bits of the pattern."""
    first, second = instruction.operands[1:3]
    a, b = read(first), read(second)
    if a is None or b is None or not a.disjoint or not b.disjoint:
        return None
    pattern = tuple(one + other for one, other in zip(a.pattern, b.pattern, strict=True))
    if not (a.bits | a.own_bits) & (b.bits | b.own_bits):
        return Lanes(pattern, a.bits | b.bits)
    if a.own_bits & b.own_bits:
        return None
    if not a.own_bits & b.bits and not b.own_bits & a.bits:
        return Lanes(pattern, a.bits | b.bits)
    covering = literal(second)
    if instruction.opcode == "or" and covering is not None:
        covering &= full(instruction.type)
        return Lanes(tuple(distance & ~covering for distance in a.pattern), a.bits | covering)
    return None


def _move(instruction: Instruction, read: Callable[[Operand], State]) -> State:
    return read(instruction.operands[1])


def _convert(instruction: Instruction, read: Callable[[Operand], State]) -> State:
    types = instruction.types
    if len(types) != 2 or types[0][0] not in "us" or types[1][0] not in "us":
        return None
    value = read(instruction.operands[1])
    return None if value is None else _extended(value, types[1], types[0])


def _convert_address(instruction: Instruction, read: Callable[[Operand], State]) -> State:
    value = read(instruction.operands[1])
    return None if value is None else Lanes(value.pattern, full("u64"))


def _bit_field(instruction: Instruction, read: Callable[[Operand], State]) -> State:
    start, length = literal(instruction.operands[2]), literal(instruction.operands[3])
    value = read(instruction.operands[1])
    if start is None or length is None or value is None or not value.disjoint or instruction.type[0] == "s":
        return None
    mask = (1 << length) - 1
    return Lanes(tuple(distance >> start & mask for distance in value.pattern), value.bits >> start & mask)


def _select(instruction: Instruction, read: Callable[[Operand], State]) -> State:
    yes, no, predicate = (read(operand) for operand in instruction.operands[1:4])
    if yes is None or no is None or predicate is None or not predicate.uniform or yes.pattern != no.pattern:
        return None
    return Lanes(yes.pattern, yes.bits | no.bits)


def _compare(instruction: Instruction, read: Callable[[Operand], State]) -> State:
    """The same answer in all lanes: of shared values, or where no lane crosses the literal that bounds a multiple of
    what the lanes differ by (`thread < 128`)."""
    answer = Lanes(ZERO, 1)
    known = [read(operand) for operand in instruction.operands[1:]]
    if any(value is None for value in known):
        return None
    if all(value is not None and value.uniform for value in known):
        return answer
    value, bound = known[0], literal(instruction.operands[2])
    if len(known) != 2 or value is None or bound is None or value.own_bits < 0:
        return None
    type = instruction.type
    below = (1 << value.own_bits.bit_length()) - 1
    # Signed values must not be negative, or the order is another.
    highest = full(type) >> (type[0] == "s")
    if value.bits & below or (value.bits | below | bound) & ~highest:
        return None
    edge = {"lt": 0, "ge": 0, "lo": 0, "hs": 0, "gt": below, "le": below, "hi": below, "ls": below}
    return answer if bound & below == edge.get(instruction.modifiers[0], -1) else None


_RULES: dict[str, Callable[[Instruction, Callable[[Operand], State]], State]] = {
    "add": _add, "sub": _subtract, "mul": _multiply, "mad": _multiply, "shl": _shift_left, "shr": _shift_right,
    "and": _and, "or": _or, "xor": _or, "mov": _move, "cvt": _convert, "cvta": _convert_address, "bfe": _bit_field,
    "selp": _select, "setp": _compare,
}  # fmt: skip

KNOWN_OPERANDS = (Register, Immediate, Symbol, Special)
"""Operands that the rules can read."""
