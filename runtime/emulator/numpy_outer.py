"""Outer products of registers: many fused multiply-adds of the NumPy engine as one array operation.

In: the instructions of a block. Out: groups `d[i, j] = a[i] * b[j] + c[i, j]` of consecutive fma.rn.f32, and the
routine that computes one. Why: register-blocked matrix products consist of such groups; one call instead of R * C calls
of NumPy makes small launches several times faster, and the accumulators stay one array from step to step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .numpy_chunk import Array, Chunk, Values
from .ptx import Immediate, Instruction, Operand, Register

_F32, _F64 = np.dtype("f4"), np.dtype("f8")
_SMALLEST = 4
_WHOLE_ELEMENTS = 1 << 16
"""Groups with at most this many elements are computed at once (half a megabyte of f64), larger ones row by row."""


@dataclass(frozen=True, slots=True)
class OuterProduct:
    """Instructions [start, end) of a block; `accumulators` and `targets` row by row."""

    start: int
    end: int
    rows: tuple[Operand, ...]
    columns: tuple[Operand, ...]
    accumulators: tuple[Operand, ...]
    targets: tuple[Register, ...]


def find_outer_products(instructions: Sequence[Instruction]) -> dict[int, OuterProduct]:
    """Groups of at least four, by their first instruction."""
    groups = {}
    position = 0
    while position < len(instructions):
        found = max(
            (_group_at(instructions, position, common) for common in (1, 2)),
            key=lambda group: group.end - group.start,
        )
        if found.end - found.start >= _SMALLEST:
            groups[position] = found
            position = found.end
        else:
            position += 1
    return groups


def _eligible(instruction: Instruction) -> bool:
    return (
        instruction.opcode == "fma"
        and instruction.modifiers == ("rn", "f32")
        and instruction.guard is None
        and all(isinstance(operand, Register) for operand in instruction.operands[:3])
        and isinstance(instruction.operands[3], Register | Immediate)
    )


def _group_at(instructions: Sequence[Instruction], start: int, common: int) -> OuterProduct:
    """The largest group at `start` whose rows share operand `common` (1 or 2)."""
    other = 3 - common
    rows: list[Operand] = []
    columns: list[Operand] = []
    accumulators: list[Operand] = []
    targets: list[Operand] = []
    position = start
    while position < len(instructions) and _eligible(instructions[position]):
        shared = instructions[position].operands[common]
        row: list[Instruction] = []
        written = set(targets)
        while position + len(row) < len(instructions) and (not columns or len(row) < len(columns)):
            instruction = instructions[position + len(row)]
            if not _eligible(instruction) or instruction.operands[common] != shared:
                break
            target = instruction.operands[0]
            if target in written or written.intersection(instruction.operands[1:]):
                break
            written.add(target)
            row.append(instruction)
        factors = [instruction.operands[other] for instruction in row]
        if not row or (columns and factors != columns):
            break
        columns = columns or factors
        rows.append(shared)
        accumulators += [instruction.operands[3] for instruction in row]
        targets += [instruction.operands[0] for instruction in row]
        position += len(row)
    registers = tuple(target for target in targets if isinstance(target, Register))
    return OuterProduct(start, position, tuple(rows), tuple(columns), tuple(accumulators), registers)


def stack(chunk: Chunk, dtype: np.dtype[Any], values: Sequence[Values]) -> Array:
    """Values over threads as rows of one array."""
    result = np.empty((len(values), chunk.threads), dtype)
    for row, value in enumerate(values):
        result[row] = value
    return result


def fma_outer(chunk: Chunk, rows: Array, columns: Array, accumulators: Array) -> Array:
    """`accumulators[i * C + j] + rows[i] * columns[j]`; factors in f64, rounded as by `fma_f32`."""
    count, width, threads = len(rows), len(columns), chunk.threads
    shape = (count, width, threads)
    result = np.empty((count * width, threads), _F32)
    if result.size <= _WHOLE_ELEMENTS:
        total = np.multiply(rows[:, None], columns, chunk.room(result.size).reshape(shape))
        total += accumulators.reshape(shape)
        result.reshape(shape)[...] = total
        return result
    room = chunk.room(width * threads).reshape(width, threads)
    for row in range(count):
        part = slice(row * width, row * width + width)
        total = np.multiply(columns, rows[row], room)
        total += accumulators[part]
        result[part] = total
    return result
