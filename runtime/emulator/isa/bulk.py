"""Bulk copies, which the tensor memory accelerator (TMA) makes: cp.async.bulk and cp.reduce.async.bulk.

In: those instructions. Out: calls of the engine's `bulk_copy`, `tensor_copy`, `bulk_commit` and `bulk_wait` routines.
Why: the operand lists depend on direction, completion, multicast and cache hint, and are sorted out here.
"""

from __future__ import annotations

from ..ptx import Instruction
from .emitter import Emitter


def bulk_copy(instruction: Instruction, emit: Emitter) -> None:
    emit.unsupported("bulk copies")
