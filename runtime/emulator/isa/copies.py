"""Asynchronous copies: cp.async, and its arrival on an mbarrier.

In: instructions of the opcode `cp`. Out: calls of the engine's `copy_async` and `copies_arrive` routines; bulk copies
are passed on to `bulk.py`. Why: one opcode has a dozen meanings, which its modifiers tell apart here.
"""

from __future__ import annotations

from ..ptx import Immediate, Instruction, Register
from . import operation
from .bulk import bulk_copy
from .emitter import Emitter
from .memory import address_operand, space_of


@operation("cp", destinations=0)
def copy(instruction: Instruction, emit: Emitter) -> None:
    """cp.async may copy at once, which is a legal time; commit_group and wait_group then have nothing to do."""
    if "async" not in instruction.modifiers:
        emit.unsupported("this copy")
    if instruction.has("bulk"):
        bulk_copy(instruction, emit)
    elif instruction.has("mbarrier"):
        space = space_of(instruction, emit, instruction.operands[0])
        address = emit.address(address_operand(emit, instruction.operands[0]))
        emit.call("copies_arrive", [], [address], space=space, counted=not instruction.has("noinc"))
    elif not instruction.has("commit_group", "wait_group", "wait_all"):
        _copy_of_threads(instruction, emit)


def _copy_of_threads(instruction: Instruction, emit: Emitter) -> None:
    """`[shared], [global], bytes{, source bytes | predicate that ignores the source}{, cache policy}`."""
    target, source, size, *rest = instruction.operands
    assert isinstance(size, Immediate)
    values = [emit.address(address_operand(emit, operand)) for operand in (target, source)]
    if rest and isinstance(rest[0], Register) and emit.is_predicate(rest[0]):
        ignored = emit.read(rest[0], "pred")
        none, whole = emit.constant("u32", 0), emit.constant("u32", size.bits)
        values.append(emit.bind(emit.apply("select", "u32", ignored, none, whole)))
    elif len(rest) == 2 or (rest and not instruction.has("L2::cache_hint")):
        values.append(emit.read(rest[0], "u32"))
    emit.call("copy_async", [], values, nbytes=size.bits)
