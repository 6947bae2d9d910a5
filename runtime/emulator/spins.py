"""Loops that spin on memory: where a warp gives the others a turn.

In: a `control_flow.Program`. Out: the same with each block that polls cut in two: the first half ends in a wait that is
over the next time around. Why: on a GPU every warp goes on some time; a warp that is run until it waits would spin for
ever on what a later one is to write.

before: 3: `ld.volatile %r1, [flag]; setp.eq %p, %r1, 0; @%p bra 3`
after:  3: `ld.volatile %r1, [flag]; setp.eq %p, %r1, 0; yield`, 4: `@%p bra 3`
"""

from __future__ import annotations

from dataclasses import replace

from .control_flow import Block, Exit, Program, uses_and_definitions
from .ptx import Instruction

YIELD = "yield"
"""Opcode of what ends the first half."""
_READERS = ("ld", "atom", "mbarrier")


def with_yields(program: Program) -> Program:
    """`program` itself where nothing spins."""
    polling = [block.number for block in program.blocks if block.polls and _decides_a_loop(program, block)]
    return _cut(program, frozenset(polling)) if polling else program


def _cut(program: Program, polling: frozenset[int]) -> Program:
    numbers, count = [], 0
    for block in program.blocks:
        numbers.append(count)
        count += 1 + (block.number in polling)
    numbers.append(count)
    blocks: list[Block] = []
    for block in program.blocks:
        exit = replace(block.exit, targets=tuple(numbers[target] for target in block.exit.targets))
        number = len(blocks)
        if block.number not in polling:
            blocks.append(replace(block, number=number, exit=exit))
            continue
        live = block.live_out
        if exit.instruction is not None:
            for name in uses_and_definitions(exit.instruction)[0]:
                live |= 1 << program.register_numbers[name]
        pause = Instruction(YIELD, (), (), None, False, _polls_at(block))
        blocks.append(replace(block, number=number, exit=Exit("wait", (number + 1,), pause), live_out=live))
        blocks.append(Block(number + 1, [], exit, live, block.live_out))
    return replace(program, blocks=blocks)


def _polls_at(block: Block) -> int:
    """The PTX line to name when nobody ever changes what the block reads."""
    return next(instruction.line for instruction in block.instructions if instruction.opcode in _READERS)


def _decides_a_loop(program: Program, polling: Block) -> bool:
    """Whether what `polling` reads may decide how long a loop around it turns."""
    tainted: set[str] = set()
    for instruction in polling.instructions:
        if instruction.opcode in _READERS:
            tainted.update(uses_and_definitions(instruction)[1])
    before = -1
    while before != len(tainted):
        before = len(tainted)
        for block in program.blocks:
            for instruction in block.instructions:
                used, defined = uses_and_definitions(instruction)
                if tainted.intersection(used):
                    tainted.update(defined)
    around = _reachable(program, polling.number)
    if polling.number not in around:
        return False
    for number in around:
        ender = program.blocks[number].exit.instruction
        inside = polling.number in _reachable(program, number)
        if inside and ender is not None and tainted.intersection(uses_and_definitions(ender)[0]):
            return True
    return False


def _reachable(program: Program, start: int) -> set[int]:
    """Blocks after `start`; itself only when it lies in a loop."""
    found: set[int] = set()
    work = list(program.blocks[start].exit.targets)
    while work:
        number = work.pop()
        if number < len(program.blocks) and number not in found:
            found.add(number)
            work.extend(program.blocks[number].exit.targets)
    return found
