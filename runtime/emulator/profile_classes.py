"""The class of every instruction, and the arithmetic it does.

In: a parsed instruction. Out: its class and operations. Why: a profile counts how often blocks run, so all of this
is known per block before the launch.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from .control_flow import Block
from .isa.structured_matrix import ORDERED, SPARSE
from .ptx import Instruction

_FLOATS = {"f16": "f16", "f16x2": "f16", "bf16": "f16", "bf16x2": "f16", "f32": "f32", "f32x2": "f32", "f64": "f64"}
_ARITHMETIC = ("add", "sub", "mul", "mad", "fma", "div", "min", "max", "abs", "neg")
_CLASSES: dict[str, str] = {
    **dict.fromkeys(("rcp", "sqrt", "rsqrt", "ex2", "lg2", "sin", "cos", "tanh"), "special function"),
    **dict.fromkeys(("mma", "wgmma", "wmma", "tcgen05"), "tensor core"),
    **dict.fromkeys(("setp", "set", "selp", "slct", "testp", "copysign"), "compare and select"),
    **dict.fromkeys(("bra", "brx", "ret", "exit", "call", "trap"), "control"),
    **dict.fromkeys(("bar", "barrier", "membar", "fence", "mbarrier", "griddepcontrol", "setmaxnreg"), "synchronise"),
    **dict.fromkeys(("shfl", "vote", "match", "redux", "activemask", "elect"), "warp"),
    **dict.fromkeys(("ldmatrix", "stmatrix", "movmatrix"), "matrix fragment"),
    **dict.fromkeys(("atom", "red"), "atomic"),
    "cvt": "convert", "mov": "move", "cvta": "move", "cp": "asynchronous copy",
}  # fmt: skip
_SPACES = ("global", "shared", "local", "param", "const")
_SHAPE = re.compile(r"m(\d+)n(\d+)k(\d+)")
_FACTORS = {
    "f16": "f16", "bf16": "bf16", "tf32": "tf32", "s8": "int8", "u8": "int8",
    **dict.fromkeys(("e4m3", "e5m2", "e3m2", "e2m3", "e2m1"), "f8"),
}  # fmt: skip


@dataclass(frozen=True)
class BlockCosts:
    """What one execution of a basic block does: instructions by class, floating-point operations of one thread by
    type, and tensor-core operations of one warp by the type of the factors.
    """

    instructions: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    tensor: Counter[str] = field(default_factory=Counter)


def costs(block: Block) -> BlockCosts:
    """Add up the instructions of `block`. Guarded ones count as executed."""
    found = BlockCosts()
    ender = [block.exit.instruction] if block.exit.instruction is not None else []
    for instruction in (*block.instructions, *ender):
        found.instructions[instruction_class(instruction)] += 1
        kind = _float_type(instruction)
        if kind:
            factor = 2 if instruction.opcode in ("fma", "mad") else 1
            packed = 2 if instruction.type.endswith("x2") else 1
            found.operations[kind] += factor * packed
        tensor = tensor_operations(instruction)
        if tensor is not None:
            found.tensor[tensor[0]] += tensor[1]
    return found


def instruction_class(instruction: Instruction) -> str:
    """One of the classes of a profile, for people."""
    opcode = instruction.opcode
    if opcode in ("ld", "ldu", "st"):
        named = {modifier.split("::")[0] for modifier in instruction.modifiers}
        space = next((name for name in _SPACES if name in named), "generic")
        return f"{'store' if opcode == 'st' else 'load'} {space}"
    if opcode in _ARITHMETIC:
        return _FLOATS.get(instruction.type, "integer")
    return _CLASSES.get(opcode, "integer")


def _float_type(instruction: Instruction) -> str:
    if instruction.opcode in ("add", "sub", "mul", "mad", "fma"):
        return _FLOATS.get(instruction.type, "")
    return ""


def tensor_operations(instruction: Instruction) -> tuple[str, int] | None:
    """(type of the factors, multiplications and additions of one warp) of an instruction of the tensor cores."""
    if instruction.opcode not in ("mma", "wgmma") and not (instruction.opcode == "wmma" and instruction.has("mma")):
        return None
    shape = next((found for m in instruction.modifiers if (found := _SHAPE.fullmatch(m))), None)
    if shape is None:
        return None
    rows, columns, depth = map(int, shape.groups())
    types = [m for m in instruction.modifiers if m in _FACTORS]
    kind = _FACTORS[types[1] if len(types) > 1 and types[0] == "f16" else types[0]] if types else "f16"
    share = 4 if instruction.opcode == "wgmma" else 1  # a warpgroup executes it together
    share *= 2 if instruction.has(SPARSE, ORDERED) else 1  # half of A is zeros, which take no time
    return kind, 2 * rows * columns * depth // share
