"""Shadows of global memory: which bytes have a value, and which blocks of a launch touched them.

In: uploads, fills, copies and accesses of kernels. Out: findings: reads of memory that nobody wrote, and accesses
of two blocks of one launch that conflict, which nothing orders. Why: memory that happens to be zero, and blocks
that happen to run one after another, hide both on a small test.
"""

from __future__ import annotations

import numpy as np

from .memory import GlobalMemory, reserve
from .numpy_chunk import Array, Chunk
from .observer import READ, WRITE
from .sanitizer_clocks import Clocks
from .sanitizer_findings import RACE, UNINITIALISED, UNWRITTEN, Access, Finding, Findings, Key
from .sanitizer_grid import GridOrder
from .sanitizer_kernel import KernelFacts

_BLOCK, _THREAD, _STRONG, _SEVERAL = np.uint64(33), np.uint64(23), np.uint64(1 << 22), np.uint64(1 << 63)
_LINE = np.uint64((1 << 22) - 1)
_PIECE_BYTES = 1 << 24
_BLOCKS, _THREADS = np.uint64((1 << 30) - 1), np.uint64((1 << 10) - 1)


class Contents:
    """One byte for each of device memory: 0 where nothing was written since it was allocated or discarded, 1 where the
    host wrote last, 3 where a kernel did."""

    def __init__(self, memory: GlobalMemory) -> None:
        self._memory = memory
        self._written: Array = np.frombuffer(reserve(memory.capacity), np.uint8)[: memory.capacity]

    def define(self, address: int, nbytes: int) -> None:
        """The host wrote."""
        self._written[address : address + nbytes] = 1

    def forget(self, address: int, nbytes: int) -> None:
        """New memory, or contents that no longer count."""
        self._written[address : address + nbytes] = 0

    def complete(self) -> None:
        """What nobody wrote counts as written by a kernel."""
        for first in range(0, self._memory.end, _PIECE_BYTES):
            piece = self._written[first : min(first + _PIECE_BYTES, self._memory.end)]
            piece[piece == 0] = 3

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """What was never written stays so in a copy."""
        self._written[target : target + nbytes] = self._written[source : source + nbytes] & 1

    def missing(self, address: int, nbytes: int) -> Array:
        """Offsets of the bytes of a range that nobody wrote."""
        return np.flatnonzero(self._written[address : address + nbytes] == 0)

    def write(self, addresses: Array, nbytes: int) -> None:
        """Kernel writes of `nbytes` (a power of two) bytes at aligned addresses."""
        words, index, full = self._words(addresses, nbytes)
        for part in range(max(1, nbytes // 8)):
            words[index + part] = full * words.dtype.type(3)

    def undefined(self, addresses: Array, nbytes: int) -> Array:
        """For each aligned address, whether one of `nbytes` bytes was never written."""
        words, index, full = self._words(addresses, nbytes)
        wrong = words.take(index) & full != full
        for part in range(1, nbytes // 8):
            wrong |= words.take(index + part) & full != full
        return np.asarray(wrong)

    def of_kernels(self, addresses: Array, nbytes: int) -> Array:
        """For each aligned address, whether a kernel wrote one of `nbytes` bytes."""
        words, index, full = self._words(addresses, nbytes)
        wrong = words.take(index) & ~full != 0
        for part in range(1, nbytes // 8):
            wrong |= words.take(index + part) & ~full != 0
        return np.asarray(wrong)

    def _words(self, addresses: Array, nbytes: int) -> tuple[Array, Array, np.uint64]:
        width = min(nbytes, 8)
        words = self._written.view(f"u{width}")
        index = (addresses >> np.uint64(width.bit_length() - 1)).astype(np.int64)
        return words, index, words.dtype.type(int.from_bytes(b"\1" * width, "little"))


def unwritten(contents: Contents, memory: GlobalMemory, address: int, nbytes: int) -> Finding | None:
    """The finding of a download of bytes that no kernel wrote."""
    missing = contents.missing(address, nbytes)
    if not len(missing):
        return None
    what = (
        f"the host reads {nbytes} bytes of which {len(missing)} were never written, the first one "
        f"{memory.describe(address + int(missing[0]))}"
    )
    return Finding(UNWRITTEN, "", what)


class BlockRaces:
    """Who touched each cell of global memory in one launch.

    A record packs several readers (1 bit), block + 1 (30), thread (10), strong (1) and PTX line (22).
    """

    def __init__(self, memory: GlobalMemory, granule: int, order: GridOrder | None) -> None:
        """`granule`: bytes of a cell, the narrowest access of the kernel; `order`: what warps know of other blocks,
        None where nothing orders them.
        """
        self._granule, self._order = granule, order
        count = memory.end // granule + 1
        self._writes: Array = np.frombuffer(reserve(8 * count), np.uint64)
        self._reads: Array = np.frombuffer(reserve(8 * count), np.uint64)
        clocks = count if order is not None else 1
        self._write_clocks: Array = np.frombuffer(reserve(4 * clocks), np.uint32)
        self._read_clocks: Array = np.frombuffer(reserve(4 * clocks), np.uint32)

    def cells(self, addresses: Array, nbytes: int) -> Array:
        """The cells of each address, [addresses, cells]."""
        first = (addresses // np.uint64(self._granule)).astype(np.int64)
        return np.asarray(first[:, None] + np.arange(max(1, nbytes // self._granule)))

    def read(self, cells: Array, records: Array, noncoherent: bool) -> Array:
        """Record reads; gives the records of earlier writes by other blocks, 0 where there are none. For a
        `noncoherent` load any write of the launch counts, by its own thread too.
        """
        before = self._reads.take(cells)
        others = (before != 0) & ((before ^ records) >> _BLOCK & _BLOCKS != 0)
        self._reads[cells] = np.where(others, before | _SEVERAL, records | (before & _SEVERAL))
        if self._order is not None:
            self._read_clocks[cells] = self._order.now(*_actors(records))
        if noncoherent:
            return self._writes.take(cells)
        return self._unlike(self._foreign(self._writes.take(cells), records, cells, self._write_clocks), records)

    def write(self, cells: Array, records: Array) -> tuple[Array, Array]:
        """Record writes or atomics; gives the records of earlier writes, and of earlier reads, by other blocks."""
        reads = self._reads.take(cells)
        foreign_reads = self._foreign(reads, records, cells, self._read_clocks)
        if self._order is None:
            foreign_reads = np.where((reads & _SEVERAL) != 0, reads, foreign_reads)
        writes = self._foreign(self._writes.take(cells), records, cells, self._write_clocks)
        self._writes[cells] = records
        if self._order is not None:
            self._write_clocks[cells] = self._order.now(*_actors(records))
        left = self._foreign(self._writes.take(cells), records, cells, self._write_clocks)
        writes = np.where(writes == 0, left, writes)
        return self._unlike(writes, records), self._unlike(foreign_reads, records)

    @staticmethod
    def _unlike(before: Array, records: Array) -> Array:
        """`before` without the strong accesses that meet strong ones."""
        return np.where((before & records & _STRONG) != 0, np.uint64(0), before)

    def _foreign(self, before: Array, records: Array, cells: Array, clocks: Array) -> Array:
        """`before` without accesses of the same block, and those that the warp knows to be over."""
        own = (before == 0) | ((before ^ records) >> _BLOCK & _BLOCKS == 0)
        asked = np.flatnonzero(~own) if self._order is not None else ()
        if self._order is not None and len(asked):
            acting, earlier = _actors(records[asked]), _actors(before[asked])
            own[asked] = ~self._order.unordered(acting, earlier, clocks.take(cells[asked]))
        return np.asarray(np.where(own, np.uint64(0), before))


def _actors(records: Array) -> tuple[Array, Array]:
    """Blocks, and threads in them."""
    return (records >> _BLOCK & _BLOCKS).astype(np.int64) - 1, (records >> _THREAD & _THREADS).astype(np.int64)


class GlobalShadow:
    """Checks the global accesses of one launch."""

    def __init__(
        self,
        memory: GlobalMemory,
        contents: Contents,
        facts: KernelFacts,
        blocks: int,
        block_warps: int,
        clusters: bool,
        findings: Findings,
    ) -> None:
        """`blocks`: how many the grid has, of `block_warps` warps each; `clusters`: whether barriers may order some."""
        self._memory, self._contents, self._facts = memory, contents, facts
        self._order = GridOrder(blocks, block_warps) if facts.flags or clusters else None
        self._races = BlockRaces(memory, facts.global_granule, self._order)
        self._describe, self._findings = facts.describe, findings

    def enter(self, chunk: Chunk, clocks: Clocks) -> None:
        """A chunk begins to run."""
        if self._order is not None:
            self._order.enter(chunk.first_block, clocks)

    def fence(self, chunk: Chunk, threads: Array) -> None:
        """These threads fence; the clocks of their warps have not moved on yet."""
        if self._order is not None:
            padded = chunk.geometry.padded
            self._order.fence(threads // padded + chunk.first_block, threads % padded)

    def touch(
        self, chunk: Chunk, kind: str, threads: Array, line: int, addresses: Array, nbytes: int, strong: bool = False
    ) -> None:
        """Check and record an access of `nbytes` bytes at each of `addresses` by each of `threads`; `strong` ones
        (atomic, volatile or the like) do not race with each other.
        """
        if kind != WRITE:
            wrong = self._contents.undefined(addresses, nbytes)
            if wrong.any():
                self._uninitialised(chunk, kind, threads, line, addresses, wrong)
        if kind != READ:
            self._contents.write(addresses, nbytes)
        padded = chunk.geometry.padded
        block = (threads // padded + (chunk.first_block + 1)).astype(np.uint64)
        records = (block << _BLOCK) | ((threads % padded).astype(np.uint64) << _THREAD) | np.uint64(line)
        if strong:
            records |= _STRONG
        cells = self._races.cells(addresses, nbytes)
        if cells.shape[1] > 1:
            records = np.repeat(records, cells.shape[1])
        flat = cells.reshape(-1)
        if kind == READ:
            found = [(self._races.read(flat, records, line in self._facts.noncoherent), "wrote")]
        else:
            writes, reads = self._races.write(flat, records)
            found = [(writes, "wrote"), (reads, "read")]
        for before, verb in found:
            if before.any():
                self._race(chunk, kind, threads, line, addresses, before, verb)
        if strong and self._order is not None:
            release, acquire = line in self._facts.releases, line in self._facts.acquires
            self._order.touch(
                block.astype(np.int64) - 1, threads % padded, addresses, kind != READ, kind != WRITE, release, acquire
            )

    def check_early(
        self, chunk: Chunk, kind: str, threads: Array, line: int, addresses: Array, nbytes: int
    ) -> None:
        """An access before griddepcontrol.wait: to read what the host wrote is all that is allowed."""
        wrong = self._contents.of_kernels(addresses, nbytes) if kind == READ else np.ones(len(threads), bool)
        kernel, count = chunk.launch.kernel, int(wrong.sum())
        key: Key = (kernel, RACE, "before the wait", line, 0)
        if not count or self._findings.seen(key, count):
            return
        first = int(wrong.argmax())
        address, verb = int(addresses[first]), {READ: "reads", WRITE: "writes"}.get(kind, "updates")
        what = (
            f"race on global memory at {address:#x} with the kernels in front, which may still run: no "
            f"griddepcontrol.wait before the access ({self._memory.describe(address)})"
        )
        access = self._access(chunk, verb, int(threads[first]), line)
        self._findings.add(key, Finding(RACE, kernel, what, access, count=count))

    def _uninitialised(
        self, chunk: Chunk, kind: str, threads: Array, line: int, addresses: Array, wrong: Array
    ) -> None:
        kernel, count = chunk.launch.kernel, int(wrong.sum())
        key: Key = (kernel, UNINITIALISED, "global", line, 0)
        if self._findings.seen(key, count):
            return
        first = int(wrong.argmax())
        near = self._memory.describe(int(addresses[first]))
        what = f"global memory at {int(addresses[first]):#x} is read and was never written ({near})"
        access = self._access(chunk, "reads" if kind == READ else "updates", int(threads[first]), line)
        self._findings.add(key, Finding(UNINITIALISED, kernel, what, access, count=count))

    def _race(
        self, chunk: Chunk, kind: str, threads: Array, line: int, addresses: Array, before: Array, verb: str
    ) -> None:
        kernel, each = chunk.launch.kernel, len(before) // len(threads)
        lines = before & _LINE
        for other in np.unique(lines[before != 0]).tolist():
            chosen = (before != 0) & (lines == other)
            key: Key = (kernel, RACE, f"blocks {kind} {verb}", line, other)
            count = int(chosen.sum())
            if self._findings.seen(key, count):
                continue
            first = int(chosen.argmax())
            address = int(addresses[first // each])
            now = {READ: "reads", WRITE: "writes"}.get(kind, "updates")
            reason = "between blocks of one launch, which nothing orders"
            if kind == READ and line in self._facts.noncoherent:
                reason = "that the launch writes and reads through the non-coherent cache (ld.global.nc)"
            what = f"race on global memory at {address:#x} {reason} ({self._memory.describe(address)})"
            record = int(before[first])
            block = (record >> int(_BLOCK) & int(_BLOCKS)) - 1 - chunk.first_block
            position = chunk.position(block * chunk.geometry.padded + (record >> int(_THREAD) & int(_THREADS)))
            earlier = Access(verb, position, other, self._describe(other))
            access = self._access(chunk, now, int(threads[first // each]), line)
            self._findings.add(key, Finding(RACE, kernel, what, access, earlier, count=count))

    def _access(self, chunk: Chunk, verb: str, thread: int, line: int) -> Access:
        return Access(verb, chunk.position(thread), line, self._describe(line))
