"""Threads that wait for an mbarrier or for their cluster, and places where threads spin.

In: the masks of threads that reached such a place. Out: who may run, and what to say when nobody can. Why: a GPU lets
every warp go on some time, whatever the others do; choosing the lowest place alone would run a spin loop for ever.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from .control_flow import Block
from .isa.barrier import wait_operands
from .isa.memory import SHARED_SPACES
from .numpy_chunk import Array, Chunk, Mask, Values
from .numpy_cluster import cluster_barrier_passed
from .numpy_mbarrier import complete, decode, places, where
from .ptx import Instruction

_PATIENCE = 32
"""So many polls in a row, and threads elsewhere go first."""
_TURN = 256
"""After so many steps those who spin look again, whoever else can run."""
_IDLE_TURNS = 64
"""Turns of spinning before lanes that their warp waits for must go on without it."""
_SLEEPLESS_POLLS = 2000
_IDLE_POLLS = 12000
"""Polls in a row that change nothing: the first ones at once, then half a millisecond apart, then it is a fault."""


@dataclass(slots=True)
class Parked:
    """Threads that stand at the wait which ends `block`, with what they wait for."""

    mask: Array
    block: Block
    outcome: Any

    @property
    def instruction(self) -> Instruction:
        """The instruction that waits."""
        assert self.block.exit.instruction is not None
        return self.block.exit.instruction


def wait_space(instruction: Instruction) -> str:
    """`shared`, `cluster` or `generic`: how to read the address of an mbarrier.try_wait."""
    return next((SHARED_SPACES[name] for name in instruction.modifiers if name in SHARED_SPACES), "generic")


def ready(chunk: Chunk, instruction: Instruction, outcome: Any, mask: Mask) -> Array:
    """Of the threads of `mask`, those whose wait is over."""
    if instruction.opcode == "barrier":
        answer = cluster_barrier_passed(chunk, mask, instruction.line)
    else:
        address, token = outcome
        parity = wait_operands(instruction)[2]
        answer = complete(chunk, mask, instruction.line, address, token, space=wait_space(instruction), parity=parity)
    return answer if mask is None else answer & mask


class Waits:
    """Everybody who waits or spins in one chunk."""

    def __init__(self, chunk: Chunk, blocks: list[Block]) -> None:
        self._chunk = chunk
        self._blocks = blocks
        self.parked: list[Parked] = []
        self._seen_events = 0
        # Places that have polled for long, and how often each place has polled of late.
        self._spinning: dict[int, None] = {}
        self._polls: dict[int, int] = {}
        self._steps = 0
        self._turns = 0
        self._idle_polls = 0
        self._seen_changes = 0
        self._before: dict[int, tuple[Values, ...]] = {}

    def needed(self) -> int:
        """Registers that parked threads still read."""
        needed = 0
        for parked in self.parked:
            resume = parked.block.exit.targets[0]
            needed |= self._blocks[resume].live_in if resume < len(self._blocks) else 0
        return needed

    def released(self) -> list[tuple[Block, Any, Array]]:
        """Threads whose wait has ended since the last call, the block they stand at the end of, and its outcome."""
        if self._chunk.events == self._seen_events:
            return []
        self._seen_events = self._chunk.events
        free = []
        for parked in self.parked:
            chosen = ready(self._chunk, parked.instruction, parked.outcome, parked.mask)
            if chosen.any():
                free.append((parked.block, parked.outcome, chosen))
                parked.mask = parked.mask & ~chosen
        self.parked = [parked for parked in self.parked if parked.mask.any()]
        return free

    # Who may run.
    def candidates(self, pending: dict[int, Array]) -> dict[int, Array]:
        """Of `pending` the threads that ought to go on now. None, unless `pending` is empty, only after a bulk copy has
        been finished, for which some may have waited.
        """
        if not self._spinning and not self.parked:
            return self._coming_first(pending)
        self._steps += 1
        if self._steps % _TURN == 0:
            self._spinning.clear()
            self._polls.clear()
        chosen: dict[int, Array] = {}
        idle = self._idle(pending)
        for place, mask in pending.items():
            if place in self._spinning:
                continue
            free = mask & ~idle if self._blocks[place].converges else mask
            if free.any():
                chosen[place] = free
        if chosen:
            self._turns = 0
            return chosen
        spinning = {place: pending[place] for place in self._spinning if place in pending}
        self._turns += 1
        if spinning and (self._turns < _IDLE_TURNS or len(spinning) == len(pending)):
            self._spinning.clear()
            return spinning
        if self._chunk.bulk is not None and self._chunk.bulk.finish_one():
            return {}
        # Instructions of a whole warp, of which some lanes wait: perhaps for what these lanes do.
        self._turns = 0
        return {place: mask for place, mask in pending.items() if place not in spinning}

    def _coming_first(self, pending: dict[int, Array]) -> dict[int, Array]:
        """`pending` without lanes at an instruction of their whole warp while others of it are on their way, be it to
        that instruction or to their end: hardware waits for them.
        """
        coming = [mask for place, mask in pending.items() if not self._blocks[place].converges]
        if not coming or len(coming) == len(pending):
            return pending
        busy = np.repeat(np.logical_or.reduce(coming).reshape(-1, 32).any(axis=1), 32)
        chosen = {
            place: mask & ~busy if self._blocks[place].converges else mask for place, mask in pending.items()
        }
        return {place: mask for place, mask in chosen.items() if mask.any()}

    def _idle(self, pending: dict[int, Array]) -> Array:
        """All lanes of the warps of which a lane is parked or spins."""
        lanes = np.zeros(self._chunk.threads, bool)
        for parked in self.parked:
            lanes |= parked.mask
        for place in self._spinning:
            if place in pending:
                lanes |= pending[place]
        return np.repeat(lanes.reshape(-1, 32).any(axis=1), 32)

    def polled(self, block: Block, mask: Mask, alone: bool) -> None:
        """A block that polls was run; nobody else could have if `alone`. Raises DeviceError when nothing can change."""
        chunk = self._chunk
        if not alone:
            polls = self._polls[block.number] = self._polls.get(block.number, 0) + 1
            if polls > _PATIENCE:
                self._spinning[block.number] = None
        if chunk.changes != self._seen_changes:
            self._seen_changes, self._idle_polls = chunk.changes, 0
            return
        self._idle_polls += 1
        if self._idle_polls > _PATIENCE and chunk.bulk is not None and chunk.bulk.finish_one():
            return
        if self._idle_polls < _SLEEPLESS_POLLS:
            return
        x, y, z = chunk.launch.grid
        if self._changed(block):
            self._idle_polls = 0
        elif self._idle_polls > _IDLE_POLLS or chunk.geometry.blocks == x * y * z:
            assert block.instructions
            thread = 0 if mask is None else int(mask.argmax())
            what = f"threads spin for ever on memory that nobody changes{self.describe(thread)}"
            chunk.fault(block.instructions[0].line, what, thread)
        else:
            time.sleep(0.0005)  # another chunk, on another core, may be about to write what these wait for

    def _changed(self, block: Block) -> bool:
        """Whether a register that `block` reads differs from the last time."""
        registers = self._chunk.registers
        now = tuple(registers[number] for number in range(len(registers)) if block.live_in >> number & 1)
        before = self._before.get(block.number)
        self._before[block.number] = now
        if before is None:
            return True
        return not all(a is b or np.array_equal(a, b) for a, b in zip(now, before, strict=True))

    # Messages.
    def describe(self, thread: int) -> str:
        """Who of the cluster (or lone block) of `thread` waits for what, one line each."""
        size = self._chunk.geometry.padded
        blocks = self._chunk.cluster_blocks
        first = thread // size // blocks * blocks
        counts: dict[str, int] = {}
        for parked in self.parked:
            for block in range(first, first + blocks):
                mask = parked.mask[block * size : (block + 1) * size]
                if mask.any():
                    reason = self._reason(parked, block * size + int(mask.argmax()))
                    counts[reason] = counts.get(reason, 0) + int(mask.sum())
        return "".join(f"\n  {count} threads {reason}" for reason, count in counts.items())

    def _reason(self, parked: Parked, thread: int) -> str:
        chunk, instruction = self._chunk, parked.instruction
        if instruction.opcode == "barrier":
            return f"wait for their cluster, PTX line {instruction.line}"
        address, _ = parked.outcome
        mask = np.arange(chunk.threads) == thread
        place = int(places(chunk, mask, instruction.line, address, wait_space(instruction), "wait")[thread])
        barrier = decode(int(chunk.view("shared", "u8")[place]))
        assert barrier is not None
        return (
            f"wait for the phase of parity {barrier.parity} of the mbarrier at {where(chunk, place)} "
            f"(it lacks {barrier.pending} of {barrier.expected} arrivals and {barrier.owed} bytes), PTX line "
            f"{instruction.line}"
        )

    def deadlock(self) -> None:
        """Nobody can run, and somebody is parked: raise the DeviceError."""
        parked = self.parked[0]
        thread = int(parked.mask.argmax())
        self._chunk.fault(parked.instruction.line, "deadlock: no thread can go on" + self.describe(thread), thread)
