"""wgmma: tensor-core products of a warpgroup, and setmaxnreg.

In: wgmma.fence, mma_async, commit_group, wait_group. Out: calls of the engine's `warpgroup_*` routines. Why: operand
lists depend on the element types and on where A lies; one table says what exists.
"""

from __future__ import annotations

from ..ptx import Immediate, Instruction, Vector
from . import operation
from .emitter import Emitter

_HALF_TYPES = ("e4m3", "e5m2")
_BYTE_TYPES = ("s8", "u8")
# (type of D, of A, of B) -> k of one instruction.
FORMS: dict[tuple[str, str, str], int] = {
    ("f32", "f16", "f16"): 16, ("f16", "f16", "f16"): 16, ("f32", "bf16", "bf16"): 16, ("f32", "tf32", "tf32"): 8,
    **{(d, a, b): 32 for d in ("f32", "f16") for a in _HALF_TYPES for b in _HALF_TYPES},
    **{("s32", a, b): 32 for a in _BYTE_TYPES for b in _BYTE_TYPES},
}  # fmt: skip
_MOST_COLUMNS = 256
_REGISTER_STEP, _FEWEST_REGISTERS, _MOST_REGISTERS = 8, 24, 256


def _destinations(instruction: Instruction) -> int:
    return 1 if instruction.has("mma_async") else 0


@operation("wgmma", destinations=_destinations, updates=True)
def warpgroup(instruction: Instruction, emit: Emitter) -> None:
    if instruction.has("mma_async"):
        _multiply(instruction, emit)
    elif instruction.has("fence"):
        emit.call("warpgroup_fence", [], [])
    elif instruction.has("commit_group"):
        emit.call("warpgroup_commit", [], [])
    else:
        groups = instruction.operands[0]
        assert isinstance(groups, Immediate)
        emit.call("warpgroup_wait", [], [], pending=groups.bits)


def _columns(instruction: Instruction, types: tuple[str, ...], emit: Emitter) -> int:
    """N of the shape m64nNk.., checked with the element types."""
    shape = next((modifier for modifier in instruction.modifiers if modifier.startswith("m64n")), "m64n0k0")
    columns, depth = shape[4:].split("k")
    number, step = int(columns), 8
    known = types in FORMS and int(depth) == FORMS[types]
    if types[:1] == ("s32",) and number > 32:
        step = 16
    if not known or number % step or not 8 <= number <= _MOST_COLUMNS or instruction.has("sp"):
        emit.unsupported(
            "this shape and these types; supported: m64nNk with N up to 256 and types "
            + ", ".join(f"{'.'.join(form)} with k{k}" for form, k in FORMS.items())
        )
    return number


def _multiply(instruction: Instruction, emit: Emitter) -> None:
    """`{D}, A descriptor | {A}, B descriptor, scale-d{, scale-a, scale-b{, transpose-a}{, transpose-b}}`."""
    types = instruction.types
    columns = _columns(instruction, types, emit)
    target, left, right, scale, *rest = instruction.operands
    assert isinstance(target, Vector)
    flags = []
    for operand in rest:
        assert isinstance(operand, Immediate)
        flags.append(operand.bits)
    in_registers = isinstance(left, Vector)
    negated = flags[:2].count(-1) == 1
    transposed = [bool(flag) for flag in flags[2:]]
    if len(transposed) == 1:
        transposed.insert(0, False)
    values = [emit.read(element, "b32") for element in left.elements] if isinstance(left, Vector) else []
    values += [] if in_registers else [emit.read(left, "b64")]
    values += [emit.read(right, "b64"), emit.read(scale, "pred")]
    expected = columns // (4 if types[0] == "f16" else 2)
    if len(target.elements) != expected:
        emit.unsupported(f"{len(target.elements)} accumulators instead of {expected}")
    emit.update(
        "warpgroup_multiply", target.elements, "f32", values, columns=columns, types=types, in_registers=in_registers,
        negated=negated, transposed=tuple(transposed) or (False, False), saturating=instruction.has("satfinite"),
    )  # fmt: skip


@operation("setmaxnreg", destinations=0)
def registers(instruction: Instruction, emit: Emitter) -> None:
    """setmaxnreg moves registers between warpgroups, of which there is no shortage here; its rules are checked."""
    count = instruction.operands[0]
    assert isinstance(count, Immediate)
    if count.bits % _REGISTER_STEP or not _FEWEST_REGISTERS <= count.bits <= _MOST_REGISTERS:
        emit.unsupported(f"a count of {count.bits} registers, which is no multiple of 8 from 24 to 256,")
