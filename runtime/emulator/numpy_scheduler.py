"""The thread scheduler of the NumPy engine.

In: a compiled kernel and one chunk of blocks. Out: the chunk run to its end, or a DeviceError. Why: while all
threads agree, blocks follow each other without masks; where they part, the threads at the lowest block number
go first, which brings them together again at the join, because compilers lay code out in that order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .control_flow import Block, register_names
from .numpy_chunk import Array, Chunk, Mask, Values
from .numpy_cluster import release_clusters
from .numpy_codegen import Compiled
from .numpy_mbarrier import observe_waited
from .numpy_waits import Parked, Waits, ready, wait_space


@dataclass(slots=True)
class _Waiting:
    """Threads that wait at, or have only arrived at (`passes`), barrier `number` of their block."""

    number: int
    mask: Array
    block: int
    resume: int
    passes: bool
    expected: int
    predicate: Values | None


Choose = Callable[[dict[int, Array]], tuple[int, Array]]
"""Of the threads that stand at each place, the place and the threads that go on next."""


def run_chunk(compiled: Compiled, chunk: Chunk, choose: Choose | None = None) -> None:
    """Run every thread of `chunk` to its end, in lock-step or as `choose` says."""
    chunk.registers = list(compiled.initial)
    _Scheduler(compiled, chunk, choose).run()
    if chunk.delayed is not None:
        chunk.delayed.complete(None, None)
    if chunk.bulk is not None:
        chunk.bulk.finish()
    if chunk.observer is not None:
        chunk.observer.ended()


class _Scheduler:
    def __init__(self, compiled: Compiled, chunk: Chunk, choose: Choose | None = None) -> None:
        self.compiled = compiled
        self.blocks = compiled.program.blocks
        self.functions = compiled.functions
        self.chunk = chunk
        self.choose = choose
        self.observer = chunk.observer
        self.end = len(self.blocks)
        self.pending: dict[int, Array] = {}
        self.waiting: list[_Waiting] = []
        self.waits = Waits(chunk, self.blocks)

    def run(self) -> None:
        place = 0
        if self.choose is not None:
            everyone = np.ones(self.chunk.threads, bool) if self.chunk.alive is None else self.chunk.alive
            self.pending = {0: everyone}
            place = self.apart()
        while place < self.end:
            divergence = self.together(place)
            if divergence is None:
                return
            place = self.apart()

    def together(self, place: int) -> bool | None:
        """All living threads share one place: no merging. None at the end; True when they part."""
        chunk, registers = self.chunk, self.chunk.registers
        alive = chunk.alive
        count = chunk.threads if alive is None else int(np.count_nonzero(alive))
        while place < self.end:
            block = self.blocks[place]
            outcome = self.functions[place](registers, chunk, alive, None)
            block_exit = block.exit
            if block.polls:
                self.waits.polled(block, alive, alone=True)
            kind = block_exit.kind
            if kind == "fall" or kind == "jump":
                place = block_exit.targets[0]
            elif kind == "branch":
                if outcome.ndim == 0:
                    place = block_exit.targets[0 if outcome else 1]
                    continue
                taken = outcome if alive is None else outcome & alive
                number = int(np.count_nonzero(taken))
                if number == count or number == 0:
                    place = block_exit.targets[0 if number else 1]
                    continue
                self.pending = {block_exit.targets[0]: taken}
                self.add(block_exit.targets[1], ~outcome if alive is None else alive & ~outcome)
                return True
            elif kind == "barrier" and self.everyone(alive, outcome, block):
                if self.observer is not None:
                    self.observe_everyone(alive, outcome, block)
                place = block_exit.targets[0]
            elif kind == "wait" and self.all_ready(block, outcome, alive, count):
                place = block_exit.targets[0]
            elif kind == "exit":
                return None
            else:
                mask = np.ones(chunk.threads, bool) if alive is None else alive
                self.leave(block, outcome, mask)
                return True
        return None

    def everyone(self, alive: Mask, outcome: Any, block: Block) -> bool:
        """Whether a plain barrier that all living threads reach needs no bookkeeping."""
        (numbers, predicate), instruction = outcome, block.exit.instruction
        assert instruction is not None
        if predicate is not None or instruction.has("arrive", "red") or len(numbers) > 1 or self.waiting:
            return False
        return alive is None or alive is self.chunk.geometry.alive

    def observe_everyone(self, alive: Mask, outcome: Any, block: Block) -> None:
        (numbers, _), instruction = outcome, block.exit.instruction
        assert instruction is not None and self.observer is not None
        number = int(np.max(numbers[0])) if numbers else 0
        self.observer.barrier_arrived(alive, instruction.line, number)
        self.observer.barrier_passed(alive, number, None)

    def add(self, place: int, mask: Array) -> None:
        """Threads of `mask` go to `place`."""
        other = self.pending.get(place)
        self.pending[place] = mask if other is None else mask | other

    def apart(self) -> int:
        """Threads stand at several places, or wait. Returns the place where all the living meet, or the end."""
        chunk = self.chunk
        while True:
            ended = self.pending.pop(self.end, None)
            if ended is not None:
                chunk.alive = ~ended if chunk.alive is None else chunk.alive & ~ended
                release_clusters(chunk)
            for block, outcome, released in self.waits.released():
                self.go_on(block, outcome, released)
            if not self.waiting and not self.waits.parked and len(self.pending) <= (1 if self.choose is None else 0):
                if not self.pending:
                    return self.end
                place, _ = self.pending.popitem()
                return place
            if not self.pending:
                if chunk.bulk is None or not chunk.bulk.finish_one():
                    self.deadlock()
                continue
            candidates = self.waits.candidates(self.pending)
            if not candidates:
                continue
            if self.choose is None:
                place = min(candidates)
                mask = candidates[place]
            else:
                place, mask = self.choose(candidates)
            self.leave_behind(place, mask)
            block = self.blocks[place]
            outcome = self.functions[place](chunk.registers, chunk, mask, self.needed())
            if block.polls:
                self.waits.polled(block, mask, alone=not self.pending and not self.waits.parked)
            self.leave(block, outcome, mask)

    def leave_behind(self, place: int, mask: Array) -> None:
        """Threads of `mask` set off from `place`; the others stay."""
        here = self.pending.pop(place)
        if here is mask:
            return
        rest = here & ~mask
        if rest.any():
            self.pending[place] = rest

    def needed(self) -> int:
        """Registers that threads elsewhere still read."""
        needed = self.waits.needed()
        for place in self.pending:
            needed |= self.blocks[place].live_in
        for waiting in self.waiting:
            if waiting.resume < self.end:
                needed |= self.blocks[waiting.resume].live_in
        return needed

    def leave(self, block: Block, outcome: Any, mask: Array) -> None:
        """Send the threads of `mask` where the exit of `block` says."""
        targets = block.exit.targets
        kind = block.exit.kind
        if kind in ("fall", "jump"):
            self.add(targets[0], mask)
        elif kind == "branch":
            if outcome.ndim == 0:
                self.add(targets[0 if outcome else 1], mask)
                return
            for target, chosen in ((targets[0], mask & outcome), (targets[1], mask & ~outcome)):
                if chosen.any():
                    self.add(target, chosen)
        elif kind == "exit":
            self.add(self.end, mask)
        elif kind == "barrier":
            self.arrive(block, outcome, mask)
        elif kind == "wait":
            self.wait(block, outcome, mask)
        else:
            assert block.exit.instruction is not None
            line, first = block.exit.instruction.line, int(mask.argmax())
            if kind == "trap":
                self.chunk.fault(line, "trap instruction executed", first)
            self.switch(block, outcome, mask, line)

    def switch(self, block: Block, outcome: Values, mask: Array, line: int) -> None:
        """brx.idx."""
        targets = block.exit.targets
        if outcome.ndim == 0:
            outcome = np.broadcast_to(outcome, mask.shape)
        beyond = mask & (outcome >= len(targets))
        if beyond.any():
            self.chunk.fault(line, f"brx.idx beyond its {len(targets)} targets", int(beyond.argmax()))
        for index, target in enumerate(targets):
            chosen = mask & (outcome == index)
            if chosen.any():
                self.add(target, chosen)

    # Waits.
    def all_ready(self, block: Block, outcome: Any, alive: Mask, count: int) -> bool:
        """Whether all living threads may pass the wait that ends `block`; then they have."""
        assert block.exit.instruction is not None
        free = ready(self.chunk, block.exit.instruction, outcome, alive)
        if int(np.count_nonzero(free)) < count:
            return False
        self.answer(block, outcome, alive)
        return True

    def wait(self, block: Block, outcome: Any, mask: Array) -> None:
        """Threads come to a wait: some may pass, the others are parked."""
        assert block.exit.instruction is not None
        free = ready(self.chunk, block.exit.instruction, outcome, mask)
        if free.any():
            self.go_on(block, outcome, free)
        if not free[mask].all():
            self.waits.parked.append(Parked(mask & ~free, block, outcome))

    def go_on(self, block: Block, outcome: Any, mask: Array) -> None:
        """The wait of these threads is over."""
        self.answer(block, outcome, mask)
        self.add(block.exit.targets[0], mask)

    def answer(self, block: Block, outcome: Any, mask: Mask) -> None:
        """try_wait gives true."""
        instruction = block.exit.instruction
        assert instruction is not None
        if instruction.opcode != "mbarrier":
            if self.observer is not None:
                self.observer.cluster_barrier_passed(mask, instruction.line)
            return
        if self.observer is not None:
            observe_waited(self.chunk, mask, instruction.line, outcome[0], wait_space(instruction))
        for name in register_names(instruction.operands[0]):
            number = self.compiled.program.register_numbers[name]
            old = self.chunk.registers[number]
            self.chunk.registers[number] = np.True_ if mask is None else np.where(mask, True, old)

    # Barriers.
    def arrive(self, block: Block, outcome: Any, mask: Array) -> None:
        """Threads come to a barrier; to several where its number or count differs between them."""
        numbers, predicate = outcome
        if all(value.ndim == 0 for value in numbers):
            self.arrive_at(block, [int(value) for value in numbers], predicate, mask)
            return
        columns = [np.broadcast_to(value, mask.shape) for value in numbers]
        for operands in sorted(set(zip(*(column[mask].tolist() for column in columns), strict=True))):
            chosen = mask.copy()
            for column, operand in zip(columns, operands, strict=True):
                chosen &= column == operand
            self.arrive_at(block, list(operands), predicate, chosen)

    def arrive_at(self, block: Block, plain: list[int], predicate: Values | None, mask: Array) -> None:
        """Threads come to the barrier of number `plain[0]` that waits for `plain[1]` threads (by default all)."""
        instruction = block.exit.instruction
        assert instruction is not None
        expected = plain[1] if len(plain) > 1 else self.chunk.geometry.block_threads
        passes = instruction.has("arrive")
        self.waiting.append(
            _Waiting(
                plain[0] if plain else 0,
                mask,
                block.number,
                block.exit.targets[0],
                passes,
                expected,
                predicate,
            )
        )
        if self.observer is not None:
            self.observer.barrier_arrived(mask, instruction.line, self.waiting[-1].number)
        if passes:
            self.add(block.exit.targets[0], mask)
        self.release(self.waiting[-1].number)

    def release(self, number: int) -> None:
        """Let blocks go on whose threads have all arrived at barrier `number`."""
        group = [waiting for waiting in self.waiting if waiting.number == number]
        rows = (self.chunk.geometry.blocks, self.chunk.geometry.padded)
        arrived, expected = np.zeros(rows[0], np.int64), np.ones(rows[0], np.int64)
        for waiting in group:
            here = waiting.mask.reshape(rows).sum(axis=1)
            arrived += here
            expected = np.maximum(expected, np.where(here, waiting.expected, 1))
        complete = arrived >= expected
        if not complete.any():
            return
        free = np.repeat(complete, rows[1])
        self.reduce(group, free, rows)
        for waiting in group:
            released = waiting.mask & free
            if not waiting.passes and released.any():
                self.add(waiting.resume, released)
                if self.observer is not None:
                    self.observer.barrier_passed(released, number, complete)
            waiting.mask = waiting.mask & ~free
        self.waiting = [waiting for waiting in self.waiting if waiting.mask.any()]

    def reduce(self, group: list[_Waiting], free: Array, rows: tuple[int, int]) -> None:
        """bar.red: combine predicates over each released block and write the destination register."""
        reducing = [waiting for waiting in group if waiting.predicate is not None]
        if not reducing:
            return
        votes = np.zeros(rows[0], np.int64)
        for waiting in reducing:
            votes += (
                (waiting.mask & np.broadcast_to(np.asarray(waiting.predicate), waiting.mask.shape))
                .reshape(rows)
                .sum(axis=1)
            )
        for waiting in reducing:
            instruction = self.blocks[waiting.block].exit.instruction
            assert instruction is not None
            mode = instruction.first_of("popc", "and", "or")
            per_block: Array = votes.astype("u4")
            if mode != "popc":
                per_block = votes == waiting.expected if mode == "and" else votes > 0
            (name,) = register_names(instruction.operands[0])
            number = self.compiled.program.register_numbers[name]
            old = self.chunk.registers[number]
            new = np.repeat(per_block, rows[1])
            self.chunk.registers[number] = np.where(waiting.mask & free, new.astype(old.dtype), old)

    def deadlock(self) -> None:
        """Nobody can run: say who waits where, and who never came."""
        if self.waits.parked:
            self.waits.deadlock()
        chunk = self.chunk
        waiting = next((entry for entry in self.waiting if not entry.passes), self.waiting[0])
        instruction = self.blocks[waiting.block].exit.instruction
        assert instruction is not None
        if waiting.passes and not any(not entry.passes for entry in self.waiting):
            chunk.fault(
                instruction.line,
                f"threads ended with barrier {waiting.number} incomplete",
                int(waiting.mask.argmax()),
            )
        thread = int(waiting.mask.argmax())
        number = thread // chunk.geometry.padded
        span = slice(number * chunk.geometry.padded, number * chunk.geometry.padded + chunk.geometry.block_threads)
        here = int(waiting.mask[span].sum())
        parts = [f"{here} of {waiting.expected} threads wait here"]
        for entry in self.waiting:
            others = int(entry.mask[span].sum())
            if entry is not waiting and others:
                line = self.blocks[entry.block].exit.instruction
                parts.append(f"{others} at barrier {entry.number} of PTX line {line.line if line else 0}")
        ended = 0 if chunk.alive is None else int((~chunk.alive[span]).sum())
        if ended:
            parts.append(f"{ended} have already exited")
        chunk.fault(instruction.line, f"deadlock at barrier {waiting.number}: " + ", ".join(parts), thread)
