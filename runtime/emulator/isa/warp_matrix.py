"""wmma: the matrix fragments of CUDA's own header (nvcuda::wmma).

In: wmma.load, wmma.mma, wmma.store. Out: calls of the engine's `load`, `store` and `mma` routines. Why: how a fragment
lies in registers is nobody's business but these instructions'; with the layouts of mma.sync, which is what the hardware
does too, a product is one or two of those, and fragments are ordinary loads and stores.

A product whose left factor has 8 rows is made as the transposed one. A `left` fragment has blocks of 16 rows (of M), a
`right` one blocks of 8 columns (of N); in each, lane 4g + t holds line g, and of every four words along k the one at t.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..ptx import TYPE_BITS, Immediate, Instruction, Operand, Special, Vector
from . import operation
from .emitter import Emitter, Value
from .matrix import MMA_FORMS
from .memory import address_operand, space_of

_SHAPE = re.compile(r"m(\d+)n(\d+)k(\d+)")
_PRODUCTS = {
    "f16": "m16n8k16", "bf16": "m16n8k16", "tf32": "m16n8k8", "s8": "m16n8k16", "u8": "m16n8k16",
    "f64": "m8n8k4", "s4": "m8n8k32", "u4": "m8n8k32", "b1": "m8n8k128",
}  # fmt: skip
"""The shape of mma.sync that makes a product of these elements."""
_SHAPES = {
    **dict.fromkeys(("f16", "bf16", "s8", "u8"), ("m16n16k16", "m32n8k16", "m8n32k16")), "tf32": ("m16n16k8",),
    "f64": ("m8n8k4",), "s4": ("m8n8k32",), "u4": ("m8n8k32",), "b1": ("m8n8k128",),
}  # fmt: skip


def _extents(shape: str) -> tuple[int, int, int]:
    """M, N and K of a shape."""
    found = _SHAPE.fullmatch(shape)
    assert found is not None
    m, n, k = map(int, found.groups())
    return m, n, k


@dataclass(frozen=True, slots=True)
class _Word:
    """`per` neighbouring elements of one line, from (`line` + g, `along` + per * t) of lane 4g + t on."""

    line: int
    along: int
    per: int


@dataclass(frozen=True, slots=True)
class _Fragments:
    """The fragments of one shape. `rows` and `columns` are those of the product as it is made, transposed where it is
    `turned`; `inner_rows` those of one mma.sync.
    """

    rows: int
    columns: int
    inner_rows: int
    depth: int
    turned: bool

    @classmethod
    def of(cls, shape: str, element: str) -> _Fragments:
        """Those of a product of `element`s."""
        rows, columns, depth = _extents(shape)
        inner_rows, _, _ = _extents(_PRODUCTS[element])
        turned = rows < columns
        rows, columns = (columns, rows) if turned else (rows, columns)
        return cls(rows, columns, inner_rows, depth, turned)

    def side(self, fragment: str) -> str:
        """`left` or `right` of fragment a or b."""
        return "left" if (fragment == "a") != self.turned else "right"

    def factor(self, side: str, element: str) -> list[_Word]:
        """The 32-bit (or f64) words of a factor, block after block."""
        per = max(1, 32 // TYPE_BITS[element])
        along = range(0, self.depth, 4 * per)
        if side == "right":
            return [_Word(column, k, per) for column in range(0, self.columns, 8) for k in along]
        halves = range(0, self.inner_rows, 8)
        return [
            _Word(row + half, k, per)
            for row in range(0, self.rows, self.inner_rows) for k in along for half in halves
        ]  # fmt: skip

    def sums(self) -> list[_Word]:
        """The pairs of C and D, block after block."""
        return [
            _Word(row + half, column, 2)
            for row in range(0, self.rows, self.inner_rows)
            for column in range(0, self.columns, 8)
            for half in range(0, self.inner_rows, 8)
        ]


@operation("wmma", destinations=lambda instruction: 0 if instruction.has("store") else 1)
def warp_matrix(instruction: Instruction, emit: Emitter) -> None:
    if instruction.has("load"):
        _load(instruction, emit)
    elif instruction.has("store"):
        _store(instruction, emit)
    else:
        _multiply(instruction, emit)


def _form(instruction: Instruction, emit: Emitter, element: str) -> _Fragments:
    shape = next((modifier for modifier in instruction.modifiers if _SHAPE.fullmatch(modifier)), "")
    if shape not in _SHAPES.get(element, ()):
        supported = ", ".join(f"{name} in {' '.join(shapes)}" for name, shapes in _SHAPES.items())
        emit.unsupported(f"this shape and these types; supported: {supported};")
    return _Fragments.of(shape, element)


_OF_SUMS = {"m16n16k8": "tf32", "m8n8k4": "f64", "m8n8k32": "s4", "m8n8k128": "b1"}
"""A type of factors for each shape of which C and D alone do not tell one."""


@dataclass(frozen=True, slots=True)
class _Memory:
    """Where a fragment lies in memory: offsets in elements of `bits` bits; `own` are those of each lane's first word;
    `contiguous` along the words."""

    emit: Emitter
    start: Value
    stride: Value
    own: Value
    bits: int
    contiguous: bool

    @classmethod
    def of(
        cls, emit: Emitter, place: Operand, stride: Operand, bits: int, per: int, contiguous: bool
    ) -> _Memory:  # fmt: skip
        """`place` is the address of the matrix, `stride` the elements from one of its rows or columns to the next."""
        address = address_operand(emit, place)
        start = emit.read(address.base, "u64")
        if address.offset:
            start = emit.apply("add", "u64", start, emit.constant("u64", address.offset))
        pitch = emit.bind(emit.convert("u32", "u64", emit.read(stride, "u32")))
        lane = emit.bind(emit.convert("u32", "u64", emit.read(Special("%laneid", ""), "u32")))
        line = emit.apply("shift_right", "u64", lane, emit.constant("u32", 2))
        along = emit.apply("and", "u64", lane, emit.constant("u64", 3))
        along = emit.apply("mul", "u64", along, emit.constant("u64", per))
        far, near = (line, along) if contiguous else (along, line)
        own = emit.apply("add", "u64", emit.apply("mul", "u64", far, pitch), near)
        return cls(emit, emit.bind(start), pitch, emit.bind(own), bits, contiguous)

    def address(self, word: _Word, element: int = 0) -> Value:
        """Of an element of each lane's word."""
        emit, along = self.emit, word.along + element
        far, near = (word.line, along) if self.contiguous else (along, word.line)
        offset = emit.apply("mul", "u64", self.stride, emit.constant("u64", far))
        offset = emit.apply("add", "u64", offset, emit.constant("u64", near))
        offset = emit.apply("add", "u64", offset, self.own)
        nbytes = emit.apply("mul", "u64", offset, emit.constant("u64", self.bits))
        nbytes = emit.apply("shift_right", "u64", nbytes, emit.constant("u32", 3))
        return emit.apply("add", "u64", self.start, nbytes)


