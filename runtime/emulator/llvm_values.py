"""Values and text of LLVM IR, as the fast engine writes them.

In: operations on values that are either one for all lanes (a scalar) or one per lane (a vector of 32). Out: lines of
IR. Why: every other module of the engine speaks of values and elements; how they are spelled stands here only.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

LANES = 32

ELEMENTS: dict[str, str] = {
    "u8": "i8", "s8": "i8", "b8": "i8", "u16": "i16", "s16": "i16", "b16": "i16", "f16": "i16", "bf16": "i16",
    "u32": "i32", "s32": "i32", "b32": "i32", "f32": "float", "tf32": "float", "f16x2": "i32", "bf16x2": "i32",
    "u16x2": "i32", "s16x2": "i32", "u64": "i64", "s64": "i64", "b64": "i64", "f64": "double", "f32x2": "i64",
    "pred": "i1", "e4m3x2": "i16", "e5m2x2": "i16",
}  # fmt: skip
"""LLVM element of each PTX type; halves are kept as patterns."""

BITS = {"i1": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64, "i128": 128, "half": 16, "float": 32, "double": 64}
_INTEGER_OF = {"float": "i32", "double": "i64", "half": "i16"}
_MANGLED = {"half": "f16", "float": "f32", "double": "f64"}

Pattern = tuple[int, ...]
"""How much more than lane 0's value each lane's is."""


@dataclass(frozen=True, slots=True)
class Value:
    """`text` is an SSA name or a literal of LLVM type `element`; `wide` when it is a vector over the lanes.

    With a `pattern` a scalar is lane 0's value, and the pattern says by how much the others exceed it; a vector is
    only expected to follow it.
    """

    text: str
    element: str
    wide: bool = False
    pattern: Pattern | None = field(default=None, compare=False)

    @property
    def type(self) -> str:
        """The LLVM type."""
        return type_of(self.element, self.wide)

    @property
    def typed(self) -> str:
        """Type and text, as an operand of a call."""
        return f"{self.type} {self.text}"

    @property
    def is_literal(self) -> bool:
        """Whether the value is a number written out."""
        return self.text[0] not in "%<" and not self.text.startswith("splat")


IN_PLACE = Value("", "")
"""Given instead of a result that its register has, or will have, without being written."""


def type_of(element: str, wide: bool) -> str:
    """`i32` or `<32 x i32>`."""
    return f"<{LANES} x {element}>" if wide else element


HALF_PREFIXES = {"half": "H", "bfloat": "R"}  # how LLVM writes their bits


def float_literal(number: float) -> str:
    """LLVM writes float and double alike, as the bits of the double."""
    return f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}"


def float_of_bits(bits: int, element: str) -> str:
    """The literal of a bit pattern; the payload of a NaN survives."""
    if element == "double":
        return f"0x{bits:016X}"
    if element in HALF_PREFIXES:
        return f"0x{HALF_PREFIXES[element]}{bits & 0xFFFF:04X}"
    exponent = bits >> 23 & 0xFF
    if exponent == 0xFF:
        wide = (bits >> 31) << 63 | 0x7FF << 52 | (bits & 0x7FFFFF) << 29
        return f"0x{wide:016X}"
    return float_literal(struct.unpack("<f", struct.pack("<I", bits))[0])


def constant_vector(element: str, numbers: Sequence[int]) -> str:
    """`<i32 0, i32 1, ...>`."""
    return "<" + ", ".join(f"{element} {number}" for number in numbers) + ">"


class Code:
    """Lines of one function, with names for its values and a memory of broadcasts in the current LLVM block."""

    def __init__(self, declarations: dict[str, str], avx512: bool = False) -> None:
        """`avx512` says whether the host has 512-bit vectors (AVX-512 F, BW and DQ)."""
        self.lines: list[str] = []
        self.declarations = declarations
        self.avx512 = avx512
        self._count = 0
        self._splats: dict[tuple[str, str], Value] = {}

    # Text.
    def name(self) -> str:
        """A fresh SSA name."""
        self._count += 1
        return f"%v{self._count}"

    def line(self, text: str) -> None:
        """One instruction without a result."""
        self.lines.append("  " + text)

    def label(self, name: str) -> None:
        """Begin an LLVM block."""
        self.lines.append(f"{name}:")
        self._splats.clear()

    def emit(self, instruction: str, element: str, wide: bool) -> Value:
        """One instruction with a result."""
        name = self.name()
        self.lines.append(f"  {name} = {instruction}")
        return Value(name, element, wide)

    # Shapes.
    def widen(self, value: Value) -> Value:
        """One value per lane."""
        if value.wide:
            return value
        if value.pattern is not None:
            first = Value(value.text, value.element)
            distances = Value(constant_vector(value.element, value.pattern), value.element, True, value.pattern)
            spread = self.binary("add", self.widen(first), distances)
            return Value(spread.text, spread.element, True, value.pattern)
        if value.is_literal:
            return Value(f"splat ({value.element} {value.text})", value.element, True)
        key = (value.text, value.element)
        found = self._splats.get(key)
        if found is None:
            one = type_of(value.element, True)
            first = self.emit(f"insertelement {one} poison, {value.typed}, i64 0", value.element, True)
            found = self.emit(
                f"shufflevector {one} {first.text}, {one} poison, <{LANES} x i32> zeroinitializer",
                value.element, True,
            )  # fmt: skip
            self._splats[key] = found
        return found

    def unify(self, *values: Value) -> tuple[Value, ...]:
        """All scalars, or all vectors."""
        if any(value.wide or value.pattern is not None for value in values):
            return tuple(self.widen(value) for value in values)
        return values

    def lane(self, value: Value, lane: int | str) -> Value:
        """The value of one lane."""
        if value.pattern is not None and not value.wide and lane != 0:
            value = self.widen(value)
        if not value.wide:
            return Value(value.text, value.element)
        return self.emit(f"extractelement {value.typed}, i32 {lane}", value.element, False)

    # Operations.
    def binary(self, opcode: str, a: Value, b: Value) -> Value:
        """An instruction of two operands of one type."""
        a, b = self.unify(a, b)
        return self.emit(f"{opcode} {a.typed}, {b.text}", a.element, a.wide)

    def compare(self, opcode: str, a: Value, b: Value) -> Value:
        """`icmp ...` or `fcmp ...`."""
        a, b = self.unify(a, b)
        return self.emit(f"{opcode} {a.typed}, {b.text}", "i1", a.wide)

    def select(self, condition: Value, yes: Value, no: Value) -> Value:
        """`yes` where the condition holds."""
        if condition.wide:
            yes, no = self.widen(yes), self.widen(no)
        else:
            yes, no = self.unify(yes, no)
        return self.emit(f"select {condition.typed}, {yes.typed}, {no.typed}", yes.element, yes.wide)

    def cast(self, opcode: str, value: Value, element: str) -> Value:
        """`zext`, `sitofp`, `bitcast` and their kin; nothing when the element stays."""
        if value.element == element:
            return value
        if value.pattern is not None:
            value = self.widen(value)
        if opcode == "bitcast" and value.is_literal and value.text.lstrip("-").isdigit():
            bits = int(value.text) & ((1 << BITS[element]) - 1)
            return Value(float_of_bits(bits, element), element)
        return self.emit(f"{opcode} {value.typed} to {type_of(element, value.wide)}", element, value.wide)

    def bits(self, value: Value) -> Value:
        """A float as the integer of its pattern."""
        return self.cast("bitcast", value, _INTEGER_OF.get(value.element, value.element))

    def resize(self, value: Value, element: str, signed: bool = False) -> Value:
        """An integer of another width."""
        have, want = BITS[value.element], BITS[element]
        if have == want:
            return value
        if value.pattern is not None:
            value = self.widen(value)
        return self.cast("trunc" if want < have else "sext" if signed else "zext", value, element)

    def cast_mask(self, condition: Value) -> Value:
        """A condition over lanes as a bit mask (lane 0 lowest)."""
        if not condition.wide:
            return self.select(condition, self.integer("i32", -1), self.integer("i32", 0))
        return self.emit(f"bitcast {condition.typed} to i32", "i32", False)

    def lanes(self, mask: Value) -> Value:
        """A bit mask as a condition over lanes."""
        return self.emit(f"bitcast {mask.typed} to <{LANES} x i1>", "i1", True)

    def integer(self, element: str, number: int) -> Value:
        """An integer literal, wrapped to its width."""
        width = BITS[element]
        if element == "i1":
            return Value("true" if number & 1 else "false", "i1")
        number &= (1 << width) - 1
        return Value(str(number - (1 << width) if number >> (width - 1) else number), element)

    def real(self, element: str, number: float) -> Value:
        """A float literal; `number` must be exact in `element`."""
        return Value(float_literal(number), element)

    def intrinsic(self, name: str, result: str, *values: Value, suffix: str = "", flags: str = "") -> Value:
        """`llvm.<name>` mangled with the first operand's type (and `suffix`); `flags` are further operands."""
        values = self.unify(*values)
        first = values[0]
        element = _MANGLED.get(first.element, first.element)
        mangled = f"v{LANES}{element}" if first.wide else element
        function = f"llvm.{name}{suffix.format(wide=f'v{LANES}' if first.wide else '')}.{mangled}"
        result_type = type_of(result, first.wide)
        arguments = ", ".join([*(value.typed for value in values), *([flags] if flags else [])])
        parameters = ", ".join([*(value.type for value in values), *([flags.split()[0]] if flags else [])])
        self.declare(function, f"declare {result_type} @{function}({parameters})")
        return self.emit(f"call {result_type} @{function}({arguments})", result, first.wide)

    def declare(self, name: str, text: str) -> None:
        """Note a declaration that the module needs once."""
        self.declarations.setdefault(name, text)
