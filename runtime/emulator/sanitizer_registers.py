"""Registers that wgmma works on: nobody may touch them before its wait, nor hand them over without a fence.

In: the blocks of a kernel. Out: pairs of PTX lines that break the rules. Why: wgmma.mma_async writes its
accumulators some time before `wgmma.wait_group` returns; the emulator writes them at once, so no answer shows a
missing wait.

A forward data-flow over the blocks. The state of an accumulator is how many groups were committed since the wgmma
that writes it (-1: its own group is still open); where paths meet, the newest counts. Beside it stands the set of
registers that other instructions wrote since the last wgmma.fence. Moves carry both along: ptxas turns them into
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .control_flow import Block, Program, register_names, uses_and_definitions
from .ptx import Immediate, Instruction, Vector

IN_FLIGHT, UNFENCED = "in flight", "unfenced"


@dataclass(frozen=True, slots=True)
class RegisterFault:
    """The instruction at PTX line `line` uses `register`, which the one at `earlier` works on (`IN_FLIGHT`), or
    wrote without a wgmma.fence between (`UNFENCED`; `earlier` 0: there was none before the first wgmma).
    """

    kind: str
    register: str
    line: int
    earlier: int


@dataclass(slots=True)
class _State:
    """`flying`: register -> (groups committed since, line of the wgmma); `written`: register -> line of its write;
    `fenced`: every path here has passed a wgmma.fence.
    """

    flying: dict[str, tuple[int, int]] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)
    fenced: bool = False

    def copy(self) -> _State:
        return _State(dict(self.flying), dict(self.written), self.fenced)

    def merge(self, other: _State) -> bool:
        """Take in another path; whether anything changed."""
        changed = self.fenced and not other.fenced
        self.fenced &= other.fenced
        for register, found in other.flying.items():
            mine = self.flying.get(register)
            if mine is None or found[0] < mine[0]:
                self.flying[register], changed = found, True
        for register, line in other.written.items():
            if register not in self.written:
                self.written[register], changed = line, True
        return changed


def register_faults(program: Program) -> list[RegisterFault]:
    """Every breach in `program`, once for each pair of lines."""
    if not any(_is(instruction, "mma_async") for block in program.blocks for instruction in block.instructions):
        return []
    entries: dict[int, _State] = {0: _State()}
    work = [0]
    while work:
        block = program.blocks[work.pop()]
        state = entries[block.number].copy()
        _follow(block, state, None)
        for target in block.exit.targets:
            if target >= len(program.blocks):
                continue
            if target not in entries:
                entries[target] = state.copy()
                work.append(target)
            elif entries[target].merge(state):
                work.append(target)
    faults: dict[tuple[str, int, int], RegisterFault] = {}
    for number, state in sorted(entries.items()):
        _follow(program.blocks[number], state.copy(), faults)
    return list(faults.values())


def _is(instruction: Instruction, word: str) -> bool:
    return instruction.opcode == "wgmma" and instruction.has(word)


def _follow(block: Block, state: _State, faults: dict[tuple[str, int, int], RegisterFault] | None) -> None:
    """Carry `state` through a block; breaches go into `faults` where that is given."""

    def report(kind: str, register: str, line: int, earlier: int) -> None:
        if faults is not None:
            faults.setdefault((kind, line, earlier), RegisterFault(kind, register, line, earlier))

    for instruction in block.instructions:
        if instruction.opcode == "wgmma":
            _warpgroup(instruction, state, report)
        elif instruction.opcode == "mov" and len(instruction.operands) == 2:
            _move(instruction, state)
        else:
            uses, definitions = uses_and_definitions(instruction)
            for register in (*uses, *definitions):
                if register in state.flying:
                    report(IN_FLIGHT, register, instruction.line, state.flying[register][1])
            for register in definitions:
                state.flying.pop(register, None)
                state.written[register] = instruction.line


def _move(instruction: Instruction, state: _State) -> None:
    """The target is what the source is; a constant is a write."""
    sources = register_names(instruction.operands[1])
    for target in register_names(instruction.operands[0]):
        state.flying.pop(target, None)
        state.written.pop(target, None)
        if not sources:
            state.written[target] = instruction.line
        for source in sources:
            if source in state.flying:
                state.flying[target] = state.flying[source]
            if source in state.written:
                state.written[target] = state.written[source]


def _warpgroup(instruction: Instruction, state: _State, report: Callable[[str, str, int, int], None]) -> None:
    if instruction.has("fence"):
        state.written.clear()
        state.fenced = True
    elif instruction.has("commit_group"):
        state.flying = {register: (age + 1, line) for register, (age, line) in state.flying.items()}
    elif instruction.has("wait_group"):
        operand = instruction.operands[0]
        pending = operand.bits if isinstance(operand, Immediate) else 0
        state.flying = {name: found for name, found in state.flying.items() if found[0] < pending}
    elif instruction.has("mma_async"):
        accumulators = register_names(instruction.operands[0])
        left = instruction.operands[1]
        factors = register_names(left) if isinstance(left, Vector) else []  # else a descriptor
        if not state.fenced:
            report(UNFENCED, accumulators[0], instruction.line, 0)
        for register in (*accumulators, *factors):
            if register in state.written:
                report(UNFENCED, register, instruction.line, state.written[register])
        for register in factors:
            if register in state.flying:
                report(IN_FLIGHT, register, instruction.line, state.flying[register][1])
        for register in accumulators:
            state.flying[register] = (-1, instruction.line)
