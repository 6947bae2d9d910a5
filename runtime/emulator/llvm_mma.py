"""mma.sync of the fast engine: fragments are prepared once, then multiplied as often as they are used.

In: the generator, fragments as vectors over the lanes. Out: the fragments of D. Why: with every row of A at hand as f32
in memory, and B as vectors of two rows by eight columns, a product is multiply-adds with broadcasts that loads do for
nothing; widening and transposing are paid once per fragment, not once per product. Layouts: PTX ISA, section on
mma.m16n8k16 and its neighbours.

Everything goes in pairs of neighbours along K. A prepared A holds the f32 values of its registers in order, each lane's
one after the other; a prepared B one vector of 16 per pair: for column n of 8, its two values.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .llvm_calls import mma_by_host
from .llvm_memory import result_type, return_words, taken_words
from .llvm_module import call
from .llvm_operands import decoded
from .llvm_operations import apply
from .llvm_shuffles import HALF, joined
from .llvm_values import LANES, Code, Value, type_of

if TYPE_CHECKING:
    from .llvm_codegen import Generator

_WORDS = type_of("i32", True)
_VECTOR = f"<{HALF} x float>"
_ELEMENTS_PER_WORD = {"f16": 2, "bf16": 2, "tf32": 1, "s8": 4, "u8": 4, "e4m3": 4, "e5m2": 4}
_ROWS = 16
_PREPARED_AT_ONCE = 16
"""Fragments of A, and of B, that a block keeps prepared: what a host's innermost cache holds beside other data."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """Of one mma: registers along K, elements of a 32-bit word."""

    registers: int
    elements: int

    @property
    def parts(self) -> int:
        """Registers of B that are prepared alone: those of one-element words go in pairs."""
        return self.registers if self.elements > 1 else 1

    @property
    def lane_pairs(self) -> int:
        """Pairs that a lane holds of such a part."""
        return max(self.elements, 2) // 2

    @property
    def part_bytes(self) -> int:
        """Of a prepared part."""
        return 8 * self.lane_pairs * LANES

    def pairs(self) -> list[tuple[int, int, int]]:
        """(part, lane of the group of four, pair of the lane) in the order of K; prepared B's vectors lie so."""
        return [
            (part, t, pair) for part in range(self.parts) for t in range(4) for pair in range(self.lane_pairs)
        ]  # fmt: skip

    def row_offset(self, row: int, part: int, t: int, pair: int) -> int:
        """Where the pair of a row lies in a prepared A, in bytes."""
        below, g = divmod(row, 8)
        return (2 * part + below) * self.part_bytes + 8 * ((4 * g + t) * self.lane_pairs + pair)


# Preparing.
def _slice(code: Code, text: str, kind: str, total: int, first: int, count: int) -> str:
    indices = ", ".join(f"i32 {first + index}" for index in range(count))
    name = code.name()
    vector = f"<{total} x {kind}>"
    code.line(f"{name} = shufflevector {vector} {text}, {vector} poison, <{count} x i32> <{indices}>")
    return name


def _widened(code: Code, type: str, piece: str) -> str:
    """16 neighbouring elements as f32; exact for every type."""
    if type in ("e4m3", "e5m2"):
        return decoded(code, type, piece, HALF)
    name = code.name()
    if type == "f16":
        code.line(f"{name} = fpext <{HALF} x half> {piece} to {_VECTOR}")
        return name
    words = code.name()
    if type == "bf16":
        wide = code.name()
        code.line(f"{wide} = zext <{HALF} x i16> {piece} to <{HALF} x i32>")
        code.line(f"{words} = shl <{HALF} x i32> {wide}, splat (i32 16)")
        code.line(f"{name} = bitcast <{HALF} x i32> {words} to {_VECTOR}")
        return name
    code.line(f"{words} = {'sext' if type == 's8' else 'zext'} <{HALF} x i8> {piece} to <{HALF} x i32>")
    code.line(f"{name} = sitofp <{HALF} x i32> {words} to {_VECTOR}")
    return name


