"""What still has to do with the shared memory of a block when it ends.

In: accesses of a block's shared memory, and arrivals at its mbarriers, by other blocks of the cluster; bulk copies that
come there. Out: findings: those that no warp of the block knew to be over when it ended. Why: the memory then belongs
to another block, and the emulator ends blocks of a cluster together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .numpy_chunk import Array, Chunk
from .sanitizer_clocks import HAPPENED, WARP, Clocks
from .sanitizer_findings import RACE, Access, Finding, Findings, Key


@dataclass(frozen=True, slots=True)
class _Last:
    """The newest access of an agent to a block's memory: its clock, the thread that made or began it, the PTX line."""

    clock: int
    thread: int
    line: int


class Ends:
    """For every block of a chunk, what has to be over when it ends."""

    def __init__(self, chunk: Chunk, clocks: Clocks, describe: Callable[[int], str], findings: Findings) -> None:
        """`describe` gives the text of a PTX line."""
        self._chunk, self._clocks, self._describe, self._findings = chunk, clocks, describe, findings
        self._last: dict[tuple[int, int], _Last] = {}

    def touch(self, blocks: Array, threads: Array, line: int) -> None:
        """Each of `threads` accesses memory of the block in `blocks`, or arrives at an mbarrier there."""
        other = blocks != threads // self._chunk.geometry.padded
        if not other.any():
            return
        pairs = np.unique(blocks[other] * self._clocks.warps + threads[other] // 32)
        for block, warp in zip(*np.divmod(pairs, self._clocks.warps), strict=True):
            agent = int(self._clocks.own[warp])
            clock = int(self._clocks.known[HAPPENED, warp, agent])
            self._last[int(block), agent] = _Last(clock, 32 * int(warp), line)

    def copy(self, block: int, agent: int, clock: int, thread: int, line: int) -> None:
        """A bulk copy to memory of `block`, known to be over as the event `clock` of `agent`."""
        self._last[block, agent] = _Last(clock, thread, line)

    def end(self) -> None:
        """All blocks have ended."""
        clocks = self._clocks
        known = clocks.known[HAPPENED].reshape(clocks.blocks, clocks.block_warps, -1).max(axis=1)
        for (block, agent), last in self._last.items():
            if known[block, agent] < last.clock:
                self._tell(block, agent, last)

    def _tell(self, block: int, agent: int, last: _Last) -> None:
        kernel = self._chunk.launch.kernel
        key: Key = (kernel, RACE, "after the end", last.line, 0)
        if self._findings.seen(key, 1):
            return
        reason = "a bulk copy may still write to its shared memory: nobody there waited for the mbarrier of the copy"
        if self._clocks.agents.names[agent][0] == WARP:
            reason = "another may still be at its shared memory: no barrier of the cluster in between that releases"
        position = self._chunk.position(block * self._chunk.geometry.padded)
        access = Access("was there", self._chunk.position(last.thread), last.line, self._describe(last.line))
        self._findings.add(key, Finding(RACE, kernel, f"{position} and its block end while {reason}", access))
