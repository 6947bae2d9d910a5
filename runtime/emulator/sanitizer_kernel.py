"""What the sanitizer wants to know of a kernel before it runs.

In: a compiled kernel. Out: `KernelFacts`: the width of shadow cells, the PTX lines of accesses that are not plain,
the text of lines. Why: all of it follows from the instructions, once a kernel instead of once an access.
"""

from __future__ import annotations

from dataclasses import dataclass

from .control_flow import Program
from .ptx import TYPE_BITS, Immediate, Instruction, Module, Vector

_WIDEST = 16
_STRONG = ("volatile", "relaxed", "acquire", "release", "acq_rel", "mmio")
_FIXED = {"ldmatrix": 16, "stmatrix": 16, "mbarrier": 8, "wgmma": 16}
"""Bytes of one shared access of instructions whose type does not say it."""


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """`shared_granule` and `global_granule` are the bytes of the narrowest access of each space; `strong` the lines
    of volatile, relaxed, acquire and release accesses, which do not race with each other.
    """

    module: Module
    shared_granule: int
    global_granule: int
    strong: frozenset[int]

    @classmethod
    def of(cls, program: Program) -> KernelFacts:
        """Read the instructions of `program`."""
        shared, everywhere, strong = _WIDEST, _WIDEST, set()
        for block in program.blocks:
            for instruction in (*block.instructions, *([block.exit.instruction] if block.exit.instruction else [])):
                width, in_shared, in_global = _width(instruction)
                shared = min(shared, width if in_shared else _WIDEST)
                everywhere = min(everywhere, width if in_global else _WIDEST)
                if instruction.opcode in ("ld", "st") and instruction.has(*_STRONG):
                    strong.add(instruction.line)
        return cls(program.module, shared, everywhere, frozenset(strong))

    def describe(self, line: int) -> str:
        """The text of a PTX line."""
        return self.module.text(line)


def _width(instruction: Instruction) -> tuple[int, bool, bool]:
    """(bytes of an access, whether it may be one of shared memory, of global memory)."""
    opcode = instruction.opcode
    if opcode in _FIXED:
        return _FIXED[opcode], True, False
    if opcode == "cp":
        return _copy_width(instruction), True, True
    if opcode not in ("ld", "ldu", "st", "atom", "red"):
        return _WIDEST, False, False
    operand = instruction.operands[0 if opcode in ("ld", "ldu") else -1]
    count = len(operand.elements) if isinstance(operand, Vector) else 1
    width = min(_WIDEST, TYPE_BITS[instruction.type] // 8 * count)
    if instruction.has("shared", "shared::cta", "shared::cluster"):
        return width, True, False
    if instruction.has("global", "const"):
        return width, False, True
    if instruction.has("param", "local", "param::entry", "param::func"):
        return _WIDEST, False, False
    return width, True, True


def _copy_width(instruction: Instruction) -> int:
    """cp.async that may leave a part out reads single elements; bulk tensor copies move single elements too."""
    if instruction.has("bulk"):
        return 1 if instruction.has("tensor") else _WIDEST
    if len(instruction.operands) < 3 or not isinstance(instruction.operands[2], Immediate):
        return _WIDEST
    size = instruction.operands[2].bits
    return min(size, 4) if len(instruction.operands) > 3 else size
