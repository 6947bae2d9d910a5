"""Addresses in a cluster: mapa and getctarank.

In: those instructions. Out: emitter calls. Why: how the rank of a block is written into an address is the engines'
agreement (`memory.RANK_SHIFT`), not PTX's.
"""

from __future__ import annotations

from ..ptx import Instruction
from . import operation
from .emitter import Emitter


@operation("mapa")
def map_address(instruction: Instruction, emit: Emitter) -> None:
    """The place in the shared memory of block `b` of the cluster that `a` is in its own."""
    target, source, rank = instruction.operands
    type = instruction.type
    value = emit.apply("map_shared_address", type, emit.read(source, type), emit.read(rank, "u32"))
    emit.write(target, type, value)


@operation("getctarank")
def rank_of_address(instruction: Instruction, emit: Emitter) -> None:
    """The rank of the block that an address of the cluster's shared memory lies in."""
    target, source = instruction.operands
    (rank,) = emit.call("rank_of_address", ["u32"], [emit.read(source, instruction.type)])
    emit.write(target, "u32", rank)
