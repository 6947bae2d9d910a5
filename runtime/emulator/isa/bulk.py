"""Bulk copies, which the tensor memory accelerator (TMA) makes: cp.async.bulk and cp.reduce.async.bulk.

In: those instructions. Out: calls of the engine's `bulk_copy`, `tensor_copy`, `bulk_commit` and `bulk_wait` routines.
Why: the operand lists depend on direction, completion, multicast and cache hint, and are sorted out here.
"""

from __future__ import annotations

from ..ptx import Address, Immediate, Instruction, Operand, Vector
from .emitter import Emitter, Value
from .memory import address_operand

_SHARED = ("shared::cluster", "shared::cta")
_REDUCTIONS = ("add", "min", "max", "inc", "dec", "and", "or", "xor")
_MODES = ("tile", "im2col", "im2col_no_offs")


def bulk_copy(instruction: Instruction, emit: Emitter) -> None:
    """Any `cp.async.bulk...` or `cp.reduce.async.bulk...`."""
    if instruction.has("commit_group"):
        emit.call("bulk_commit", [], [])
    elif instruction.has("wait_group"):
        groups = instruction.operands[0]
        assert isinstance(groups, Immediate)
        emit.call("bulk_wait", [], [], pending=groups.bits, reading=instruction.has("read"))
    elif instruction.has("prefetch"):
        return
    elif instruction.has("tensor"):
        _tensor(instruction, emit)
    else:
        _run(instruction, emit)


def _extras(instruction: Instruction, emit: Emitter, operands: list[Operand]) -> list[Value]:
    """The multicast mask, which may be followed by a cache policy that nothing here reads."""
    if not instruction.has("multicast::cluster"):
        return []
    return [emit.read(operands[0], "u16")]


def _run(instruction: Instruction, emit: Emitter) -> None:
    """`[target], [source], bytes{, [mbarrier]}{, multicast mask}{, cache policy}`."""
    if instruction.has("cp_mask", "ignore_oob"):
        emit.unsupported("the byte mask")
    target, source, size, *rest = instruction.operands
    spaces = [modifier for modifier in instruction.modifiers if modifier in (*_SHARED, "global")]
    values = [emit.address(address_operand(emit, operand)) for operand in (target, source)]
    values.append(emit.read(size, "u32"))
    barrier = instruction.has("mbarrier::complete_tx::bytes")
    if barrier:
        values.append(emit.address(address_operand(emit, rest.pop(0))))
    emit.call(
        "bulk_copy", [], [*values, *_extras(instruction, emit, rest)], target_shared=spaces[0] in _SHARED,
        source_shared=spaces[1] in _SHARED, barrier=barrier, multicast=instruction.has("multicast::cluster"),
        operation=instruction.first_of(*_REDUCTIONS), type=instruction.type,
    )  # fmt: skip


def _tensor(instruction: Instruction, emit: Emitter) -> None:
    """Loads `[shared], [map, {coordinates}], [mbarrier]{, {offsets}}{, multicast mask}{, cache policy}`; stores and
    reductions `[map, {coordinates}], [shared]{, cache policy}`.
    """
    mode = next((modifier for modifier in instruction.modifiers if modifier.split("::")[0] in _MODES), "tile")
    if mode not in _MODES or instruction.has("cta_group::2"):
        emit.unsupported("this mode")
    rank = int(next(modifier for modifier in instruction.modifiers if modifier in ("1d", "2d", "3d", "4d", "5d"))[0])
    loading = instruction.has("mbarrier::complete_tx::bytes")
    first, second, *rest = instruction.operands
    tensor, shared = (second, first) if loading else (first, second)
    place = address_operand(emit, tensor)
    values = [emit.address(Address(place.base, place.offset)), emit.address(address_operand(emit, shared))]
    values += [emit.read(coordinate, "s32") for coordinate in place.coordinates]
    offsets: list[Value] = []
    if loading:
        barrier = emit.address(address_operand(emit, rest.pop(0)))
        if mode == "im2col" and rest and isinstance(rest[0], Vector):
            vector = rest.pop(0)
            assert isinstance(vector, Vector)
            offsets = [emit.read(offset, "u16") for offset in vector.elements]
        values += [*offsets, barrier]
    emit.call(
        "tensor_copy", [], [*values, *_extras(instruction, emit, rest)], rank=rank, offsets=len(offsets), mode=mode,
        loading=loading, multicast=instruction.has("multicast::cluster"), operation=instruction.first_of(*_REDUCTIONS),
    )  # fmt: skip
