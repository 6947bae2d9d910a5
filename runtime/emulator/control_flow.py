"""From a parsed function to basic blocks with liveness.

In: a `ptx.Module` and the name of an entry. Out: a `Program`: calls inlined, blocks in layout order, their
exits, and the registers live at each block's ends. Why: engines schedule threads over blocks and must know
which registers still matter.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

from ..errors import DeviceError
from .isa import CONTROL, destination_count, updates_destinations
from .ptx import (
    Address,
    Function,
    Immediate,
    Instruction,
    Label,
    Module,
    Negated,
    Operand,
    Pair,
    Register,
    Symbol,
    Variable,
    Vector,
)

CARRY = "%carry"
"""The condition-code register of add.cc and its kin, as one more predicate register."""


@dataclass(slots=True)
class Exit:
    """How a block ends.

    kind: `fall`, `jump`, `branch`, `switch`, `barrier`, `wait`, `exit` or `trap`. `targets` are block numbers: of a
    branch the taken one, then the other; of a switch all; else the one successor. The number of blocks, as a target,
    means that the thread ends. `instruction` is what ended the block. At a `wait` (mbarrier.try_wait,
    barrier.cluster.wait) threads stay until what they wait for has come; try_wait then gives true.
    """

    kind: str
    targets: tuple[int, ...] = ()
    instruction: Instruction | None = None


@dataclass(slots=True)
class Block:
    """Straight-line instructions. `live_in` and `live_out` are sets of register numbers as bit masks.

    `converges`: it holds an instruction that lanes of a warp execute together (`.sync`). `polls`: it reads what other
    threads may change, as the body of a spin loop does.
    """

    number: int
    instructions: list[Instruction]
    exit: Exit
    live_in: int = 0
    live_out: int = 0
    defined: int = 0
    converges: bool = False
    polls: bool = False


@dataclass(slots=True)
class Program:
    """One entry, ready for an engine: blocks in layout order, register numbers and types, variables in scope."""

    name: str
    blocks: list[Block]
    register_numbers: dict[str, int]
    register_types: list[str]
    parameters: list[Variable]
    variables: dict[str, Variable]
    module: Module
    block_shape: tuple[int, int, int] | None
    block_required: bool
    cluster_shape: tuple[int, int, int] | None = None
    cluster_required: bool = False


def build(module: Module, entry: str) -> Program:
    """Inline, split and analyse `entry`. Raises DeviceError when it is missing, recursive or calls through a
    pointer.
    """
    function = module.functions.get(entry)
    if function is None or not function.entry:
        known = ", ".join(name for name, candidate in module.functions.items() if candidate.entry)
        raise DeviceError(f"emulator: the PTX module has no entry {entry!r}; it has: {known or 'none'}")
    inliner = _Inliner(module)
    inliner.expand(function, "", {}, None)
    registers = {**inliner.registers, CARRY: "pred"}
    numbers = {name: number for number, name in enumerate(registers)}
    blocks = _split(inliner.body, inliner.tables, entry, module)
    _liveness(blocks, numbers)
    return Program(
        entry, blocks, numbers, list(registers.values()), function.parameters, inliner.variables, module,
        function.block_shape, function.block_required, function.cluster_shape, function.cluster_required,
    )  # fmt: skip


@dataclass(slots=True)
class _Inliner:
    """Copies function bodies into one, renaming what is local to each call."""

    module: Module
    body: list[Label | Instruction] = field(default_factory=list)
    registers: dict[str, str] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)
    tables: dict[str, tuple[str, ...]] = field(default_factory=dict)
    calls: int = 0
    stack: list[str] = field(default_factory=list)

    def expand(self, function: Function, prefix: str, bound: dict[str, str], after: str | None) -> None:
        if function.name in self.stack:
            raise DeviceError(f"emulator: recursive PTX function {function.name!r} is not supported")
        self.stack.append(function.name)
        rename = {name: bound.get(name, prefix + name) for name in function.variables}
        for name, kind in function.registers.items():
            self.registers[prefix + name] = kind
        for name, variable in function.variables.items():
            if name not in bound:
                self.variables[prefix + name] = variable
        labels = {item.name for item in function.body if isinstance(item, Label)}
        rename.update({name: prefix + name for name in (*labels, *function.branch_targets)})
        for name, targets in function.branch_targets.items():
            self.tables[prefix + name] = tuple(prefix + target for target in targets)
        for item in function.body:
            if isinstance(item, Label):
                self.body.append(Label(prefix + item.name))
            else:
                self.add(_renamed(item, prefix, rename) if prefix or rename else item, after)
        self.stack.pop()

    def add(self, instruction: Instruction, after: str | None) -> None:
        callee = self.callee(instruction) if instruction.opcode == "call" else None
        if callee is not None:
            self.call(instruction, callee)
        elif instruction.opcode == "ret" and after is not None:
            self.body.append(
                Instruction(
                    "bra",
                    (),
                    (Symbol(after),),
                    instruction.guard,
                    instruction.guard_negated,
                    instruction.line,
                )
            )
        else:
            self.body.append(instruction)

    def callee(self, instruction: Instruction) -> Function | None:
        for operand in instruction.operands:
            if isinstance(operand, Symbol):
                function = self.module.functions.get(operand.name)
                return function if function is not None and function.defined else None
        return None

    def call(self, instruction: Instruction, callee: Function) -> None:
        """Bind formal to actual parameters and copy the body in place of the call."""
        lists = [operand for operand in instruction.operands if isinstance(operand, Vector)]
        if not callee.results:
            lists.insert(0, Vector(()))
        lists += [Vector(())] * (2 - len(lists))
        formals = [variable.name for variable in (*callee.results, *callee.parameters)]
        actuals = [operand.name for part in lists for operand in part.elements if isinstance(operand, Symbol)]
        if len(formals) != len(actuals):
            raise DeviceError(
                f"emulator: call of {callee.name!r} passes {len(actuals)} of {len(formals)} .param arguments\n"
                f"  PTX line {instruction.line}: {self.module.text(instruction.line)}"
            )
        self.calls += 1
        prefix = f"{callee.name}@{self.calls}/"
        after = prefix + "after"
        if instruction.guard is not None:
            self.body.append(
                Instruction(
                    "bra",
                    (),
                    (Symbol(after),),
                    instruction.guard,
                    not instruction.guard_negated,
                    instruction.line,
                )
            )
        self.expand(callee, prefix, dict(zip(formals, actuals, strict=True)), after)
        self.body.append(Label(after))


def _renamed(instruction: Instruction, prefix: str, rename: dict[str, str]) -> Instruction:
    def operand(value: Operand) -> Operand:
        if isinstance(value, Register):
            return Register(prefix + value.name)
        if isinstance(value, Symbol):
            return Symbol(rename.get(value.name, value.name))
        if isinstance(value, Address):
            return Address(operand(value.base), value.offset, tuple(operand(part) for part in value.coordinates))
        if isinstance(value, Vector):
            return Vector(tuple(operand(part) for part in value.elements))
        if isinstance(value, Pair):
            return Pair(operand(value.first), operand(value.second))
        if isinstance(value, Negated):
            return Negated(operand(value.operand))
        return value

    if not prefix:
        return instruction
    guard = Register(prefix + instruction.guard.name) if instruction.guard else None
    operands = tuple(operand(value) for value in instruction.operands)
    return Instruction(
        instruction.opcode,
        instruction.modifiers,
        operands,
        guard,
        instruction.guard_negated,
        instruction.line,
    )


def _is_barrier(instruction: Instruction) -> bool:
    return instruction.opcode in ("bar", "barrier") and not instruction.has("warp", "cluster")


def is_wait(instruction: Instruction) -> bool:
    """Whether threads may have to stay here until other threads or copies have done something."""
    if instruction.opcode == "mbarrier":
        return instruction.has("try_wait")
    return instruction.opcode == "barrier" and instruction.has("cluster") and instruction.has("wait")


def _converges(instruction: Instruction) -> bool:
    return instruction.has("sync") and not _is_barrier(instruction)


_READS_OF_FLAGS = frozenset({"volatile", "acquire", "relaxed", "mmio"})


def _polls(instruction: Instruction) -> bool:
    if instruction.opcode == "ld":
        return not _READS_OF_FLAGS.isdisjoint(instruction.modifiers)
    return instruction.opcode == "atom" or (instruction.opcode == "mbarrier" and instruction.has("test_wait"))


def reads_flags(program: Program) -> bool:
    """Whether the kernel looks for what other blocks write while it runs: loads of flags in global memory."""
    instructions = (instruction for block in program.blocks for instruction in block.instructions)
    return any(own.opcode == "ld" and _polls(own) and not own.has("shared") for own in instructions)


def _split(
    body: list[Label | Instruction], tables: dict[str, tuple[str, ...]], entry: str, module: Module
) -> list[Block]:
    """Cut the body at labels and after control instructions; resolve targets to block numbers."""
    groups: list[list[Instruction]] = [[]]
    enders: list[Instruction | None] = [None]
    starts: dict[str, int] = {}
    # Lanes that wait must be able to catch up before an instruction of the whole warp.
    waits = any(isinstance(item, Instruction) and (is_wait(item) or _polls(item)) for item in body)

    def cut(ender: Instruction | None) -> None:
        enders[-1] = ender
        groups.append([])
        enders.append(None)

    for item in body:
        if isinstance(item, Label):
            if groups[-1]:
                cut(None)
            starts[item.name] = len(groups) - 1
        elif item.opcode in CONTROL or _is_barrier(item) or is_wait(item):
            if item.guard is not None and item.opcode not in ("bra", "ret", "exit"):
                # A guarded barrier or switch becomes a branch around an unguarded one.
                skip = f"skip@{len(groups)}"
                cut(Instruction("bra", (), (Symbol(skip),), item.guard, not item.guard_negated, item.line))
                cut(Instruction(item.opcode, item.modifiers, item.operands, None, False, item.line))
                starts[skip] = len(groups) - 1
            else:
                cut(item)
        else:
            if waits and _converges(item) and groups[-1] and not any(map(_converges, groups[-1])):
                cut(None)
            groups[-1].append(item)
    end = len(groups)
    blocks = []
    for number, (instructions, ender) in enumerate(zip(groups, enders, strict=True)):
        block = Block(number, instructions, _exit(number, ender, starts, tables, end, entry, module))
        block.converges = any(map(_converges, instructions))
        block.polls = any(map(_polls, instructions))
        blocks.append(block)
    return blocks


def _exit(
    number: int,
    ender: Instruction | None,
    starts: dict[str, int],
    tables: dict[str, tuple[str, ...]],
    end: int,
    entry: str,
    module: Module,
) -> Exit:
    if ender is None:
        return Exit("fall", (number + 1,)) if number + 1 < end else Exit("exit")
    if _is_barrier(ender):
        return Exit("barrier", (number + 1,), ender)
    if is_wait(ender):
        return Exit("wait", (number + 1,), ender)
    if ender.opcode == "trap":
        return Exit("trap", (), ender)
    if ender.opcode in ("ret", "exit"):
        return Exit("branch", (end, number + 1), ender) if ender.guard else Exit("exit", (), ender)
    target = ender.operands[-1]
    if ender.opcode == "brx" and isinstance(target, Symbol) and target.name in tables:
        return Exit("switch", tuple(starts[name] for name in tables[target.name]), ender)
    if ender.opcode != "bra" or not isinstance(target, Symbol):
        raise DeviceError(
            f"emulator: kernel {entry}: indirect branch without a target list\n"
            f"  PTX line {ender.line}: {module.text(ender.line)}"
        )
    taken = starts[target.name]
    return Exit("branch", (taken, number + 1), ender) if ender.guard else Exit("jump", (taken,), ender)


def register_names(operand: Operand) -> list[str]:
    """All registers that an operand mentions."""
    if isinstance(operand, Register):
        return [operand.name]
    if isinstance(operand, Address):
        return register_names(operand.base) + [name for part in operand.coordinates for name in register_names(part)]
    if isinstance(operand, Vector):
        return [name for part in operand.elements for name in register_names(part)]
    if isinstance(operand, Pair):
        return register_names(operand.first) + register_names(operand.second)
    if isinstance(operand, Negated):
        return register_names(operand.operand)
    return []


def mentioned_symbols(program: Program) -> set[str]:
    """Names of variables, parameters and labels in the kernel's instructions."""
    found = set()
    instructions = [instruction for block in program.blocks for instruction in block.instructions]
    instructions += [block.exit.instruction for block in program.blocks if block.exit.instruction is not None]
    work = [operand for instruction in instructions for operand in instruction.operands]
    while work:
        operand = work.pop()
        if isinstance(operand, Symbol):
            found.add(operand.name)
        elif isinstance(operand, Address):
            work.append(operand.base)
        elif isinstance(operand, Vector):
            work.extend(operand.elements)
    return found