def _memory(instruction: Instruction, emit: Emitter, fragment: str, element: str, form: _Fragments) -> _Memory:
    """The memory that a load or store names."""
    place = instruction.operands[0 if fragment == "d" else 1]
    by_rows = instruction.has("row")
    if fragment in "ab":
        contiguous = by_rows == (fragment == "a")
        lines = form.columns if form.side(fragment) == "right" else form.rows
        width = form.depth if contiguous else lines
    else:
        contiguous = by_rows != form.turned
        width = form.columns if contiguous else form.rows
    stride = instruction.operands[2] if len(instruction.operands) > 2 else Immediate(width, 0)
    per = 2 if fragment in "cd" else max(1, 32 // TYPE_BITS[element])
    return _Memory.of(emit, place, stride, TYPE_BITS[element], per, contiguous)


def _fragment_of(instruction: Instruction) -> str:
    return next(modifier for modifier in instruction.modifiers if modifier in ("a", "b", "c", "d"))


def _words(instruction: Instruction, emit: Emitter, fragment: str) -> tuple[_Fragments, list[_Word]]:
    element = instruction.type
    if fragment in "ab":
        form = _form(instruction, emit, element)
        return form, form.factor(form.side(fragment), element)
    shape = next((modifier for modifier in instruction.modifiers if _SHAPE.fullmatch(modifier)), "")
    form = _form(instruction, emit, _OF_SUMS.get(shape, "f16"))
    return form, form.sums()


def _elements(operand: Operand) -> tuple[Operand, ...]:
    return operand.elements if isinstance(operand, Vector) else (operand,)


def _load(instruction: Instruction, emit: Emitter) -> None:
    fragment, element = _fragment_of(instruction), instruction.type
    form, words = _words(instruction, emit, fragment)
    memory = _memory(instruction, emit, fragment, element, form)
    space = space_of(instruction, emit, instruction.operands[1])
    targets = _elements(instruction.operands[0])
    separate = TYPE_BITS[element] >= 32
    values: list[Value] = []
    for word in words:
        if memory.contiguous:
            count = word.per if separate else 1
            kind = element if separate else "b32"
            values += emit.call("load", [kind] * count, [memory.address(word)], space=space, type=kind)
            continue
        kind = element if separate else f"u{TYPE_BITS[element]}"
        parts = [
            emit.call("load", [kind], [memory.address(word, index)], space=space, type=kind)[0]
            for index in range(word.per)
        ]
        values += parts if separate else [emit.apply(f"concatenate_{len(parts)}", kind, *parts)]
    # Fragments of f16 have room for every element twice.
    for index, target in enumerate(targets):
        emit.write(target, element if separate else "b32", values[index % len(values)])


def _store(instruction: Instruction, emit: Emitter) -> None:
    element = instruction.type
    form, words = _words(instruction, emit, "d")
    memory = _memory(instruction, emit, "d", element, form)
    space = space_of(instruction, emit, instruction.operands[0])
    separate = TYPE_BITS[element] >= 32
    kind = f"b{TYPE_BITS[element]}"
    values = [emit.read(source, kind if separate else "b32") for source in _elements(instruction.operands[1])]
    for index, word in enumerate(words):
        own = values[2 * index : 2 * index + 2] if separate else [values[index]]
        if memory.contiguous:
            stored = kind if separate else "b32"
            emit.call("store", [], [memory.address(word), *own], space=space, type=stored)
            continue
        parts = own if separate else [emit.apply(half, "b32", own[0]) for half in ("low_half", "high_half")]
        for offset, part in enumerate(parts):
            emit.call("store", [], [memory.address(word, offset), part], space=space, type=kind)


def _multiply(instruction: Instruction, emit: Emitter) -> None:
    types = instruction.types
    # Products of halves name the types of D and C only.
    types = (types[0], "f16", "f16", types[1]) if len(types) == 2 else types
    total = types[0]
    form = _form(instruction, emit, types[1])
    if total != types[3] or (instruction.has("satfinite") and total != "s32"):
        emit.unsupported("a result of another type than C, and saturated floats")
    targets, *sources = (_elements(operand) for operand in instruction.operands[:4])
    factors: dict[str, tuple[str, list[Value]]] = {}
    for name, type, source in zip("ab", types[1:3], sources, strict=False):
        side = form.side(name)
        count, kind = len(form.factor(side, type)), "f64" if type == "f64" else "b32"
        factors[side] = type, [emit.read(element, kind) for element in source[:count]]
    packed = "b32" if total == "f16" else total
    sums = [emit.read(element, packed) for element in sources[2]]
    (left, left_words), (right, right_words) = factors["left"], factors["right"]
    counts = MMA_FORMS[_PRODUCTS[left], left, right, total]
    options: dict[str, object] = {"saturating": True} if instruction.has("satfinite") else {}
    if instruction.has("xor"):
        options["exclusive"] = True
    for row in range(len(left_words) // counts[0]):
        for column in range(len(right_words) // counts[1]):
            place = (row * (len(right_words) // counts[1]) + column) * counts[2]
            given = [
                *left_words[row * counts[0] : (row + 1) * counts[0]],
                *right_words[column * counts[1] : (column + 1) * counts[1]], *sums[place : place + counts[2]],
            ]  # fmt: skip
            results = emit.call("mma", [packed] * counts[2], given, counts=counts, a=left, b=right, c=total, **options)
            for target, value in zip(targets[place : place + counts[2]], results, strict=True):
                emit.write(target, packed, value)