_PACKED = {"f16": "half", "bf16": "i16", "s8": "i8", "u8": "i8", "e4m3": "i8", "e5m2": "i8"}


def _lane_values(code: Code, type: str, registers: Sequence[Value]) -> list[str]:
    """All values of a part as f32, lane after lane, 16 at a time. Of one-element words, each lane's value of the first
    register and then of the second (0 where there is none)."""
    if type == "tf32":
        kept = [code.binary("and", register, code.integer("i32", 0xFFFFE000)).text for register in registers]
        second = kept[1] if len(kept) > 1 else "zeroinitializer"
        found = []
        for first in range(0, LANES, HALF // 2):
            indices = ", ".join(f"i32 {first + lane}, i32 {LANES + first + lane}" for lane in range(HALF // 2))
            words, name = code.name(), code.name()
            code.line(f"{words} = shufflevector {_WORDS} {kept[0]}, {_WORDS} {second}, <{HALF} x i32> <{indices}>")
            code.line(f"{name} = bitcast <{HALF} x i32> {words} to {_VECTOR}")
            found.append(name)
        return found
    (register,) = registers
    total = LANES * _ELEMENTS_PER_WORD[type]
    packed = code.name()
    code.line(f"{packed} = bitcast {register.typed} to <{total} x {_PACKED[type]}>")
    pieces = [_slice(code, packed, _PACKED[type], total, first, HALF) for first in range(0, total, HALF)]
    return [_widened(code, type, piece) for piece in pieces]


def _by_column(code: Code, words: Value) -> Value:
    """Of B, lane 4n + t to lane 8t + n."""
    indices = ", ".join(f"i32 {4 * n + t}" for t in range(4) for n in range(8))
    return code.emit(f"shufflevector {words.typed}, {_WORDS} poison, <{LANES} x i32> <{indices}>", "i32", True)


def _store(code: Code, vector: str, place: int) -> None:
    pointer = code.name()
    code.line(f"{pointer} = getelementptr i8, ptr %target, i64 {place}")
    code.line(f"store {_VECTOR} {vector}, ptr {pointer}, align 64")


def _prepare_left(code: Code, shape: _Shape, type: str, registers: Sequence[Value]) -> None:
    """A's registers are two along M for each along K."""
    for part in range(shape.parts):
        for below in (0, 1):
            chosen = registers[below::2] if type == "tf32" else [registers[2 * part + below]]
            for index, vector in enumerate(_lane_values(code, type, chosen)):
                _store(code, vector, (2 * part + below) * shape.part_bytes + 64 * index)
    code.line("ret void")


def _prepare_right(code: Code, shape: _Shape, type: str, registers: Sequence[Value]) -> None:
    place = 0
    for part in range(shape.parts):
        chosen = registers if type == "tf32" else registers[part : part + 1]
        vectors = _lane_values(code, type, [_by_column(code, register) for register in chosen])
        if shape.lane_pairs == 2:
            vectors = [_alternate(code, vectors[at], vectors[at + 1], pair) for at in range(0, 8, 2) for pair in (0, 1)]
        for vector in vectors:
            _store(code, vector, place)
            place += 64
    code.line("ret void")


def _alternate(code: Code, low: str, high: str, pair: int) -> str:
    """Every other pair of two vectors."""
    indices = ", ".join(f"i32 {4 * column + 2 * pair + element}" for column in range(8) for element in (0, 1))
    name = code.name()
    code.line(f"{name} = shufflevector {_VECTOR} {low}, {_VECTOR} {high}, <{HALF} x i32> <{indices}>")
    return name


# Multiplying.
def _multiply_add(code: Code, a: str, b: str, total: str | None) -> str:
    name = code.name()
    if total is None:
        code.line(f"{name} = fmul {_VECTOR} {a}, {b}")
        return name
    function = f"llvm.fma.v{HALF}f32"
    code.declare(function, f"declare {_VECTOR} @{function}({_VECTOR}, {_VECTOR}, {_VECTOR})")
    code.line(f"{name} = call {_VECTOR} @{function}({_VECTOR} {a}, {_VECTOR} {b}, {_VECTOR} {total})")
    return name


def _broadcast_pair(code: Code, base: str, offset: int) -> str:
    """Two floats of A in every pair of 16 lanes; one load of the host."""
    place, both, first, spread, name = (code.name() for _ in range(5))
    code.line(f"{place} = getelementptr i8, ptr {base}, i64 {offset}")
    code.line(f"{both} = load double, ptr {place}, align 8")
    code.line(f"{first} = insertelement <{HALF // 2} x double> poison, double {both}, i64 0")
    code.line(
        f"{spread} = shufflevector <{HALF // 2} x double> {first}, <{HALF // 2} x double> poison, "
        f"<{HALF // 2} x i32> zeroinitializer"
    )
    code.line(f"{name} = bitcast <{HALF // 2} x double> {spread} to {_VECTOR}")
    return name


def _row_sums(code: Code, shape: _Shape, links: int, rows: Sequence[int]) -> list[str]:
    """For each row, the sums over even and over odd K of its products, column after column."""
    totals: dict[int, str] = {}
    for link, (index, (part, t, pair)) in itertools.product(range(links), enumerate(shape.pairs())):
        place, b = code.name(), code.name()
        code.line(f"{place} = getelementptr i8, ptr %right{link}, i64 {64 * index}")
        code.line(f"{b} = load {_VECTOR}, ptr {place}, align 64")
        for row in rows:
            a = _broadcast_pair(code, f"%left{link}", shape.row_offset(row, part, t, pair))
            totals[row] = _multiply_add(code, a, b, totals.get(row))
    return [totals[row] for row in rows]


def _columns(code: Code, sums: Sequence[str]) -> tuple[Value, Value]:
    """Of four rows' sums: columns 2t, and columns 2t + 1, lane 4 * row + t."""

    def shuffle(a: str, b: str, indices: list[int]) -> str:
        name = code.name()
        listed = ", ".join(f"i32 {index}" for index in indices)
        code.line(f"{name} = shufflevector {_VECTOR} {a}, {_VECTOR} {b}, <{HALF} x i32> <{listed}>")
        return name

    pairs = []
    for upper, lower in ((sums[0], sums[1]), (sums[2], sums[3])):
        # In 128 bits: columns 2t and 2t + 1 of one row, then of the next.
        even, odd = (
            shuffle(upper, lower, [row + 4 * t + 2 * column + parity
                                   for t in range(4) for row in (0, HALF) for column in (0, 1)])
            for parity in (0, 1)
        )  # fmt: skip
        name = code.name()
        code.line(f"{name} = fadd {_VECTOR} {even}, {odd}")
        pairs.append(name)
    first, second = (
        Value(shuffle(pairs[0], pairs[1], [row // 2 * HALF + 4 * t + 2 * (row % 2) + column
                                           for row in range(4) for t in range(4)]), "float")
        for column in (0, 1)
    )  # fmt: skip
    return first, second


def _product(code: Code, shape: _Shape, links: int) -> list[Value]:
    """The four vectors of the sum of A B in f32: rows g then g + 8, each with columns 2t and 2t + 1."""
    # As many rows at once as there are registers for.
    at_once = _ROWS if code.avx512 else 4
    sums: list[str] = []
    for first in range(0, _ROWS, at_once):
        sums.extend(_row_sums(code, shape, links, range(first, first + at_once)))
    quarters = [_columns(code, sums[first : first + 4]) for first in range(0, _ROWS, 4)]
    return [
        joined(code, quarters[2 * below][second], quarters[2 * below + 1][second])
        for below in (0, 1) for second in (0, 1)
    ]  # fmt: skip


def _finish(code: Code, products: list[Value], accumulators: Sequence[Value], type: str) -> list[Value]:
    """D + C, with C added last; as integers for s32, rounded once more for f16."""
    if type == "s32":
        return [
            code.binary("add", code.cast("fptosi", product, "i32"), accumulator)
            for product, accumulator in zip(products, accumulators, strict=True)
        ]
    if type == "f32":
        totals = [
            code.binary("fadd", product, code.cast("bitcast", accumulator, "float"))
            for product, accumulator in zip(products, accumulators, strict=True)
        ]
        return [code.bits(total) for total in totals]
    results = []
    for row, packed in enumerate(accumulators):
        halves_of_row = []
        for second, part in enumerate(("low_half", "high_half")):
            old = apply(code, "f16_to_f32", "b16", (apply(code, part, "b32", (packed,)),))
            total = code.binary("fadd", products[2 * row + second], old)
            halves_of_row.append(apply(code, "f32_to_f16", "f32", (total,)))
        results.append(apply(code, "pack_halves", "b16", (halves_of_row[0], halves_of_row[1])))
    return results


# The routine.
def mma(
    emit: Generator, results: Sequence[str], values: Sequence[Value], counts: tuple[int, int, int], a: str, b: str,
    c: str, **others: Any,
) -> list[Value]:  # fmt: skip
    """`counts` registers of A, B and C, of types `a`, `b`, `c`. Rare forms are left to the host."""
    if others or a not in _ELEMENTS_PER_WORD or b not in _ELEMENTS_PER_WORD:
        return mma_by_host(emit, results, values, counts=counts, a=a, b=b, c=c, **others)
    code = emit.code
    shape = _Shape(counts[1], _ELEMENTS_PER_WORD[b])
    words = [code.widen(code.bits(value)) for value in values]
    behind_a, behind_b = counts[0], counts[0] + counts[1]
    left = _prepared(emit, "left", shape, a, words[:behind_a], _prepare_left)
    right = _prepared(emit, "right", shape, b, words[behind_a:behind_b], _prepare_right)
    links = emit.fragments.link(emit.instruction, left, right)
    parts = _multiplied(emit, shape, links, words[behind_b:], c) if links else words[behind_b:]
    return [code.cast("bitcast", part, "float") for part in parts] if c == "f32" else parts


def _multiplied(
    emit: Generator, shape: _Shape, links: Sequence[tuple[str, str]], sums: Sequence[Value], type: str
) -> list[Value]:  # fmt: skip
    """D: the products of `links` (places of A and B), and the registers `sums` of C."""

    def build(body: Code) -> None:
        names = [Value(f"%x{index}", "i32", True) for index in range(len(sums))]
        return_words(body, _finish(body, _product(body, shape, len(links)), names, type))

    result = result_type("i32", len(sums))
    places = ", ".join(f"ptr %left{link}, ptr %right{link}" for link in range(len(links)))
    header = f"{result} @({places}" + "".join(f", {_WORDS} %x{index}" for index in range(len(sums))) + ")"
    name = emit.module.helper(f"mma_{shape.registers}_{shape.elements}_{type}_{len(links)}", header, build)
    given = [*(f"ptr {place}" for link in links for place in link), *(word.typed for word in sums)]
    return taken_words(emit.code, call(emit.code, result, name, ", ".join(given)), "i32", len(sums))


def _prepared(
    emit: Generator, side: str, shape: _Shape, type: str, words: Sequence[Value],
    prepare: Callable[[Code, _Shape, str, Sequence[Value]], None],
) -> str:  # fmt: skip
    """Where the fragment lies prepared; it is prepared now unless this block has done so."""
    slot, known = emit.fragments.find((side, type, *(word.text for word in words)), _PREPARED_AT_ONCE)
    if not known:
        arguments = "".join(f", {_WORDS} %x{index}" for index in range(len(words)))
        name = emit.module.helper(
            f"prepare_{side}_{len(words)}_{type}", f"void @(ptr %target{arguments})",
            lambda body: prepare(body, shape, type, [Value(f"%x{index}", "i32", True) for index in range(len(words))]),
        )  # fmt: skip
        call(emit.code, "void", name, f"ptr {slot}" + "".join(f", {word.typed}" for word in words))
    return slot
