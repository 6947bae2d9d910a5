"""Bulk copies of the NumPy engine: cp.async.bulk, its groups, and stores that complete on an mbarrier.

In: a chunk, a mask, addresses, sizes and barriers over threads. Out: memory changed, mbarriers told. Why: whoever may
issue a copy is one thread, so each is a slice of memory; one queue decides when it happens.

A copy happens at once, or, when the launch asks for copies at their latest moment (`chunk.delayed`), when its thread
waits for its group, when no thread of the chunk can go on otherwise, or at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .memory import SHARED_WINDOW
from .numpy_atomics import combination
from .numpy_chunk import Array, Chunk, Mask, Values
from .numpy_cluster import resolve
from .numpy_mbarrier import arrive, complete_bytes, each_active, fetch, observe_arrival, places, put
from .numpy_memory import indices
from .numpy_operations import DTYPES
from .observer import ATOMIC, BULK, COPY, READ, WRITE
from .ptx import TYPE_BITS

_UNIT = 16
"""Bytes that addresses and sizes of bulk copies are multiples of."""


@dataclass(slots=True)
class _Pending:
    """A copy that has not happened yet; `group` is -1 when it completes on an mbarrier."""

    thread: int
    group: int
    act: Callable[[], None]


class BulkQueue:
    """The bulk copies of a chunk that are outstanding."""

    def __init__(self, chunk: Chunk) -> None:
        self._chunk = chunk
        self._pending: list[_Pending] = []
        self._committed: Array = np.zeros(chunk.threads, np.int64)

    def issue(self, thread: int, grouped: bool, act: Callable[[], None]) -> None:
        """`thread` begins a copy, which belongs to its open group if `grouped`."""
        if self._chunk.delayed is None:
            act()
        else:
            self._pending.append(_Pending(thread, int(self._committed[thread]) if grouped else -1, act))

    def commit(self, mask: Mask) -> None:
        """End the open group of each thread."""
        self._committed[slice(None) if mask is None else mask] += 1

    def wait(self, mask: Mask, pending: int) -> None:
        """All but the newest `pending` groups of each thread happen now."""
        kept = []
        for copy in self._pending:
            due = 0 <= copy.group < int(self._committed[copy.thread]) - pending
            if due and (mask is None or mask[copy.thread]):
                copy.act()
            else:
                kept.append(copy)
        self._pending = kept

    def finish_one(self) -> bool:
        """Nobody can go on: the oldest copy happens. False when there is none."""
        if not self._pending:
            return False
        self._pending.pop(0).act()
        return True

    def finish(self) -> None:
        """The chunk ends."""
        while self.finish_one():
            pass


def queue(chunk: Chunk) -> BulkQueue:
    """The queue of a chunk, made when first wanted."""
    if chunk.bulk is None:
        chunk.bulk = BulkQueue(chunk)
    return chunk.bulk


def bulk_commit(chunk: Chunk, mask: Mask, line: int, *, count: int) -> tuple[()]:
    """cp.async.bulk.commit_group."""
    queue(chunk).commit(mask)
    if chunk.observer is not None:
        chunk.observer.group_committed(mask, line, BULK)
    return ()


def bulk_wait(chunk: Chunk, mask: Mask, line: int, *, pending: int, reading: bool, count: int) -> tuple[()]:
    """cp.async.bulk.wait_group, or with `reading` .read."""
    queue(chunk).wait(mask, pending)
    if chunk.observer is not None:
        chunk.observer.group_waited(mask, line, BULK, pending, reading)
    return ()


# Places.
@dataclass(frozen=True, slots=True)
class Place:
    """A run of bytes: in global memory (`block` -1) or in the shared memory of a block of the chunk."""

    block: int
    address: int

    @property
    def space(self) -> str:
        """`global` or `shared`."""
        return "global" if self.block < 0 else "shared"

    def start(self, chunk: Chunk) -> int:
        """Index of the first byte in the memory of its space."""
        return self.address if self.block < 0 else self.address + self.block * chunk.shared_stride


def shared_places(chunk: Chunk, mask: Mask, line: int, address: Values, verb: str) -> tuple[Array, Array]:
    """shared::cta, shared::cluster or generic addresses as (offsets, blocks of the chunk)."""
    if address.dtype == np.uint64:
        outside = np.broadcast_to((address >= np.uint64(2 * SHARED_WINDOW)), (chunk.threads,))
        outside = outside if mask is None else outside & mask
        if outside.any():
            chunk.fault(line, f"{verb}: the address is not in shared memory", int(outside.argmax()))
        address = address & np.uint64(SHARED_WINDOW - 1)
    return resolve(chunk, mask, line, address, verb)


def active_threads(chunk: Chunk, mask: Mask) -> list[int]:
    """Numbers of the threads that take part."""
    everyone = np.arange(chunk.threads) if mask is None else np.flatnonzero(mask)
    threads: list[int] = everyone.tolist()
    return threads


def check_run(chunk: Chunk, line: int, thread: int, place: Place, nbytes: int, verb: str, unit: int = _UNIT) -> None:
    """A fault when [place, place + nbytes) is misaligned or out of bounds."""
    if place.address % unit:
        chunk.fault(line, f"{verb}: {place.space} address {place.address:#x} is not a multiple of {unit}", thread)
    if place.block < 0:
        if not chunk.memory.contains(place.address, place.address + nbytes):
            near = chunk.memory.describe(place.address)
            chunk.fault(line, f"{verb} of {nbytes} bytes at {place.address:#x} out of bounds: {near}", thread)
    elif place.address + nbytes > chunk.launch.shared_bytes:
        chunk.fault(
            line, f"{verb} of {nbytes} bytes at shared address {place.address:#x} out of bounds: the block has "
            f"{chunk.launch.shared_bytes} bytes of shared memory", thread,
        )  # fmt: skip


def barrier_place(chunk: Chunk, line: int, thread: int, block: int, address: int) -> int:
    """The word of the mbarrier at shared `address` of `block`."""
    check_run(chunk, line, thread, Place(block, address), 8, "completion on an mbarrier", 8)
    return (address + block * chunk.shared_stride) // 8


def destinations(chunk: Chunk, line: int, thread: int, block: int, mask: int | None) -> list[int]:
    """Blocks of the chunk that a copy goes to: that one, or those of the cluster whose ranks are in the multicast
    mask.
    """
    if mask is None:
        return [block]
    if mask >> chunk.cluster_blocks:
        chunk.fault(line, f"multicast mask {mask:#x} in a cluster of {chunk.cluster_blocks} blocks", thread)
    first = thread // chunk.geometry.padded // chunk.cluster_blocks * chunk.cluster_blocks
    return [first + rank for rank in range(chunk.cluster_blocks) if mask >> rank & 1]


# Copies of plain runs.
def bulk_copy(
    chunk: Chunk, mask: Mask, line: int, target: Values, source: Values, size: Values, *rest: Values,
    target_shared: bool, source_shared: bool, barrier: bool, multicast: bool, operation: str, type: str, count: int,
) -> tuple[()]:  # fmt: skip
    """cp.async.bulk and cp.reduce.async.bulk of `size` bytes a thread; `rest` is the mbarrier, then the multicast
    mask.
    """
    verb = "cp.reduce.async.bulk" if operation else "cp.async.bulk"
    columns = [
        _runs(chunk, mask, line, target, target_shared, verb),
        _runs(chunk, mask, line, source, source_shared, verb),
    ]
    sizes = np.broadcast_to(size, (chunk.threads,))
    barriers = shared_places(chunk, mask, line, rest[0], verb) if barrier else None
    masks = np.broadcast_to(rest[-1], (chunk.threads,)) if multicast else None
    for thread in active_threads(chunk, mask):
        to, source_place = (Place(int(blocks[thread]), int(offsets[thread])) for offsets, blocks in columns)
        nbytes = int(sizes[thread])
        if nbytes % _UNIT:
            chunk.fault(line, f"{verb} of {nbytes} bytes, which is not a multiple of {_UNIT}", thread)
        check_run(chunk, line, thread, source_place, nbytes, verb)
        wanted = None if masks is None else int(masks[thread])
        for block in destinations(chunk, line, thread, to.block, wanted):
            place = Place(block, to.address)
            check_run(chunk, line, thread, place, nbytes, verb)
            word, offset = None, None
            if barriers is not None:
                offset = int(barriers[0][thread])
                owner = block if wanted is not None else int(barriers[1][thread])
                word = barrier_place(chunk, line, thread, owner, offset)
            _observe(chunk, thread, line, source_place, place, nbytes, offset)
            copy = _Run(chunk, line, thread, source_place, place, nbytes, word, operation, type)
            queue(chunk).issue(thread, not barrier, copy.make)
    return ()


def _runs(chunk: Chunk, mask: Mask, line: int, address: Values, shared: bool, verb: str) -> tuple[Array, Array]:
    if shared:
        return shared_places(chunk, mask, line, address, verb)
    return np.broadcast_to(address, (chunk.threads,)), np.full(chunk.threads, -1)


def _observe(
    chunk: Chunk, thread: int, line: int, source: Place, target: Place, nbytes: int, barrier: int | None
) -> None:
    observer = chunk.observer
    if observer is None:
        return
    group = BULK if barrier is None else None
    for kind, place in ((READ, source), (WRITE, target)):
        block = None if place.block < 0 else place.block
        addresses = np.array([place.address], np.uint64)
        observer.bulk_accessed(
            thread, line, kind, place.space, addresses, nbytes, block=block, mbarrier=barrier, group=group
        )


@dataclass(slots=True)
class _Run:
    """One copy of a run of bytes, ready to be made."""

    chunk: Chunk
    line: int
    thread: int
    source: Place
    target: Place
    nbytes: int
    word: int | None
    operation: str
    type: str

    def make(self) -> None:
        """Copy, or combine with what is there, and tell the mbarrier."""
        chunk = self.chunk
        dtype = DTYPES[self.type] if self.operation else "u1"
        parts = []
        for place in (self.source, self.target):
            start = place.start(chunk)
            parts.append(chunk.view(place.space, "u1")[start : start + self.nbytes].view(dtype))
        source, target = parts
        target[:] = combination(self.operation, self.type)(target, source) if self.operation else source
        chunk.changes += 1
        if self.word is not None:
            complete_bytes(chunk, self.line, self.word, self.nbytes, self.thread)


# Stores that complete on an mbarrier.
def store_async(
    chunk: Chunk, mask: Mask, line: int, address: Values, barrier: Values, *values: Values,
    type: str, operation: str, count: int,
) -> tuple[()]:  # fmt: skip
    """st.async and red.async: into the shared memory of a block of the cluster, completing on a barrier there."""
    nbytes = TYPE_BITS[type] // 8
    width = nbytes * len(values)
    place = indices(chunk, mask, line, address, width, "cluster", "st.async") * len(values)
    words = indices(chunk, mask, line, barrier, 8, "cluster", "st.async")
    view = chunk.view("cluster", DTYPES[type])
    if chunk.observer is not None:
        # Whoever waits for the bytes learns of the store as of an arrival of its thread.
        chunk.observer.accessed(mask, line, ATOMIC if operation else WRITE, "cluster", address, width)
        observe_arrival(chunk, mask, line, words)
    for thread in active_threads(chunk, mask):
        for index, value in enumerate(values):
            new: Any = value if value.ndim == 0 else value[thread]
            at = int(place[thread]) + index
            if operation:
                new = combination(operation, type)(view[at : at + 1], np.array([new], view.dtype))[0]
            view[at] = new
        chunk.changes += 1
        complete_bytes(chunk, line, int(words[thread]), width, thread)
    return ()


# cp.async on an mbarrier.
def copies_arrive(
    chunk: Chunk, mask: Mask, line: int, address: Values, *, space: str, counted: bool, count: int
) -> tuple[()]:
    """cp.async.mbarrier.arrive: an arrival once the thread's earlier cp.async are done. `counted`: the phase awaits one
    arrival more for it (without .noinc).
    """
    verb = "cp.async.mbarrier.arrive"
    place = places(chunk, mask, line, address, space, verb)
    observe_arrival(chunk, mask, line, place, COPY)
    waiting = list(each_active(chunk, mask, place))
    for thread, word, _ in waiting:
        barrier = fetch(chunk, line, word, thread, verb)
        barrier.pending += counted
        put(chunk, word, barrier)

    def copies_are_done() -> None:
        if chunk.delayed is not None:
            chunk.delayed.complete(mask, None)
        for thread, word, _ in waiting:
            barrier = fetch(chunk, line, word, thread, verb)
            arrive(chunk, line, barrier, 1, word, thread)
            put(chunk, word, barrier)

    queue(chunk).issue(waiting[0][0], False, copies_are_done)
    return ()
