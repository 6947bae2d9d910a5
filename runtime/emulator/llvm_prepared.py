"""Fragments of matrices prepared for products: widened to f32, and laid out in memory.

In: registers of fragments of A and B as vectors over the lanes. Out: places in the stack frame that hold them prepared,
for as long as the block goes on. Why: widening and transposing are paid once per fragment, not once per product.

Everything goes in pairs of neighbours along K. A prepared A holds the f32 values of its registers in order, each lane's
one after the other; a prepared B one vector of 16 per pair: for column n of 8, its two values. Of two neighbouring
tiles of B together there is one vector of 16 per k: in fours the even columns of the first, its odd ones, and the same
of the second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .llvm_module import call
from .llvm_operands import decoded
from .llvm_shuffles import HALF
from .llvm_values import LANES, Code, Value, type_of

if TYPE_CHECKING:
    from .llvm_codegen import Generator

_WORDS = type_of("i32", True)
VECTOR = f"<{HALF} x float>"
ELEMENTS_PER_WORD = {"f16": 2, "bf16": 2, "tf32": 1, "s8": 4, "u8": 4, "e4m3": 4, "e5m2": 4}
_PREPARED_AT_ONCE = 16
"""Fragments of A, and of B, that a block keeps prepared: what a host's innermost cache holds beside other data."""


@dataclass(frozen=True, slots=True)
class Shape:
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
        code.line(f"{name} = fpext <{HALF} x half> {piece} to {VECTOR}")
        return name
    words = code.name()
    if type == "bf16":
        wide = code.name()
        code.line(f"{wide} = zext <{HALF} x i16> {piece} to <{HALF} x i32>")
        code.line(f"{words} = shl <{HALF} x i32> {wide}, splat (i32 16)")
        code.line(f"{name} = bitcast <{HALF} x i32> {words} to {VECTOR}")
        return name
    code.line(f"{words} = {'sext' if type == 's8' else 'zext'} <{HALF} x i8> {piece} to <{HALF} x i32>")
    code.line(f"{name} = sitofp <{HALF} x i32> {words} to {VECTOR}")
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
            code.line(f"{name} = bitcast <{HALF} x i32> {words} to {VECTOR}")
            found.append(name)
        return found
    (register,) = registers
    total = LANES * ELEMENTS_PER_WORD[type]
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
    code.line(f"store {VECTOR} {vector}, ptr {pointer}, align 64")


def prepare_left(code: Code, shape: Shape, type: str, registers: Sequence[Value]) -> None:
    """Of A, whose registers are two along M for each along K."""
    for part in range(shape.parts):
        for below in (0, 1):
            chosen = registers[below::2] if type == "tf32" else [registers[2 * part + below]]
            for index, vector in enumerate(_lane_values(code, type, chosen)):
                _store(code, vector, (2 * part + below) * shape.part_bytes + 64 * index)
    code.line("ret void")


def _right_vectors(code: Code, shape: Shape, type: str, registers: Sequence[Value]) -> list[str]:
    """Of a fragment of B: for each of `shape.pairs()`, the pairs of all columns."""
    found = []
    for part in range(shape.parts):
        chosen = registers if type == "tf32" else registers[part : part + 1]
        vectors = _lane_values(code, type, [_by_column(code, register) for register in chosen])
        if shape.lane_pairs == 2:
            vectors = [_alternate(code, vectors[at], vectors[at + 1], pair) for at in range(0, 8, 2) for pair in (0, 1)]
        found.extend(vectors)
    return found


def prepare_right(code: Code, shape: Shape, type: str, registers: Sequence[Value]) -> None:
    """Of B, alone."""
    for index, vector in enumerate(_right_vectors(code, shape, type, registers)):
        _store(code, vector, 64 * index)
    code.line("ret void")


def _alternate(code: Code, low: str, high: str, pair: int) -> str:
    """Every other pair of two vectors."""
    indices = ", ".join(f"i32 {4 * column + 2 * pair + element}" for column in range(8) for element in (0, 1))
    name = code.name()
    code.line(f"{name} = shufflevector {VECTOR} {low}, {VECTOR} {high}, <{HALF} x i32> <{indices}>")
    return name


