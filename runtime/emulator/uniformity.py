"""Which registers all lanes of a warp share, and which blocks some lanes may skip.

In: a `control_flow.Program`. Out: a `Uniformity`. Why: an engine that runs a warp at a time keeps shared values, and
those that follow a pattern over the lanes (affine.py), in host scalars, and needs no masks where lanes cannot part.

Lanes are scheduled lowest block first, so lanes that part at a branch B meet again at its immediate post-dominator P
when every block between lies below P in layout order. A register that is written while some lanes are elsewhere is
shared only if those other lanes cannot see the write: see `_Analysis.part`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_

from .affine import KNOWN_OPERANDS, ZERO, Affine, Lanes, Pattern, State
from .control_flow import Block, Program, uses_and_definitions
from .ptx import TYPE_BITS, Address, Immediate, Instruction, Operand, Register, Special, Symbol, Vector

_VARYING_OPCODES = frozenset({"atom", "shfl", "match", "elect", "ldmatrix", "mma", "movmatrix", "wgmma", "wmma"})
"""Results differ between lanes whatever the operands are."""

_VARYING_SPECIALS = frozenset({
    "%tid", "%laneid", "%lanemask_eq", "%lanemask_le", "%lanemask_lt", "%lanemask_ge", "%lanemask_gt",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Uniformity:
    """`varying`: bit set of registers that differ between lanes in unknown ways. `patterns`: those that differ in
    known ones. `partial`: bit set of blocks that may run with some lanes only. `divergent`: bit set of blocks whose
    branch may part the lanes."""

    varying: int
    patterns: dict[int, Pattern]
    partial: int
    divergent: int

    def is_scalar(self, register: int) -> bool:
        """Whether lane 0's value of `register` tells those of all lanes."""
        return not self.varying >> register & 1

    def is_partial(self, block: int) -> bool:
        """Whether `block` may run with some lanes only."""
        return bool(self.partial >> block & 1)


def analyse(program: Program, affine: Affine) -> Uniformity:
    """The least set of varying registers that the rules allow."""
    return _Analysis(program, affine).run()


_UNWRITTEN = Lanes(ZERO, 0)


@dataclass(frozen=True, slots=True)
class _Step:
    """One instruction as the analysis sees it: registers as bit sets; `forced` when results vary anyway; `target` when
    it writes one integer register, and reads plain operands only."""

    instruction: Instruction
    used: int
    defined: int
    forced: bool
    target: int | None


def _mentions(operand: Operand) -> list[Operand]:
    if isinstance(operand, Vector):
        return [part for element in operand.elements for part in _mentions(element)]
    return [operand]


def _is_forced(instruction: Instruction, parameters: frozenset[str]) -> bool:
    """Whether results differ between lanes even when all operands are shared."""
    if instruction.opcode in _VARYING_OPCODES:
        return True
    if instruction.opcode == "mbarrier":
        # The token of each lane is what it found.
        return instruction.has("arrive", "arrive_drop")
    if instruction.opcode in ("ld", "ldu"):
        source = instruction.operands[1]
        if instruction.has("param", "param::entry", "param::func"):
            # Parameters of inlined calls live in local memory.
            base = source.base if isinstance(source, Address) else None
            return not (isinstance(base, Symbol) and base.name in parameters)
        return not instruction.has("global", "const", "shared", "shared::cta")
    return any(
        isinstance(part, Special) and part.name in _VARYING_SPECIALS
        for operand in instruction.operands
        for part in _mentions(operand)
    )


def _is_broadcast(instruction: Instruction) -> bool:
    """Whether all lanes of a warp get lane 0's value: a shuffle by which a kernel says that they share it."""
    if instruction.opcode != "shfl" or not instruction.has("idx") or instruction.guard is not None:
        return False
    literals = [operand.bits for operand in instruction.operands[2:] if isinstance(operand, Immediate)]
    return len(literals) == 3 and literals[:2] == [0, 31] and literals[2] & 0xFFFFFFFF == 0xFFFFFFFF


