"""Order that comes from flags: strong accesses and fences, as PTX's memory model has them.

In: fences, and strong reads and writes, of the warps of a chunk. Out: what they learn from each other. Why: a lock and
a spin loop are right without a barrier, and must not be called races. Between blocks: sanitizer_grid.py.
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
