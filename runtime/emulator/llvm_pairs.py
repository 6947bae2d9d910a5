"""Products of two neighbouring tiles with the same rows of A, on sums that stay where they are.

In: prepared fragments of A and of pairs of B (`llvm_prepared.py`), the places of the sums. Out: the sums changed. Why:
sixteen columns fill the host's vectors, so that each k of a row is one multiply-add whose broadcast its load does; and
sums of a whole loop are more than the host has registers for, so that passing them around is copying them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .llvm_module import call
from .llvm_prepared import (
    VECTOR,
    Shape,
    broadcast,
    multiply_add,
    prepare_left,
    prepare_pair,
    prepared,
    turned_quarters,
)
from .llvm_shuffles import HALF
from .llvm_values import Code, Value

if TYPE_CHECKING:
    from .llvm_codegen import Generator

_ROWS = 16
_REGISTERS = 4
"""Of the sums of one tile: rows g with columns 2t and with columns 2t + 1, then rows g + 8."""


def add_pair(
    emit: Generator, shape: Shape, types: tuple[str, str, str], rows: Sequence[Value], columns: Sequence[Value]
) -> None:  # fmt: skip
    """A product of a pair (of fragments `rows` of A, `columns` of B): all is done at the last one of both tiles."""
    fragments = emit.fragments
    others = fragments.partner(emit.instruction, columns)
    if others is None:
        return
    left = prepared(emit, "left", shape, types[0], rows, prepare_left)
    right = prepared(emit, "pair", shape, types[1], [*others, *columns], prepare_pair)
    links = fragments.link(emit.instruction, left, right)
    if not links:
        return
    numbers = fragments.sums(emit.instruction)
    emit.settle(numbers)

    def build(body: Code) -> None:
        _change_sums(body, _row_sums(body, shape, len(links)), types[2])
        body.line("ret void")

    places = [f"%left{link}, ptr %right{link}" for link in range(len(links))]
    places += [f"%sums{index}" for index in range(len(numbers))]
    header = "void @(" + ", ".join(f"ptr {place}" for place in places) + ")"
    name = emit.module.helper(f"mma_pair_{shape.registers}_{shape.elements}_{types[2]}_{len(links)}", header, build)
    given = [*(place for link in links for place in link), *(f"%r{number}" for number in numbers)]
    call(emit.code, "void", name, ", ".join(f"ptr {place}" for place in given))


def _row_sums(code: Code, shape: Shape, links: int) -> list[str]:
    """For each row its sums, in the order of columns of a prepared pair of B."""
    totals: list[str | None] = [None] * _ROWS
    for link in range(links):
        for index, (part, t, pair) in enumerate(shape.pairs()):
            for element in (0, 1):
                place, b = code.name(), code.name()
                code.line(f"{place} = getelementptr i8, ptr %right{link}, i64 {64 * (2 * index + element)}")
                code.line(f"{b} = load {VECTOR}, ptr {place}, align 64")
                for row in range(_ROWS):
                    offset = shape.row_offset(row, part, t, pair) + 4 * element
                    totals[row] = multiply_add(code, broadcast(code, f"%left{link}", offset), b, totals[row])
    return [total for total in totals if total is not None]


def _change_sums(code: Code, sums: Sequence[str], type: str) -> None:
    """Four rows at a time become sixteen lanes of four registers, two of each tile."""
    for first in range(0, _ROWS, 4):
        below, part = divmod(first // 4, 2)
        for index, total in enumerate(turned_quarters(code, sums[first : first + 4])):
            tile, odd = divmod(index, 2)
            place = code.name()
            register = _REGISTERS * tile + 2 * below + odd
            code.line(f"{place} = getelementptr i8, ptr %sums{register}, i64 {64 * part}")
            _add(code, place, total, type)


def _add(code: Code, place: str, total: str, type: str) -> None:
    """Sums of products to what lies at `place`: as integers for s32."""
    vector, opcode = (VECTOR, "fadd") if type == "f32" else (f"<{HALF} x i32>", "add")
    old, new = code.name(), code.name()
    if type != "f32":
        whole = code.name()
        code.line(f"{whole} = fptosi {VECTOR} {total} to {vector}")
        total = whole
    code.line(f"{old} = load {vector}, ptr {place}, align 64")
    code.line(f"{new} = {opcode} {vector} {total}, {old}")
    code.line(f"store {vector} {new}, ptr {place}, align 64")
