"""The data model of parsed PTX: modules, functions, variables, instructions and operands.

In: nothing. Out: plain dataclasses that the parser fills and every emulator engine reads. Why: one front end
serves the NumPy engine and any faster one; nothing here knows how an instruction is executed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

TYPE_BITS: dict[str, int] = {
    "b8": 8, "u8": 8, "s8": 8,
    "b16": 16, "u16": 16, "s16": 16, "f16": 16, "bf16": 16,
    "b32": 32, "u32": 32, "s32": 32, "f32": 32, "tf32": 32, "f16x2": 32, "bf16x2": 32, "u16x2": 32, "s16x2": 32,
    "b64": 64, "u64": 64, "s64": 64, "f64": 64, "f32x2": 64,
    "b128": 128,
    "e4m3": 8, "e5m2": 8, "e4m3x2": 16, "e5m2x2": 16, "e2m1x2": 8, "e2m3x2": 16, "e3m2x2": 16,
    "e2m1": 4, "e2m3": 6, "e3m2": 6, "s4": 4, "u4": 4, "b1": 1, "pred": 1,
}  # fmt: skip
"""Width in bits of every fundamental type a modifier can name."""

SPECIAL_REGISTERS = frozenset({
    "%tid", "%ntid", "%ctaid", "%nctaid", "%laneid", "%warpid", "%nwarpid", "%gridid", "%smid", "%nsmid",
    "%lanemask_eq", "%lanemask_le", "%lanemask_lt", "%lanemask_ge", "%lanemask_gt", "%clock", "%clock_hi",
    "%clock64", "%globaltimer", "%globaltimer_lo", "%globaltimer_hi", "%total_smem_size", "%dynamic_smem_size",
    "%aggr_smem_size", "%clusterid", "%nclusterid", "%cluster_ctaid", "%cluster_nctaid", "%cluster_ctarank",
    "%cluster_nctarank", "%is_explicit_cluster",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Register:
    """A virtual register after scoping; `name` is unique in its function."""

    name: str


@dataclass(frozen=True, slots=True)
class Special:
    """A read-only special register such as `%tid.x` (`component` is empty for scalars)."""

    name: str
    component: str


@dataclass(frozen=True, slots=True)
class Immediate:
    """A literal. `bits` is the raw pattern of a float literal of `width` bits, or a signed integer with
    `width` 0.
    """

    bits: int
    width: int


@dataclass(frozen=True, slots=True)
class Symbol:
    """A variable, parameter, function or label name."""

    name: str


@dataclass(frozen=True, slots=True)
class Address:
    """`[base + offset]`, with the offset in bytes. `coordinates` is set in tensor-map forms only."""

    base: Operand
    offset: int
    coordinates: tuple[Operand, ...] = ()


@dataclass(frozen=True, slots=True)
class Vector:
    """`{a, b, ...}`, or a parenthesised list of a call."""

    elements: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """`p|q`: two destinations of one instruction."""

    first: Operand
    second: Operand


@dataclass(frozen=True, slots=True)
class Negated:
    """`!p`: a predicate read inverted."""

    operand: Operand


@dataclass(frozen=True, slots=True)
class Discard:
    """`_`: a destination that nobody wants."""


Operand = Register | Special | Immediate | Symbol | Address | Vector | Pair | Negated | Discard


@dataclass(frozen=True, slots=True)
class Instruction:
    """One PTX instruction.

    `opcode` is the first word (`ld`), `modifiers` the rest (`global`, `v4`, `f32`). `guard` is the predicate register
    of `@p` or `@!p` (`guard_negated`). `line` counts from 1 in the module's text.
    """

    opcode: str
    modifiers: tuple[str, ...]
    operands: tuple[Operand, ...]
    guard: Register | None
    guard_negated: bool
    line: int

    @property
    def name(self) -> str:
        """The full dotted name, as written."""
        return ".".join((self.opcode, *self.modifiers))

    @property
    def type(self) -> str:
        """The last type among the modifiers; `b32` when there is none."""
        for modifier in reversed(self.modifiers):
            if modifier in TYPE_BITS:
                return modifier
        return "b32"

    @property
    def types(self) -> tuple[str, ...]:
        """All types among the modifiers, in order."""
        return tuple(modifier for modifier in self.modifiers if modifier in TYPE_BITS)

    def has(self, *modifiers: str) -> bool:
        """Whether any of `modifiers` stands on this instruction."""
        own = self.modifiers
        for modifier in modifiers:  # noqa: SIM110 - asked so often that a generator would cost more than the answer
            if modifier in own:
                return True
        return False

    def first_of(self, *candidates: str) -> str:
        """The first modifier that is one of `candidates`, or an empty string."""
        return next((modifier for modifier in self.modifiers if modifier in candidates), "")


@dataclass(frozen=True, slots=True)
class Label:
    """A position in a function body that branches name."""

    name: str


@dataclass(slots=True)
class Variable:
    """A declared variable or parameter.

    `space` is global, const, shared, local or param; `nbytes` is 0 for an unsized extern array. `initial` lists (byte
    offset, width in bytes, value), where a value is raw bits or the name of another variable whose address is meant.
    """

    name: str
    space: str
    type: str
    nbytes: int
    alignment: int
    external: bool = False
    initial: list[tuple[int, int, int | str]] = field(default_factory=list)
    line: int = 0


@dataclass(slots=True)
class Function:
    """An entry or a device function: typed registers, variables, and a body of labels and instructions.

    `block_shape` is `.reqntid` (or `.maxntid`) when given; `block_required` says which of the two it was.
    `cluster_shape` is `.reqnctapercluster`; `cluster_required` says that there must be one (`.explicitcluster`).
    """

    name: str
    entry: bool
    line: int
    parameters: list[Variable] = field(default_factory=list)
    results: list[Variable] = field(default_factory=list)
    registers: dict[str, str] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)
    body: list[Label | Instruction] = field(default_factory=list)
    branch_targets: dict[str, tuple[str, ...]] = field(default_factory=dict)
    block_shape: tuple[int, int, int] | None = None
    block_required: bool = False
    cluster_shape: tuple[int, int, int] | None = None
    cluster_required: bool = False
    defined: bool = False


_ORIGIN = re.compile(r"// in (\d+): (\S+)")


@dataclass(slots=True)
class Module:
    """A parsed PTX module: `functions` and module-level `variables` by name, and its `source` for messages."""

    functions: dict[str, Function]
    variables: dict[str, Variable]
    source: str
    target: str

    def text(self, line: int) -> str:
        """The source of `line` (1-based), stripped; and the operation of the tile program that it comes from, where
        comments of the compiler tell."""
        lines = self.source.splitlines()
        if not 0 < line <= len(lines):
            return ""
        for number in range(line - 1, -1, -1):
            above = lines[number].strip()
            mark = _ORIGIN.fullmatch(above)
            if mark:
                return f"{lines[line - 1].strip()}  (line {mark[1]} of the tile program: {mark[2]})"
            if above == "{":
                break
        return lines[line - 1].strip()