class _Analysis:
    def __init__(self, program: Program, affine: Affine) -> None:
        self.affine = affine
        self.blocks = program.blocks
        self.end = len(program.blocks)
        numbers = self.numbers = program.register_numbers
        parameters = frozenset(variable.name for variable in program.parameters)

        def bits(names: Sequence[str]) -> int:
            return reduce(or_, (1 << numbers[name] for name in names), 0)

        def step(instruction: Instruction) -> _Step:
            used, defined = uses_and_definitions(instruction)
            operands = instruction.operands
            plain = all(isinstance(operand, KNOWN_OPERANDS) for operand in operands[1:])
            alone = len(defined) == 1 and isinstance(operands[0], Register) and operands[0].name == defined[0]
            target = numbers[defined[0]] if plain and alone else None
            return _Step(instruction, bits(used), bits(defined), _is_forced(instruction, parameters), target)

        self.steps = [[step(instruction) for instruction in block.instructions] for block in self.blocks]
        enders = [block.exit.instruction for block in self.blocks]
        self.decides = [bits(uses_and_definitions(ender)[0]) if ender is not None else 0 for ender in enders]
        # A reducing barrier writes one value that the whole block shares.
        self.present = [block.live_in | block.defined for block in self.blocks]
        self.targets = [tuple(dict.fromkeys(block.exit.targets)) for block in self.blocks]
        self.after = [self.reach(targets, None) for targets in self.targets]
        self.joins = self.post_dominators()
        self.definitions = self.count_definitions()
        self.varying = self.partial = self.divergent = 0
        # What is known of each register so far; none for those that no instruction has been seen to write.
        self.known: dict[int, Lanes] = {}
        # Registers whose lanes are known to differ.
        self.patterned = 0
        self.types = program.register_types

    def run(self) -> Uniformity:
        before = (-1, -1)
        while before != (self.varying, self.divergent):
            before = (self.varying, self.divergent)
            self.spread()
            for block in self.blocks:
                if block.exit.kind in ("branch", "switch", "wait") and self.decides[block.number] & self.differing:
                    self.divergent |= 1 << block.number
            self.partial = 0
            for block in self.blocks:
                if self.divergent >> block.number & 1:
                    self.part(block)
        patterns = {number: value.pattern for number, value in self.known.items() if not self.varying >> number & 1}
        return Uniformity(
            self.varying, {number: pattern for number, pattern in patterns.items() if pattern != ZERO},
            self.partial, self.divergent,
        )  # fmt: skip

    @property
    def differing(self) -> int:
        """Registers that are not the same in all lanes."""
        return self.varying | self.patterned

    def spread(self) -> None:
        """Follow every instruction until nothing changes any more."""
        self.changed = True
        while self.changed:
            self.changed = False
            for steps in self.steps:
                for step in steps:
                    if step.defined & ~self.varying:
                        self.follow(step)

    def follow(self, step: _Step) -> None:
        """What an instruction does to the registers that it writes."""
        if _is_broadcast(step.instruction):
            self.share(step.defined & ~self.varying)
            return
        plain = not step.forced and not step.used & self.differing
        if step.target is None:
            if plain:
                self.share(step.defined & ~self.varying)
            else:
                self.vary(step.defined)
            return
        guard = step.instruction.guard
        if step.used & self.varying or (guard is not None and self.differing >> self.numbers[guard.name] & 1):
            self.vary(step.defined)
            return
        if plain:
            self.learn(step, self.affine.apply(step.instruction, self.read) or Lanes(ZERO, (1 << 64) - 1))
        elif step.instruction.opcode in _VARYING_OPCODES or step.instruction.opcode in ("ld", "ldu"):
            self.vary(step.defined)
        elif all(self.read(operand) is not None for operand in step.instruction.operands[1:]):
            self.learn(step, self.affine.apply(step.instruction, self.read))
        else:
            self.vary(step.defined)

    def read(self, operand: Operand) -> State:
        """What is known of an operand; a register that was not written yet may still turn out to be anything."""
        if isinstance(operand, Register):
            number = self.numbers[operand.name]
            return None if self.varying >> number & 1 else self.known.get(number, _UNWRITTEN)
        if isinstance(operand, Immediate):
            return Lanes(ZERO, operand.bits & ((1 << 64) - 1))
        if isinstance(operand, Symbol):
            return Lanes(ZERO, self.affine.offsets.get(operand.name, (1 << 64) - 1))
        assert isinstance(operand, Special)
        return self.affine.special(operand)

    def vary(self, registers: int) -> None:
        """Nothing is known of `registers`."""
        self.varying |= registers
        self.patterned &= ~registers
        self.changed = True

    def share(self, registers: int) -> None:
        """All lanes get the same values, of which nothing else is known: what was loaded, say."""
        while registers:
            number = (registers & -registers).bit_length() - 1
            registers &= registers - 1
            unknown = Lanes(ZERO, (1 << TYPE_BITS.get(self.types[number], 64)) - 1)
            old = self.known.get(number)
            if old is not None and old.pattern != ZERO:
                self.vary(1 << number)
            elif old != unknown:
                self.known[number] = unknown
                self.changed = True

    def learn(self, step: _Step, value: State) -> None:
        """Join what an instruction writes with what others write to the same register."""
        number = step.target
        assert number is not None
        width = TYPE_BITS.get(self.types[number], 64)
        old = self.known.get(number)
        if value is None or (old is not None and old.pattern != value.pattern):
            self.vary(step.defined)
            return
        bits = value.bits & ((1 << width) - 1)
        if old is not None:
            if not bits & ~old.bits:
                return
            # Give up what was known but for the zeros at the bottom, so that loops come to an end soon.
            bits |= old.bits
            bits = ((1 << width) - 1) & ~((bits & -bits) - 1)
        self.known[number] = Lanes(value.pattern, bits)
        if value.pattern != ZERO:
            self.patterned |= 1 << number
        self.changed = True

    # Graph facts.
    def reach(self, starts: tuple[int, ...], stop: int | None) -> frozenset[int]:
        """Blocks on the ways from `starts`, them included, up to but without `stop`."""
        found: set[int] = set()
        work = list(starts)
        while work:
            place = work.pop()
            if place != stop and place < self.end and place not in found:
                found.add(place)
                work.extend(self.blocks[place].exit.targets)
        return frozenset(found)

    def post_dominators(self) -> list[int]:
        """The immediate post-dominator of each block; the number of blocks stands for the end of the thread."""
        everything = (1 << self.end + 1) - 1
        sets = [everything] * self.end + [1 << self.end]
        changed = True
        while changed:
            changed = False
            for block in reversed(self.blocks):
                targets = block.exit.targets or (self.end,)
                common = reduce(int.__and__, (sets[target] for target in targets)) | 1 << block.number
                if common != sets[block.number]:
                    sets[block.number], changed = common, True
        immediate = []
        for number in range(self.end):
            others = [place for place in range(self.end + 1) if place != number and sets[number] >> place & 1]
            # The nearest is the one that all the others post-dominate too.
            immediate.append(max(others, key=lambda place: sets[place].bit_count(), default=self.end))
        return immediate

    def count_definitions(self) -> dict[int, int]:
        """How many instructions write each register (by its bit)."""
        counts: dict[int, int] = {}
        for steps in self.steps:
            for step in steps:
                bits = step.defined
                while bits:
                    low = bits & -bits
                    counts[low] = counts.get(low, 0) + 1
                    bits ^= low
        return counts

    # What a divergent branch does.
    def part(self, block: Block) -> None:
        """Lanes part at the end of `block`: mark the blocks they run apart, and the registers that tell them apart.

        Between the branch and its join, a written register varies when it is read at the join, when lanes that left
        a loop still read it, or when lanes on both sides know it (unless every execution writes the same value).
        """
        number = block.number
        join = self.joins[number]
        region = self.reach(self.targets[number], join)
        ordered = all(place < join for place in region)
        waits = block.exit.kind == "wait"
        if waits or not ordered or any(self.blocks[place].exit.kind in ("barrier", "wait") for place in region):
            # Lanes that wait somewhere, or lie beyond the join, do not meet there: they may stay apart for good.
            join, region = self.end, self.reach(self.targets[number], None)
        self.partial |= reduce(or_, (1 << place for place in region), 0)
        written = reduce(or_, (self.blocks[place].defined for place in region), 0)
        if join < self.end:
            self.varying |= written & self.blocks[join].live_in
        if not ordered:
            self.varying |= reduce(
                or_, (self.blocks[place].defined & self.blocks[place].live_out for place in region), 0
            )
            return
        cycle = {place for place in region if number in self.after[place]} if number in region else set()
        self.varying |= self.leaves(cycle)
        # Lanes that still wait are a side of their own, which is yet to go the same way.
        targets = self.targets[number] * (2 if waits else 1)
        sides = [self.reach((target,), join) for target in targets]
        known = [reduce(or_, (self.present[place] for place in side), 0) for side in sides]
        both = 0
        for index, one in enumerate(known):
            for other in known[index + 1 :]:
                both |= one & other
        self.varying |= self.unstable(written & both)

    def leaves(self, cycle: set[int]) -> int:
        """Registers written in `cycle`, a loop that lanes leave one by one, that matter outside; all that outlive
        their block when lanes can also fall behind inside."""
        written = reduce(or_, (self.blocks[place].defined for place in cycle), 0)
        outside = 0
        for place in cycle:
            for target in self.blocks[place].exit.targets:
                if target < self.end and target not in cycle:
                    outside |= self.blocks[target].live_in
        header = min(cycle, default=0)
        latches = [place for place in cycle if header in self.blocks[place].exit.targets]
        if cycle and latches != [max(cycle)]:
            return reduce(or_, (self.blocks[place].defined & self.blocks[place].live_out for place in cycle), 0)
        return written & outside

    def unstable(self, registers: int) -> int:
        """Those of `registers` that may hold different values at different times: written in several places, or in
        a loop."""
        result = 0
        looping = reduce(
            or_,
            (block.defined for block in self.blocks if block.number in self.after[block.number]),
            0,
        )
        bits = registers
        while bits:
            low = bits & -bits
            bits ^= low
            if self.definitions.get(low, 0) != 1 or looping & low:
                result |= low
        return result
