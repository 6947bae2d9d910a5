"""Loops that come back to their head from one place only.

In: a `control_flow.Program`. Out: the same with a block more behind each loop that jumped back from several places.
Why: where the last statement of a loop is one that some lanes skip, they would be back at the head before the others
and stay apart; with one place to jump from they meet there.
"""

from __future__ import annotations

from dataclasses import replace

from .control_flow import Block, Exit, Program


def with_single_latches(program: Program) -> Program:
    """`program` itself where every loop already has one."""
    latches: dict[int, set[int]] = {}
    for block in program.blocks:
        for target in block.exit.targets:
            if target <= block.number:
                latches.setdefault(target, set()).add(block.number)
    # The head of each loop in question by the last block that jumps back to it.
    heads: dict[int, list[int]] = {}
    for head, sources in latches.items():
        if len(sources) > 1:
            heads.setdefault(max(sources), []).append(head)
    return _rebuilt(program, heads) if heads else program


def _rebuilt(program: Program, heads: dict[int, list[int]]) -> Program:
    """With a block behind each key of `heads` for every loop listed there, the inner ones first."""
    numbers: list[int] = []
    landing: dict[int, int] = {}
    count = 0
    for block in program.blocks:
        numbers.append(count)
        count += 1
        for head in sorted(heads.get(block.number, ()), reverse=True):
            landing[head] = count
            count += 1
    numbers.append(count)
    blocks: list[Block] = []
    for block in program.blocks:
        targets = tuple(
            landing[target] if target <= block.number and target in landing else numbers[target]
            for target in block.exit.targets
        )
        blocks.append(replace(block, number=len(blocks), exit=replace(block.exit, targets=targets)))
        for head in sorted(heads.get(block.number, ()), reverse=True):
            live = program.blocks[head].live_in
            blocks.append(Block(len(blocks), [], Exit("jump", (numbers[head],)), live, live))
    return replace(program, blocks=blocks)
