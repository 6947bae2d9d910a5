"""A profile without a GPU: counts what every launch moves and computes, on the emulator.

In: launches of a device. Out: `Counts` of each kernel. Why: bytes, sectors, bank conflicts and instructions follow
from the program and its addresses, so they can be counted exactly where there is no GPU; times cannot, see
runtime/profiling.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .memory import GlobalMemory
from .numpy_chunk import Array, Chunk, Launch, Mask, Values
from .numpy_codegen import Compiled
from .observer import ATOMIC, READ, WRITE, Instrument, Observer
from .profile_classes import BlockCosts, costs
from .profile_counts import SECTOR, sectors, wavefronts


@dataclass(slots=True)
class Counts:
    """What all launches of one kernel did. Instructions are counted once for each warp that executes them.

    Of global memory: `requested` bytes by threads, `sectors` of 32 bytes that warps asked for, and `distinct`
    bytes, those of the sectors that a launch touched at all, which is what an unlimited cache would leave to DRAM.
    Of shared memory: `wavefronts` of 128 bytes, and `ideal` ones without bank conflicts.
    """

    kernel: str
    grid: tuple[int, int, int] = (0, 0, 0)
    block: tuple[int, int, int] = (0, 0, 0)
    shared_bytes: int = 0
    launches: int = 0
    blocks: int = 0
    instructions: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    tensor: Counter[str] = field(default_factory=Counter)
    requested: Counter[str] = field(default_factory=Counter)
    sectors: Counter[str] = field(default_factory=Counter)
    distinct: Counter[str] = field(default_factory=Counter)
    wavefronts: int = 0
    ideal: int = 0
    conflicts: Counter[int] = field(default_factory=Counter)
    """Wavefronts beyond the ideal ones, by PTX line."""


class Profile(Instrument):
    """Counts on one device. `counts` holds a record for each kernel, in the order of first launch."""

    def __init__(self) -> None:
        self.counts: dict[str, Counts] = {}
        self._memory: GlobalMemory | None = None
        self._costs: dict[int, list[BlockCosts]] = {}
        self._observed: _Launch | None = None

    def attach(self, memory: GlobalMemory) -> None:
        self._memory = memory

    def begin(self, compiled: Compiled, launch: Launch) -> int:
        assert self._memory is not None
        found = self._costs.get(id(compiled))
        if found is None:
            found = self._costs[id(compiled)] = [costs(block) for block in compiled.program.blocks]
        counts = self.counts.setdefault(launch.kernel, Counts(launch.kernel))
        counts.grid, counts.block, counts.shared_bytes = launch.grid, launch.block, launch.shared_bytes
        counts.launches += 1
        counts.blocks += launch.grid[0] * launch.grid[1] * launch.grid[2]
        self._observed = _Launch(counts, found, self._memory.end)
        return 1 << 30

    def observe(self, chunk: Chunk) -> Observer:
        assert self._observed is not None
        return ChunkProfile(chunk, self._observed)

    def finish(self, error: Any) -> None:
        assert self._observed is not None
        self._observed.finish()
        self._observed = None


class _Launch:
    """One launch: its counts, how often each block ran, and the sectors it touched."""

    def __init__(self, counts: Counts, blocks: list[BlockCosts], end: int) -> None:
        self.counts, self._blocks = counts, blocks
        self.warps = np.zeros(len(blocks), np.int64)
        self.threads = np.zeros(len(blocks), np.int64)
        self.touched = {kind: np.zeros(end // SECTOR + 1, bool) for kind in (READ, WRITE)}

    def finish(self) -> None:
        """Add up what was counted block by block."""
        counts = self.counts
        for cost, warps, threads in zip(self._blocks, self.warps.tolist(), self.threads.tolist(), strict=True):
            if not warps:
                continue
            for total, each, times in (
                (counts.instructions, cost.instructions, warps),
                (counts.operations, cost.operations, threads),
                (counts.tensor, cost.tensor, warps),
            ):
                for name, number in each.items():
                    total[name] += number * times
        for kind, touched in self.touched.items():
            counts.distinct[kind] += SECTOR * int(np.count_nonzero(touched))


class ChunkProfile(Observer):
    """Counts what one chunk does."""

    def __init__(self, chunk: Chunk, launch: _Launch) -> None:
        self._chunk, self._launch = chunk, launch
        self._everyone: Array = np.arange(chunk.threads)
        if chunk.geometry.alive is not None:
            self._everyone = np.flatnonzero(chunk.geometry.alive)
        self._all_warps = chunk.threads // 32

    def executed(self, block: int, mask: Mask) -> None:
        launch = self._launch
        if mask is None:
            launch.warps[block] += self._all_warps
            launch.threads[block] += len(self._everyone)
        else:
            launch.warps[block] += int(np.count_nonzero(mask.reshape(-1, 32).any(axis=1)))
            launch.threads[block] += int(np.count_nonzero(mask))

    def accessed(self, mask: Mask, line: int, kind: str, space: str, address: Values, nbytes: int) -> None:
        threads = self._everyone if mask is None else np.flatnonzero(mask)
        addresses = np.broadcast_to(address, (self._chunk.threads,))[threads]
        if space == "global":
            self._global(kind, threads, addresses, nbytes)
        elif space in ("shared", "cluster"):
            self._shared(line, threads, addresses, nbytes)
        else:
            self._launch.counts.requested["local"] += nbytes * len(threads)

    def copied(
        self, mask: Mask, line: int, target: Values, source: Values, size: Values | None, nbytes: int
    ) -> None:
        self.accessed(mask, line, WRITE, "shared", target, nbytes)
        threads = self._everyone if mask is None else np.flatnonzero(mask)
        addresses = np.broadcast_to(source, (self._chunk.threads,))[threads]
        if size is not None:
            wanted = np.broadcast_to(size, (self._chunk.threads,))[threads] > 0
            threads, addresses = threads[wanted], addresses[wanted]
        if len(threads):
            self._global(READ, threads, addresses, nbytes)

    def bulk_accessed(
        self, thread: int, line: int, kind: str, space: str, addresses: Any, nbytes: int,
        *, block: int | None = None, mbarrier: int | None = None, group: str | None = None,
        others: Sequence[int] = (),
    ) -> None:  # fmt: skip
        starts = np.asarray(addresses, np.int64).reshape(-1)
        if space != "global":
            # Swizzled as they are meant to be, such reads do not conflict.
            count = -(-nbytes * len(starts) // 128) * (1 + len(others))
            self._launch.counts.wavefronts += count
            self._launch.counts.ideal += count
            return
        first, last = starts // SECTOR, (starts + nbytes - 1) // SECTOR
        spread = [np.arange(begin, end + 1) for begin, end in zip(first.tolist(), last.tolist(), strict=True)]
        if spread:
            self._moved(kind, np.unique(np.concatenate(spread)), nbytes * len(starts))

    def _global(self, kind: str, threads: Array, addresses: Array, nbytes: int) -> None:
        self._moved(kind, sectors(threads, addresses, nbytes), nbytes * len(threads))

    def _moved(self, kind: str, touched: Array, nbytes: int) -> None:
        launch = self._launch
        for each in (READ, WRITE) if kind == ATOMIC else (kind,):
            launch.counts.requested[each] += nbytes
            launch.counts.sectors[each] += len(touched)
            launch.touched[each][touched] = True

    def _shared(self, line: int, threads: Array, addresses: Array, nbytes: int) -> None:
        counts = self._launch.counts
        needed, ideal = wavefronts(threads, addresses, nbytes)
        counts.wavefronts += needed
        counts.ideal += ideal
        if needed > ideal:
            counts.conflicts[line] += needed - ideal