@functools.lru_cache(maxsize=1 << 14)
def uses_and_definitions(instruction: Instruction) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Registers read and written. A guarded write also reads: inactive threads keep the old value.

    Every analysis asks this of every instruction, so answers are kept for those of a few kernels."""
    count = destination_count(instruction)
    defined = [name for operand in instruction.operands[:count] for name in register_names(operand)]
    used = [name for operand in instruction.operands[count:] for name in register_names(operand)]
    if updates_destinations(instruction):
        used += defined
    if instruction.has("cc"):
        defined.append(CARRY)
    if instruction.opcode in ("addc", "subc", "madc"):
        used.append(CARRY)
    if instruction.guard is not None:
        used += [instruction.guard.name, *defined]
    return tuple(used), tuple(defined)


def _liveness(blocks: list[Block], numbers: dict[str, int]) -> None:
    """The usual backward data-flow, on integers used as bit sets."""
    upward: list[int] = []
    for block in blocks:
        used_first, defined = 0, 0
        instructions = list(block.instructions)
        if block.exit.instruction is not None:
            instructions.append(block.exit.instruction)
        for instruction in instructions:
            uses, definitions = uses_and_definitions(instruction)
            for name in uses:
                bit = 1 << numbers[name]
                if not defined & bit:
                    used_first |= bit
            for name in definitions:
                defined |= 1 << numbers[name]
        upward.append(used_first)
        block.defined = defined
    changed = True
    while changed:
        changed = False
        for block in reversed(blocks):
            live_out = 0
            for target in block.exit.targets:
                if target < len(blocks):
                    live_out |= blocks[target].live_in
            live_in = upward[block.number] | (live_out & ~block.defined)
            if live_in != block.live_in or live_out != block.live_out:
                block.live_in, block.live_out = live_in, live_out
                changed = True


__all__ = [
    "CARRY",
    "Block",
    "Exit",
    "Immediate",
    "Program",
    "build",
    "register_names",
    "uses_and_definitions",
]
