"""What the sanitizer wants to know of a kernel before it runs.

In: a compiled kernel. Out: `KernelFacts`: the width of shadow cells, the PTX lines of accesses that are not plain,
the text of lines. Why: all of it follows from the instructions, once a kernel instead of once an access.
"""

from __future__ import annotations

from dataclasses import dataclass

from .control_flow import Program
from .ptx import TYPE_BITS, Immediate, Instruction, Module, Vector

_WIDEST = 16
_ACCESSES = ("ld", "ldu", "st", "atom", "red")
_RELEASES, _ACQUIRES = ("release", "acq_rel"), ("acquire", "acq_rel")
_STRONG = ("volatile", "relaxed", "acquire", "release", "acq_rel", "mmio")
_FIXED = {"ldmatrix": 16, "stmatrix": 16, "mbarrier": 8, "wgmma": 16}
"""Bytes of one shared access of instructions whose type does not say it."""


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """`shared_granule` and `global_granule` are the bytes of the narrowest access of each space; `strong` the lines
    of volatile, relaxed, acquire and release accesses, which do not race with each other. `flags`: strong accesses
    and fences may order others, and `releases` and `acquires` are the lines of those that are fences themselves;
    `noncoherent` those of loads through the cache that stores do not reach. `begins_early`: the kernel waits itself for
    those in front (griddepcontrol.wait), so that it may be launched while they run. `cluster_fences`: where there are
    relaxed arrivals at the cluster's barrier, the lines of fences that such an arrival may follow.
    """

    module: Module
    shared_granule: int
    global_granule: int
    strong: frozenset[int]
    releases: frozenset[int]
    acquires: frozenset[int]
    noncoherent: frozenset[int]
    flags: bool
    begins_early: bool
    cluster_fences: frozenset[int]

    @classmethod
    def of(cls, program: Program) -> KernelFacts:
        """Read the instructions of `program`."""
        instructions = [instruction for block in program.blocks for instruction in block.instructions]
        widths = [_width(instruction) for instruction in instructions]
        shared = min([width for width, in_shared, _ in widths if in_shared], default=_WIDEST)
        everywhere = min([width for width, _, in_global in widths if in_global], default=_WIDEST)
        touching = [instruction for instruction in instructions if instruction.opcode in _ACCESSES]
        strong = _lines(touching, "ld st", _STRONG)
        releases, acquires = _lines(touching, "", _RELEASES), _lines(touching, "", _ACQUIRES)
        fences = any(instruction.opcode in ("membar", "fence") for instruction in instructions)
        atomics = any(instruction.opcode in ("atom", "red") for instruction in instructions)
        flags = bool(strong or atomics) and (fences or bool(releases) or bool(acquires))
        noncoherent = _lines(touching, "ld ldu", ("nc",)) | _lines(touching, "ldu", ("global",))
        early = any(instruction.opcode == "griddepcontrol" and instruction.has("wait") for instruction in instructions)
        return cls(
            program.module, shared, everywhere, strong, releases, acquires, noncoherent, flags, early,
            _cluster_fences(instructions),
        )  # fmt: skip

    def describe(self, line: int) -> str:
        """The text of a PTX line."""
        return self.module.text(line)


def _cluster_fences(instructions: list[Instruction]) -> frozenset[int]:
    """Lines of the fences of at least a cluster, if one of its barriers is arrived at without release."""
    if not any(own.opcode == "barrier" and own.has("cluster") and own.has("relaxed") for own in instructions):
        return frozenset()
    return frozenset(
        own.line
        for own in instructions
        if (own.opcode == "membar" and own.has("gl", "sys"))
        or (own.opcode == "fence" and own.has("cluster", "gpu", "sys") and own.has("acq_rel", "sc", "release"))
        if not own.has("proxy", "mbarrier_init")
    )


def _lines(instructions: list[Instruction], opcodes: str, modifiers: tuple[str, ...]) -> frozenset[int]:
    """The lines of those with one of `modifiers` and, unless it is empty, one of `opcodes`."""
    return frozenset(
        instruction.line
        for instruction in instructions
        if instruction.has(*modifiers) and (not opcodes or instruction.opcode in opcodes.split())
    )


def _width(instruction: Instruction) -> tuple[int, bool, bool]:
    """(bytes of an access, whether it may be one of shared memory, of global memory)."""
    opcode = instruction.opcode
    if opcode in _FIXED:
        return _FIXED[opcode], True, False
    if opcode == "cp":
        return _copy_width(instruction), True, True
    if opcode == "tensormap":
        return 1, True, True
    if opcode not in ("ld", "ldu", "st", "atom", "red", "wmma"):
        return _WIDEST, False, False
    operand = instruction.operands[0 if opcode in ("ld", "ldu") else -1]
    count = len(operand.elements) if isinstance(operand, Vector) else 1
    width = min(_WIDEST, TYPE_BITS[instruction.type] // 8 * count)
    if opcode == "wmma":
        width = max(1, TYPE_BITS[instruction.type] // 8)
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
