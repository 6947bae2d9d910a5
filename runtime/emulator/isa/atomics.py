"""Atomics and reductions: atom, red, their vector forms, and the stores that complete on an mbarrier.

In: atom, red, st.async, red.async. Out: calls of the engine's `atomic` and `store_async` routines. Why: vector forms
are one scalar operation an element (PTX promises no more), and the asynchronous forms differ in their operands only.
"""

from __future__ import annotations

from ..ptx import TYPE_BITS, Address, Discard, Instruction, Operand, Vector
from . import operation
from .emitter import Emitter
from .memory import OPERATIONS, address_operand, space_of, store_async

_HALVES = frozenset({"f16", "bf16", "f16x2", "bf16x2"})


def _storage(type: str) -> str:
    """The type to read and write registers with; halves are patterns."""
    return f"b{TYPE_BITS[type]}" if type in _HALVES else type


@operation("atom")
def atomic(instruction: Instruction, emit: Emitter) -> None:
    _atomic(instruction, emit, instruction.operands[0], instruction.operands[1:])


@operation("red", destinations=0)
def reduction(instruction: Instruction, emit: Emitter) -> None:
    if instruction.has("async"):
        store_async(instruction, emit)
    else:
        _atomic(instruction, emit, None, instruction.operands)


def _atomic(instruction: Instruction, emit: Emitter, target: Operand | None, operands: tuple[Operand, ...]) -> None:
    name, type = instruction.first_of(*OPERATIONS), instruction.type
    if not name or (type == "b128" and name not in ("exch", "cas")):
        emit.unsupported("this atomic operation")
    address, space = address_operand(emit, operands[0]), space_of(instruction, emit, operands[0])
    if isinstance(operands[1], Vector):
        columns: list[tuple[Operand, ...]] = [(element,) for element in operands[1].elements]
        targets: tuple[Operand | None, ...] = target.elements if isinstance(target, Vector) else (None,) * len(columns)
    else:
        columns, targets = [operands[1:]], (target,)
    for index, (column, result) in enumerate(zip(columns, targets, strict=True)):
        place = Address(address.base, address.offset + index * TYPE_BITS[type] // 8)
        values = [emit.address(place), *(emit.read(operand, _storage(type)) for operand in column)]
        wanted = result is not None and not isinstance(result, Discard)
        answers = emit.call(
            "atomic", [type] if wanted else [], values, space=space, type=type, operation=name, wanted=wanted
        )
        if wanted and result is not None:
            emit.write(result, _storage(type), answers[0])
