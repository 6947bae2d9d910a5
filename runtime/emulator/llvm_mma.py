"""mma.sync of the fast engine: fragments are prepared once, then multiplied as often as they are used.

In: the generator, fragments as vectors over the lanes. Out: the fragments of D. Why: with every row of A at hand as f32
in memory, and B as vectors of two rows by eight columns, a product is multiply-adds with broadcasts that loads do for
nothing. Layouts: PTX ISA, section on mma.m16n8k16 and its neighbours.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .llvm_calls import mma_by_host
from .llvm_memory import result_type, return_words, taken_words
from .llvm_module import call
from .llvm_operations import apply
from .llvm_pairs import add_pair
from .llvm_prepared import ELEMENTS_PER_WORD, VECTOR, Shape, multiply_add, prepare_left, prepare_right, prepared
from .llvm_shuffles import HALF, joined
from .llvm_values import IN_PLACE, Code, Value, type_of

if TYPE_CHECKING:
    from .llvm_codegen import Generator

_WORDS = type_of("i32", True)
_ROWS = 16


# Multiplying.
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
    code.line(f"{name} = bitcast <{HALF // 2} x double> {spread} to {VECTOR}")
    return name


def _row_sums(code: Code, shape: Shape, links: int, rows: Sequence[int]) -> list[str]:
    """For each row, the sums over even and over odd K of its products, column after column."""
    totals: dict[int, str] = {}
    for link, (index, (part, t, pair)) in itertools.product(range(links), enumerate(shape.pairs())):
        place, b = code.name(), code.name()
        code.line(f"{place} = getelementptr i8, ptr %right{link}, i64 {64 * index}")
        code.line(f"{b} = load {VECTOR}, ptr {place}, align 64")
        for row in rows:
            a = _broadcast_pair(code, f"%left{link}", shape.row_offset(row, part, t, pair))
            totals[row] = multiply_add(code, a, b, totals.get(row))
    return [totals[row] for row in rows]


def _columns(code: Code, sums: Sequence[str]) -> tuple[Value, Value]:
    """Of four rows' sums: columns 2t, and columns 2t + 1, lane 4 * row + t."""

    def shuffle(a: str, b: str, indices: list[int]) -> str:
        name = code.name()
        listed = ", ".join(f"i32 {index}" for index in indices)
        code.line(f"{name} = shufflevector {VECTOR} {a}, {VECTOR} {b}, <{HALF} x i32> <{listed}>")
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
        code.line(f"{name} = fadd {VECTOR} {even}, {odd}")
        pairs.append(name)
    first, second = (
        Value(shuffle(pairs[0], pairs[1], [row // 2 * HALF + 4 * t + 2 * (row % 2) + column
                                           for row in range(4) for t in range(4)]), "float")
        for column in (0, 1)
    )  # fmt: skip
    return first, second


def _product(code: Code, shape: Shape, links: int) -> list[Value]:
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
    if others or counts[0] != 2 * counts[1] or not ELEMENTS_PER_WORD.keys() >= {a, b}:
        return mma_by_host(emit, results, values, counts=counts, a=a, b=b, c=c, **others)
    code = emit.code
    shape = Shape(counts[1], ELEMENTS_PER_WORD[b])
    words = [code.widen(code.bits(value)) for value in values]
    rows, columns, sums = words[: counts[0]], words[counts[0] : sum(counts[:2])], words[sum(counts[:2]) :]
    if emit.fragments.is_paired(emit.instruction):
        add_pair(emit, shape, (a, b, c), rows, columns)
        parts = sums
    else:
        left = prepared(emit, "left", shape, a, rows, prepare_left)
        right = prepared(emit, "right", shape, b, columns, prepare_right)
        links = emit.fragments.link(emit.instruction, left, right)
        parts = _multiplied(emit, shape, links, sums, c) if links else sums
    if emit.fragments.stays(emit.instruction):
        return [IN_PLACE] * len(sums)
    return [code.cast("bitcast", part, "float") for part in parts] if c == "f32" else parts


def _multiplied(
    emit: Generator, shape: Shape, links: Sequence[tuple[str, str]], sums: Sequence[Value], type: str
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
