"""Order between blocks of a launch that comes from flags: strong accesses and fences, as PTX's memory model has them.

In: fences and strong accesses of global memory, and the clocks of the warps that make them. Out: whether a warp may
rely on what a thread of another block did. Why: "the last block adds up" and tiles handed over through a workspace
are right without an end of the launch; but a flag that one thread sets speaks for the other threads of its block only
after a barrier, and so does one that it reads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .numpy_chunk import Array
from .sanitizer_clocks import HAPPENED, Clocks

_CLOCK = np.uint64(32)
_LANES = np.uint64((1 << 32) - 1)
_LESSONS_KEPT = 8


@dataclass(slots=True)
class _Lesson:
    """What warp `warp` of a block had learnt when its clock was `clock`: stamps of all blocks' warps. Others of the
    block know it once they know that the clock is over."""

    warp: int
    clock: int
    stamps: Array


def joined(one: Array, other: Array) -> Array:
    """The newer of stamps, which pack a clock and the lanes whose accesses at that very clock count too."""
    return np.asarray(np.where(one >> _CLOCK == other >> _CLOCK, one | other, np.maximum(one, other)))


class GridOrder:
    """What the warps of a launch know of the warps of other blocks.

    A strong write publishes what its warp knew at its last fence (all it knows, when it is itself a release): of other
    warps what barriers have told, of its own other lanes what was before they last met. A strong read takes up what
    was published there, which counts from the warp's next fence on (at once, for an acquire).
    """

    MOST_STAMPS = 1 << 23
    """Of larger grids (blocks, squared, times warps of a block) nothing is known: every access counts as ordered."""

    def __init__(self, blocks: int, block_warps: int) -> None:
        self.is_known = blocks * blocks * block_warps <= self.MOST_STAMPS
        self._shape = blocks, block_warps
        self._chunk: tuple[int, Clocks] | None = None
        self._lessons: dict[int, list[_Lesson]] = {}
        self._released: dict[tuple[int, int], Array] = {}
        self._acquired: dict[tuple[int, int], Array] = {}
        self._published: dict[int, Array] = {}

    def enter(self, first_block: int, clocks: Clocks) -> None:
        """The chunk that begins with this block runs now, and has these clocks."""
        self._chunk = first_block, clocks

    def _running(self) -> tuple[int, Clocks]:
        """The first block of the chunk that runs, and its clocks."""
        assert self._chunk is not None
        return self._chunk

    def now(self, blocks: Array, threads: Array) -> Array:
        """The clocks of accesses that these threads of these blocks make now."""
        if not self.is_known:
            return np.ones(len(blocks), np.uint32)
        first, clocks = self._running()
        return clocks.now((blocks - first) * self._shape[1] + threads // 32)

    def unordered(self, readers: tuple[Array, Array], writers: tuple[Array, Array], when: Array) -> Array:
        """Whether each reader may not rely on what the writer did at the clock `when`; both are blocks and threads."""
        found = np.zeros(len(when), bool)
        if not self.is_known:
            return found
        warps = readers[0] * self._shape[1] + readers[1] // 32
        for warp in np.unique(warps).tolist():
            mine = warps == warp
            block, own = divmod(warp, self._shape[1])
            known = self._knowledge(block, own, 0)
            stamps = known[writers[0][mine], writers[1][mine] // 32]
            clock, lane = stamps >> _CLOCK, (writers[1][mine] % 32).astype(np.uint64)
            told = (clock > when[mine]) | ((clock == when[mine]) & (stamps >> lane & np.uint64(1) != 0))
            found[mine] = ~told
        return found

    def fence(self, blocks: Array, threads: Array) -> None:
        """These threads fence."""
        for (block, warp), lanes in self._warps(blocks, threads).items():
            brought = self._acquired.pop((block, warp), None)
            if brought is not None:
                self._learn(block, warp, brought)
            self._released[block, warp] = self._knowledge(block, warp, lanes)

    def touch(
        self, blocks: Array, threads: Array, places: Array, writes: bool, reads: bool, release: bool, acquire: bool
    ) -> None:  # fmt: skip
        """Strong accesses of these threads."""
        if not self.is_known:
            return
        for place in np.unique(places).tolist():
            here = places == place
            acting = self._warps(blocks[here], threads[here])
            for (block, warp), lanes in acting.items() if writes else ():
                brought = self._knowledge(block, warp, lanes) if release else self._released.get((block, warp))
                if brought is not None:
                    before = self._published.get(place)
                    self._published[place] = brought if before is None else joined(before, brought)
            found = self._published.get(place) if reads else None
            for block, warp in acting if found is not None else ():
                assert found is not None
                if acquire:
                    self._learn(block, warp, found)
                else:
                    before = self._acquired.get((block, warp))
                    self._acquired[block, warp] = found if before is None else joined(before, found)

    def _warps(self, blocks: Array, threads: Array) -> dict[tuple[int, int], int]:
        """The warps that act, (block, warp), and which of their lanes do."""
        found: dict[tuple[int, int], int] = {}
        if self.is_known:
            for block, thread in zip(blocks.tolist(), threads.tolist(), strict=True):
                key = block, thread // 32
                found[key] = found.get(key, 0) | 1 << thread % 32
        return found

    def _learn(self, block: int, warp: int, stamps: Array) -> None:
        """From now on a warp knows `stamps` too."""
        lessons = self._lessons.setdefault(block, [])
        known = self._known(block, warp)
        more = joined(known, stamps)
        if (more == known).all():
            return
        lessons.append(_Lesson(warp, self._clock(block, warp, warp), more))
        if len(lessons) > _LESSONS_KEPT:
            # Counted as learnt at the earlier time: too much may be believed, nothing right is called a race.
            oldest = lessons.pop(0)
            later = next((lesson for lesson in lessons if lesson.warp == oldest.warp), None)
            if later is not None:
                later.clock = oldest.clock

    def _known(self, block: int, warp: int) -> Array:
        """Stamps of all warps of the grid as a warp has learnt them."""
        stamps = np.zeros(self._shape, np.uint64)
        for lesson in self._lessons.get(block, ()):
            if lesson.warp == warp or self._clock(block, warp, lesson.warp) >= lesson.clock:
                stamps = joined(stamps, lesson.stamps)
        return stamps

    def _knowledge(self, block: int, warp: int, lanes: int) -> Array:
        """What some lanes of a warp may tell others: what it has learnt, and of its own cluster what it knows."""
        first, clocks = self._running()
        place = (block - first) * self._shape[1] + warp
        own = clocks.known[HAPPENED, place, : clocks.group_warps].astype(np.uint64) << _CLOCK | _LANES
        mine = int(clocks.own[place])
        own[mine] = own[mine] & ~_LANES | np.uint64(lanes)
        stamps = self._known(block, warp)
        leader = block - (block - first) % clocks.cluster
        rows = slice(leader, leader + clocks.cluster)
        stamps[rows] = joined(stamps[rows], own.reshape(clocks.cluster, -1))
        return stamps

    def _clock(self, block: int, warp: int, other: int) -> int:
        """The newest clock of warp `other` of a block that `warp` knows."""
        first, clocks = self._running()
        rank = (block - first) % clocks.cluster * self._shape[1]
        return int(clocks.known[HAPPENED, (block - first) * self._shape[1] + warp, rank + other])