def prepare_pair(code: Code, shape: Shape, type: str, registers: Sequence[Value]) -> None:
    """Of B: the registers of one tile, then those of its neighbour."""
    half = len(registers) // 2
    tiles = [_right_vectors(code, shape, type, part) for part in (registers[:half], registers[half:])]
    for index, (first, second) in enumerate(zip(*tiles, strict=True)):
        for element in (0, 1):
            order = [start + 2 * (2 * t + odd) + element for start in (0, HALF) for odd in (0, 1) for t in range(4)]
            indices = ", ".join(f"i32 {place}" for place in order)
            name = code.name()
            code.line(f"{name} = shufflevector {VECTOR} {first}, {VECTOR} {second}, <{HALF} x i32> <{indices}>")
            _store(code, name, 64 * (2 * index + element))
    code.line("ret void")


def prepared(
    emit: Generator, side: str, shape: Shape, type: str, words: Sequence[Value],
    prepare: Callable[[Code, Shape, str, Sequence[Value]], None],
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


def multiply_add(code: Code, a: str, b: str, total: str | None) -> str:
    """16 products, added to `total` when there is one."""
    name = code.name()
    if total is None:
        code.line(f"{name} = fmul {VECTOR} {a}, {b}")
        return name
    function = f"llvm.fma.v{HALF}f32"
    code.declare(function, f"declare {VECTOR} @{function}({VECTOR}, {VECTOR}, {VECTOR})")
    code.line(f"{name} = call {VECTOR} @{function}({VECTOR} {a}, {VECTOR} {b}, {VECTOR} {total})")
    return name


def broadcast(code: Code, base: str, offset: int) -> str:
    """A float `offset` bytes from `base` in all of 16 lanes; the host does it in the multiply-add."""
    place, one, first, name = (code.name() for _ in range(4))
    code.line(f"{place} = getelementptr i8, ptr {base}, i64 {offset}")
    code.line(f"{one} = load float, ptr {place}, align 4")
    code.line(f"{first} = insertelement {VECTOR} poison, float {one}, i64 0")
    code.line(f"{name} = shufflevector {VECTOR} {first}, {VECTOR} poison, <{HALF} x i32> zeroinitializer")
    return name


def turned_quarters(code: Code, rows: Sequence[str]) -> list[str]:
    """Four vectors of four quarters, transposed."""
    found = []
    for low in (0, 2):
        upper, lower = (_quarters(code, a, b, (low, low + 1, low + 4, low + 5)) for a, b in (rows[:2], rows[2:]))
        found += [_quarters(code, upper, lower, (odd, odd + 2, odd + 4, odd + 6)) for odd in (0, 1)]
    return found


def _quarters(code: Code, a: str, b: str, chosen: Sequence[int]) -> str:
    return _shuffled(code, a, b, [4 * quarter + lane for quarter in chosen for lane in range(4)])


def turned_inside(code: Code, rows: Sequence[str]) -> list[str]:
    """Four vectors, each quarter of which is transposed: with lane 4q + r of vector t in lane 4q + t of vector r."""
    pairs = [
        [_interleaved(code, rows[t], rows[t + 2], low) for low in (0, 2)] for t in (0, 1)
    ]  # lanes r and r + 1 of t and t + 2 in turn
    return [_interleaved(code, pairs[0][r // 2], pairs[1][r // 2], 2 * (r % 2)) for r in range(4)]


def _interleaved(code: Code, a: str, b: str, low: int) -> str:
    """Two lanes of each quarter, in turn from `a` and `b`."""
    return _shuffled(code, a, b, [4 * q + low + lane + side for q in range(4) for lane in (0, 1) for side in (0, HALF)])


def _shuffled(code: Code, a: str, b: str, lanes: Sequence[int]) -> str:
    indices = ", ".join(f"i32 {lane}" for lane in lanes)
    name = code.name()
    code.line(f"{name} = shufflevector {VECTOR} {a}, {VECTOR} {b}, <{HALF} x i32> <{indices}>")
    return name
