"""The sanitizer's observer of one chunk: turns what the engine tells into checked and recorded accesses.

In: the calls of `Observer`. Out: findings. Why: clocks, shadow of shared and shadow of global memory know nothing
of masks, addresses and instructions; this is where they meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .memory import RANK_SHIFT
from .numpy_chunk import Array, Chunk, Mask, Values
from .numpy_cluster import OFFSET_MASK
from .numpy_warp import require_named_lanes
from .observer import ATOMIC, BULK, COPY, READ, WRITE, Observer
from .sanitizer_clocks import HAPPENED, Clocks
from .sanitizer_ends import Ends
from .sanitizer_findings import Findings
from .sanitizer_flags import Flags
from .sanitizer_global import GlobalShadow
from .sanitizer_kernel import KernelFacts
from .sanitizer_mbarriers import MadeBarriers
from .sanitizer_shared import Actors, SharedShadow

_MBARRIER_BYTES = 8


@dataclass(frozen=True, slots=True)
class _Threads:
    """The threads of one access, and the byte address of each."""

    threads: Array
    addresses: Array


@dataclass(frozen=True, slots=True)
class _Bounds:
    """How many cells each thread touches, and between which, counted within a block."""

    each: int
    low: int
    high: int


class ChunkSanitizer(Observer):
    """Checks the accesses of one chunk."""

    def __init__(self, chunk: Chunk, facts: KernelFacts, shadow: GlobalShadow, findings: Findings) -> None:
        self._chunk, self._facts, self._global = chunk, facts, shadow
        self._clocks = Clocks(chunk, chunk.cluster_blocks)
        self._shared = SharedShadow(chunk, self._clocks, facts.shared_granule, facts.describe, findings)
        self._barriers = MadeBarriers(chunk, self._clocks, facts.describe, findings)
        self._ends = Ends(chunk, self._clocks, facts.describe, findings)
        self._flags = Flags()
        shadow.enter(chunk, self._clocks)
        self._everyone: Array = np.arange(chunk.threads)
        if chunk.geometry.alive is not None:
            self._everyone = np.flatnonzero(chunk.geometry.alive)

    # Accesses.
    def accessed(self, mask: Mask, line: int, kind: str, space: str, address: Values, nbytes: int) -> None:
        if space == "local":
            return
        strong = kind == ATOMIC or line in self._facts.strong
        acting = self._acting(mask, address)
        if not len(acting.threads):
            return
        if space == "global":
            self._touch_global(kind, acting.threads, line, acting.addresses, nbytes, strong)
            places = acting.addresses.astype(np.int64)
        else:
            cells, bounds = self._cells(acting, nbytes)
            self._shared.touch(kind, cells, self._of_threads(acting.threads, bounds, line, strong))
            if self._chunk.cluster_blocks > 1:
                self._ends.touch(cells[:: bounds.each] // self._shared.cells, acting.threads, line)
            places = -1 - cells[:: bounds.each]
        if strong and self._facts.flags:
            self._flag(kind, acting.threads // 32, places, line)

    def _touch_global(
        self, kind: str, threads: Array, line: int, addresses: Array, nbytes: int, strong: bool = False
    ) -> None:
        """An access of global memory, by threads that may not have waited for the kernels in front yet."""
        if self._facts.begins_early:
            early = ~self._clocks.have_awaited(threads // 32)
            if early.any():
                self._global.check_early(self._chunk, kind, threads[early], line, addresses[early], nbytes)
        self._global.touch(self._chunk, kind, threads, line, addresses, nbytes, strong)

    def _flag(self, kind: str, warps: Array, places: Array, line: int) -> None:
        """A strong access may bring order between the warps of a block. `places`: global addresses, or shared cells
        as negative numbers.
        """
        known, flags = self._clocks.known, self._flags
        group = self._clocks.group_warps
        pairs = sorted(set(zip(warps.tolist(), places.tolist(), strict=True)))
        if kind != READ:
            release = line in self._facts.releases
            for warp, place in pairs:
                flags.write(warp, (warp // group, place), known[:, warp], release)
            if release:
                self._clocks.tick(np.unique(warps))
        if kind != WRITE:
            for warp, place in pairs:
                acquire = line in self._facts.acquires
                known[:, warp] = flags.read(warp, (warp // group, place), known[:, warp], acquire)

    def copied(
        self, mask: Mask, line: int, target: Values, source: Values, size: Values | None, nbytes: int
    ) -> None:
        chunk = self._chunk
        reading = self._acting(mask, source)
        if size is None:
            self._touch_global(READ, reading.threads, line, reading.addresses, nbytes)
        else:
            wanted = np.broadcast_to(size, (chunk.threads,))[reading.threads]
            full = wanted >= nbytes
            if full.any():
                self._touch_global(READ, reading.threads[full], line, reading.addresses[full], nbytes)
            for thread, address, count in self._partial(reading, wanted, nbytes):
                self._touch_global(READ, thread, line, address + np.arange(count, dtype=np.uint64), 1)
        first = self._clocks.copy_agents()
        groups = self._clocks.groups(COPY)
        writing = self._acting(mask, target)
        groups.used[writing.threads] = groups.opened[writing.threads]
        cells, bounds = self._cells(writing, nbytes)
        warp = writing.threads // 32
        warps = _distinct(warp)
        opened = groups.opened[writing.threads]
        actors = Actors(
            warps, first + self._clocks.own[warps], opened.max().repeat(len(warps)), writing.threads,
            first + self._clocks.own[warp], opened, bounds.each, bounds.low, bounds.high, line,
        )  # fmt: skip
        self._shared.touch(WRITE, cells, actors)

    @staticmethod
    def _partial(reading: _Threads, wanted: Array, nbytes: int) -> list[tuple[Array, np.uint64, int]]:
        """Copies of some of their bytes: few, at the edge of a tensor."""
        chosen = np.flatnonzero((wanted > 0) & (wanted < nbytes))
        return [
            (np.repeat(reading.threads[index], int(wanted[index])), reading.addresses[index], int(wanted[index]))
            for index in chosen
        ]

    def bulk_accessed(
        self, thread: int, line: int, kind: str, space: str, addresses: Any, nbytes: int,
        *, block: int | None = None, mbarrier: int | None = None, group: str | None = None,
        others: Sequence[int] = (),
    ) -> None:  # fmt: skip
        starts = np.asarray(addresses, np.uint64).reshape(-1)
        if space == "global":
            width = min(nbytes & -nbytes, 16)
            spread = (starts[:, None] + np.arange(0, nbytes, width, dtype=np.uint64)).reshape(-1)
            self._touch_global(kind, np.full(len(spread), thread), line, spread, width)
            return
        own_block = thread // self._chunk.geometry.padded
        block = own_block if block is None else block
        clocks = self._clocks
        if mbarrier is not None:
            agent, clock = clocks.mbarrier_agent(block, mbarrier)
            if kind == WRITE:
                self._barriers.use(block, mbarrier, np.array([thread, *others]), line, copies=True)
                self._ends.copy(block, agent, clock, thread, line)
        else:
            agent, clock = clocks.asynchronous_group(thread, group or BULK)
        granule = self._facts.shared_granule
        offsets = starts.astype(np.int64) // granule
        each = -(-nbytes // granule)
        cells = ((offsets + block * self._shared.cells)[:, None] + np.arange(each)).reshape(-1)
        count, low, high = len(starts), int(offsets.min()), int(offsets.max()) + each
        warps = np.array([thread, *others]) // 32
        actors = Actors(
            warps, np.full(len(warps), agent), np.full(len(warps), clock, np.uint32), np.full(count, thread),
            np.full(count, agent), np.full(count, clock, np.uint32), each, low, high, line, True,
        )  # fmt: skip
        if others and self._shared.may_race(actors):
            # Rare, and what one warp knows another may not: each is asked by itself.
            for own in (thread, *others):
                self.bulk_accessed(own, line, kind, space, starts, nbytes, block=block, mbarrier=mbarrier, group=group)
            return
        self._shared.touch(kind, cells, actors)

    # Asynchronous groups and fences.
    def group_committed(self, mask: Mask, line: int, kind: str) -> None:
        self._clocks.commit(mask, kind)

    def group_waited(self, mask: Mask, line: int, kind: str, pending: int | None, reading: bool = False) -> None:
        self._clocks.wait(mask, kind, pending)

    def fenced(self, mask: Mask, line: int, kind: str) -> None:
        if kind == "async":
            self._clocks.fence_proxies(mask)
        elif kind == "mbarrier_init":
            self._barriers.fence(mask)
        elif kind == "memory" and self._facts.flags:
            warps = self._clocks.warps_of(mask)
            for warp in warps.tolist():
                self._clocks.known[:, warp] = self._flags.fence(warp, self._clocks.known[:, warp])
            self._global.fence(self._chunk, self._everyone if mask is None else np.flatnonzero(mask))
            self._clocks.tick(warps)
        if line in self._facts.cluster_fences:
            self._clocks.fence_cluster(mask)

    # Synchronisation of threads.
    def previous_awaited(self, mask: Mask, line: int) -> None:
        self._clocks.await_previous(mask)

    def warps_met(self, mask: Mask, line: int, everyone: bool) -> None:
        if everyone and mask is not None:
            require_named_lanes(self._chunk, mask, line)
        self._clocks.tick(self._clocks.warps_of(mask))

    def barrier_arrived(self, mask: Mask, line: int, number: int) -> None:
        self._clocks.barrier_arrived(mask, number)

    def barrier_passed(self, mask: Mask, number: int, complete: Mask) -> None:
        self._clocks.barrier_passed(mask, number)

    def cluster_barrier_arrived(self, mask: Mask, line: int, relaxed: bool) -> None:
        self._clocks.cluster_arrived(mask, relaxed)

    def cluster_barrier_passed(self, mask: Mask, line: int) -> None:
        self._clocks.cluster_passed(mask)

    def mbarrier_initialised(self, mask: Mask, line: int, address: Values) -> None:
        self.accessed(mask, line, WRITE, "shared", address, _MBARRIER_BYTES)
        acting, padded = self._acting(mask, address), self._chunk.geometry.padded
        for thread, where in zip(acting.threads.tolist(), acting.addresses.tolist(), strict=True):
            self._barriers.make(thread, thread // padded, where, line)

    def mbarrier_arrived(
        self, mask: Mask, line: int, address: Values, block: Values | None = None, kind: str = "thread"
    ) -> None:
        for place, where, threads in self._objects(mask, address, block):
            warps = np.unique(threads // 32)
            self._barriers.use(place, where, threads, line)
            self._ends.touch(np.full(len(threads), place), threads, line)
            self._clocks.mbarrier_arrived(warps, place, where)
            if kind == COPY:
                self._clocks.copies_arrived(mask, warps, place, where)

    def mbarrier_completed(self, block: int, address: int) -> None:
        self._clocks.mbarrier_completed(block, address)

    def mbarrier_waited(self, mask: Mask, line: int, address: Values, block: Values | None = None) -> None:
        for place, where, threads in self._objects(mask, address, block):
            self._barriers.use(place, where, threads, line)
            self._clocks.mbarrier_waited(np.unique(threads // 32), place, where)

    def _objects(self, mask: Mask, address: Values, block: Values | None) -> list[tuple[int, int, Array]]:
        """(block, address, threads) of each mbarrier that threads of `mask` name."""
        acting = self._acting(mask, address)
        blocks = acting.threads // self._chunk.geometry.padded
        if block is not None:
            blocks = np.broadcast_to(block, (self._chunk.threads,))[acting.threads].astype(np.int64)
        combined = blocks * (1 << 32) + acting.addresses.astype(np.int64)
        return [
            (int(key) >> 32, int(key) & 0xFFFFFFFF, acting.threads[combined == key])
            for key in np.unique(combined)
        ]

    def ended(self) -> None:
        self._ends.end()
        groups = self._clocks.groups(BULK)
        left = np.flatnonzero(groups.used > groups.complete)
        if len(left):
            self._shared.left_in_flight(int(left[0]), len(left))

    # Threads, addresses, cells.
    def _acting(self, mask: Mask, address: Values) -> _Threads:
        threads = self._everyone if mask is None else np.flatnonzero(mask)
        if address.size == 1:
            return _Threads(threads, np.full(len(threads), address, np.uint64))
        return _Threads(threads, address[threads].astype(np.uint64))

    def _cells(self, acting: _Threads, nbytes: int) -> tuple[Array, _Bounds]:
        """The cells touched, those of the first thread first."""
        granule, threads = self._facts.shared_granule, acting.threads
        offsets = acting.addresses.astype(np.int64)
        blocks = threads // self._chunk.geometry.padded
        if self._chunk.cluster_blocks > 1:
            # A shared address of a thread's own block names no rank.
            rank = offsets >> RANK_SHIFT
            first_blocks = blocks - blocks % self._chunk.cluster_blocks
            blocks = np.where(rank == 0, blocks, first_blocks + rank - 1)
            offsets = offsets & OFFSET_MASK
        if granule > 1:
            offsets >>= granule.bit_length() - 1
        each = max(1, nbytes // granule)
        bounds = _Bounds(each, int(offsets.min()), int(offsets.max()) + each)
        first = offsets + blocks * self._shared.cells
        return (first if each == 1 else (first[:, None] + np.arange(each)).reshape(-1)), bounds

    def _of_threads(self, threads: Array, bounds: _Bounds, line: int, strong: bool) -> Actors:
        clocks = self._clocks
        warp = threads // 32
        warps = _distinct(warp)
        agents = clocks.own[warps]
        now = clocks.known[HAPPENED, warps, agents]
        own, clock = clocks.own[warp], clocks.now(warp)
        limits = (bounds.each, bounds.low, bounds.high)
        return Actors(warps, agents, now, threads, own, clock, *limits, line, strong=strong)


def _distinct(ascending: Array) -> Array:
    """The different values of an array that never falls."""
    new = np.ones(len(ascending), bool)
    np.not_equal(ascending[1:], ascending[:-1], out=new[1:])
    return np.asarray(ascending[new])
