"""Instructions that look across the lanes of a warp.

In: shfl, vote, match, redux, activemask, elect, bar.warp. Out: calls of engine routines of the same meaning.
Why: only the operand forms differ between PTX versions; the engine gets one form of each.
"""

from __future__ import annotations

from ..ptx import Discard, Immediate, Instruction, Pair
from . import operation
from .emitter import Emitter

_ALL_LANES = Immediate(0xFFFFFFFF, 0)


@operation("shfl")
def shuffle(instruction: Instruction, emit: Emitter) -> None:
    target, source, lane, clamp = instruction.operands[:4]
    mode = instruction.first_of("up", "down", "bfly", "idx")
    register, predicate = (target.first, target.second) if isinstance(target, Pair) else (target, Discard())
    results = ["b32"] if isinstance(predicate, Discard) else ["b32", "pred"]
    values = [emit.read(source, "b32"), emit.read(lane, "u32"), emit.read(clamp, "u32")]
    answers = emit.call("shuffle", results, values, mode=mode, with_predicate=len(results) == 2)
    if not isinstance(register, Discard):
        emit.write(register, "b32", answers[0])
    if len(answers) == 2:
        emit.write(predicate, "pred", answers[1])


@operation("vote")
def vote(instruction: Instruction, emit: Emitter) -> None:
    mode = instruction.first_of("all", "any", "uni", "ballot")
    members = instruction.operands[2] if len(instruction.operands) > 2 else _ALL_LANES
    type = "b32" if mode == "ballot" else "pred"
    values = [emit.read(instruction.operands[1], "pred"), emit.read(members, "u32")]
    emit.write(instruction.operands[0], type, emit.call("vote", [type], values, mode=mode)[0])


@operation("match")
def match(instruction: Instruction, emit: Emitter) -> None:
    target = instruction.operands[0]
    mode = instruction.first_of("any", "all")
    type = instruction.type
    register, predicate = (target.first, target.second) if isinstance(target, Pair) else (target, Discard())
    values = [emit.read(instruction.operands[1], type), emit.read(instruction.operands[2], "u32")]
    answers = emit.call("match", ["b32", "pred"], values, mode=mode)
    emit.write(register, "b32", answers[0])
    if not isinstance(predicate, Discard):
        emit.write(predicate, "pred", answers[1])


@operation("redux")
def reduce_across_warp(instruction: Instruction, emit: Emitter) -> None:
    mode = instruction.first_of("add", "min", "max", "and", "or", "xor")
    type = instruction.type
    members = instruction.operands[2] if len(instruction.operands) > 2 else _ALL_LANES
    values = [emit.read(instruction.operands[1], type), emit.read(members, "u32")]
    nan, absolute = instruction.has("NaN"), instruction.has("abs")
    emit.write(
        instruction.operands[0],
        type,
        emit.call("redux", [type], values, mode=mode, nan=nan, absolute=absolute)[0],
    )


@operation("activemask")
def active_mask(instruction: Instruction, emit: Emitter) -> None:
    emit.write(instruction.operands[0], "b32", emit.call("active_mask", ["b32"], [])[0])


@operation("elect")
def elect(instruction: Instruction, emit: Emitter) -> None:
    target, members = instruction.operands
    assert isinstance(target, Pair)
    leader, elected = emit.call("elect", ["b32", "pred"], [emit.read(members, "u32")])
    if not isinstance(target.first, Discard):
        emit.write(target.first, "b32", leader)
    emit.write(target.second, "pred", elected)


@operation("bar", "barrier", destinations=0)
def warp_barrier(instruction: Instruction, emit: Emitter) -> None:
    """bar.warp.sync: the scheduler brings the lanes of a warp together before it. Also barrier.cluster.arrive.
    Block-wide barriers and barrier.cluster.wait end a block and never get here.
    """
    if instruction.has("cluster"):
        emit.call("cluster_arrive", [], [], relaxed=instruction.has("relaxed"))
