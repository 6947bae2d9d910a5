"""Order that comes from flags: strong accesses and fences, as PTX's memory model has them.

In: fences, and strong reads and writes, of warps or of blocks. Out: what they learn from each other. Why: a lock, a
spin loop and "the last block adds up" are right without a barrier, and must not be called races.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from .numpy_chunk import Array


class Flags:
    """Knowledge (arrays of clocks, last axis agents) that travels through memory.

    A strong write publishes what its agent knew at its last fence (all it knows, when it is itself a release); a
    strong read takes up what was published there, which counts from the reader's next fence on (at once, for an
    acquire).
    """

    def __init__(self) -> None:
        self._released: dict[int, Array] = {}
        self._acquired: dict[int, Array] = {}
        self._published: dict[Hashable, Array] = {}

    def fence(self, agent: int, knowledge: Array) -> Array:
        """A fence of `agent`; gives what it knows from now on."""
        found = self._acquired.pop(agent, None)
        knowledge = knowledge.copy() if found is None else joined(knowledge, found)
        self._released[agent] = knowledge
        return knowledge

    def write(self, agent: int, place: Hashable, knowledge: Array, release: bool) -> None:
        """A strong write at `place`."""
        brought = knowledge.copy() if release else self._released.get(agent)
        if brought is not None:
            before = self._published.get(place)
            self._published[place] = brought if before is None else joined(before, brought)

    def read(self, agent: int, place: Hashable, knowledge: Array, acquire: bool) -> Array:
        """A strong read of `place`; gives what the agent knows from now on."""
        found = self._published.get(place)
        if found is None:
            return knowledge
        if acquire:
            return joined(knowledge, found)
        before = self._acquired.get(agent)
        self._acquired[agent] = found if before is None else joined(before, found)
        return knowledge


def joined(one: Array, other: Array) -> Array:
    """The newer of both clocks; agents that only one of them has count as unknown to the other."""
    missing = one.shape[-1] - other.shape[-1]
    if missing:
        pad = [(0, 0)] * (one.ndim - 1) + [(0, abs(missing))]
        one, other = (one, np.pad(other, pad)) if missing > 0 else (np.pad(one, pad), other)
    return np.maximum(one, other)


class BlockOrder:
    """What the blocks of a launch know of each other. All threads of a block count as one agent."""

    MOST_BLOCKS = 2048
    """Of larger grids nothing is known, and every access counts as ordered."""

    def __init__(self, blocks: int) -> None:
        self.is_known = blocks <= self.MOST_BLOCKS
        count = blocks if self.is_known else 0
        self._known: Array = np.eye(count, dtype=np.uint32)
        self._flags = Flags()

    def clocks(self, blocks: Array) -> Array:
        """The clocks of accesses that these blocks make now."""
        return np.asarray(self._known[blocks, blocks]) if self.is_known else np.ones(len(blocks), np.uint32)

    def unordered(self, blocks: Array, earlier: Array, clocks: Array) -> Array:
        """Whether each of `blocks` may not rely on what the `earlier` block did at its clock."""
        if not self.is_known:
            return np.zeros(len(blocks), bool)
        return np.asarray(self._known[blocks, earlier] < clocks)

    def fence(self, blocks: Array) -> None:
        """Threads of these blocks fence."""
        for block in blocks.tolist() if self.is_known else ():
            self._known[block] = self._flags.fence(block, self._known[block])
            self._known[block, block] += 1

    def touch(self, blocks: Array, places: Array, writes: bool, reads: bool, release: bool, acquire: bool) -> None:
        """Strong accesses of these blocks, an entry for each thread."""
        if not self.is_known:
            return
        pairs = sorted(set(zip(blocks.tolist(), places.tolist(), strict=True)))
        if writes:
            for block, place in pairs:
                self._flags.write(block, place, self._known[block], release)
        if reads:
            for block, place in pairs:
                self._known[block] = self._flags.read(block, place, self._known[block], acquire)
        if release:
            for block in {block for block, _ in pairs}:
                self._known[block, block] += 1
