"""mbarrier objects of the NumPy engine: initialise, arrive, expect and complete bytes, test.

In: a chunk, a mask, addresses of 8-byte barrier words in shared memory. Out: the words changed, tokens, answers.
Why: the whole state is in the word itself, as on hardware, so that overwriting or not initialising it is found.

The word, low bits first: 20 bits arrivals that this phase still lacks, 20 bits arrivals of a whole phase, 21 bits
signed bytes that copies still owe, the phase's parity, 2 bits that mark a barrier. (PTX leaves the layout open.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .memory import SHARED_WINDOW
from .numpy_chunk import Array, Chunk, Mask, Values
from .numpy_memory import indices

COUNT_BITS = 20
_MOST = (1 << COUNT_BITS) - 1
BYTES_SHIFT = 2 * COUNT_BITS
BYTES_BITS = 21
PARITY_SHIFT = 61
MARK_SHIFT = 62
MARK = 2


@dataclass(slots=True)
class Barrier:
    """One mbarrier: arrivals that the phase lacks, arrivals of each phase, bytes owed, parity of the phase."""

    pending: int
    expected: int
    owed: int
    parity: int

    def word(self) -> int:
        """The barrier as it lies in memory."""
        return (
            self.pending
            | self.expected << COUNT_BITS
            | (self.owed & ((1 << BYTES_BITS) - 1)) << BYTES_SHIFT
            | self.parity << PARITY_SHIFT
            | MARK << MARK_SHIFT
        )


def decode(word: int) -> Barrier | None:
    """The barrier that a word of memory holds; None when it holds none."""
    if word >> MARK_SHIFT != MARK:
        return None
    owed = word >> BYTES_SHIFT & ((1 << BYTES_BITS) - 1)
    if owed >> (BYTES_BITS - 1):
        owed -= 1 << BYTES_BITS
    return Barrier(word & _MOST, word >> COUNT_BITS & _MOST, owed, word >> PARITY_SHIFT & 1)


# Places.
def places(chunk: Chunk, mask: Mask, line: int, address: Values, space: str, verb: str) -> Array:
    """For each thread the index of its barrier among the 8-byte words of the chunk's shared memory."""
    if space == "generic":
        chosen = np.broadcast_to(address, (chunk.threads,))
        outside = (chosen < np.uint64(SHARED_WINDOW)) | (chosen >= np.uint64(2 * SHARED_WINDOW))
        outside = outside if mask is None else outside & mask
        if outside.any():
            chunk.fault(line, f"{verb}: an mbarrier must lie in shared memory", int(outside.argmax()))
        address, space = address - np.uint64(SHARED_WINDOW), "cluster"
    found = indices(chunk, mask, line, address, 8, space, verb)
    return np.broadcast_to(found, (chunk.threads,))


def _active(chunk: Chunk, mask: Mask) -> Array:
    return np.arange(chunk.threads) if mask is None else np.flatnonzero(mask)


def fetch(chunk: Chunk, line: int, place: int, thread: int, verb: str) -> Barrier:
    """The barrier at word `place`. A fault when there is none."""
    barrier = decode(int(chunk.view("shared", "u8")[place]))
    if barrier is None:
        chunk.fault(line, f"{verb}: no mbarrier was initialised at {where(chunk, place)}", thread)
    return barrier


def where(chunk: Chunk, place: int) -> str:
    """Shared address of word `place`, for messages."""
    return f"shared address {_block_and_address(chunk, place)[1]:#x}"


def put(chunk: Chunk, place: int, barrier: Barrier) -> None:
    """Write a barrier back; a phase that is complete gives way to the next one."""
    if barrier.pending == 0 and barrier.owed == 0:
        barrier.pending, barrier.parity = barrier.expected, barrier.parity ^ 1
        chunk.events += 1
        if chunk.observer is not None:
            chunk.observer.mbarrier_completed(*_block_and_address(chunk, place))
    chunk.view("shared", "u8")[place] = barrier.word()
    chunk.changes += 1


def _block_and_address(chunk: Chunk, place: Any) -> tuple[Any, Any]:
    """The block of the chunk whose memory word `place` (a number or an array) is in, and the shared address there."""
    return 8 * place // chunk.shared_stride, 8 * place % chunk.shared_stride


def observe_waited(chunk: Chunk, mask: Mask, line: int, address: Values, space: str) -> None:
    """Tell the observer that a wait of these threads was answered with true."""
    assert chunk.observer is not None
    block, offset = _block_and_address(chunk, places(chunk, mask, line, address, space, "wait on an mbarrier"))
    chunk.observer.mbarrier_waited(mask, line, offset.astype("u8"), block)


def _observe_initialised(chunk: Chunk, mask: Mask, line: int, place: Array) -> None:
    if chunk.observer is not None:
        chunk.observer.mbarrier_initialised(mask, line, _block_and_address(chunk, place)[1].astype("u8"))


def observe_arrival(chunk: Chunk, mask: Mask, line: int, place: Array, kind: str = "thread") -> None:
    """Tell the observer, before the arrivals take effect."""
    if chunk.observer is not None:
        block, offset = _block_and_address(chunk, place)
        chunk.observer.mbarrier_arrived(mask, line, offset.astype("u8"), block, kind)


def each_active(
    chunk: Chunk, mask: Mask, place: Array, *operands: Values
) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Thread, place and operands of every active thread, in order."""
    columns = [np.broadcast_to(operand, (chunk.threads,)) for operand in operands]
    for thread in _active(chunk, mask).tolist():
        yield thread, int(place[thread]), tuple(int(column[thread]) for column in columns)


# Routines that generated code calls.
def barrier_init(
    chunk: Chunk, mask: Mask, line: int, address: Values, arrivals: Values, *, space: str, count: int
) -> tuple[()]:
    """mbarrier.init."""
    place = places(chunk, mask, line, address, space, "mbarrier.init")
    _observe_initialised(chunk, mask, line, place)
    for thread, word, (number,) in each_active(chunk, mask, place, arrivals):
        if not 1 <= number <= _MOST:
            chunk.fault(line, f"mbarrier.init with count {number}; 1 to {_MOST} are allowed", thread)
        put(chunk, word, Barrier(number, number, 0, 0))
    return ()


def barrier_invalidate(chunk: Chunk, mask: Mask, line: int, address: Values, *, space: str, count: int) -> tuple[()]:
    """mbarrier.inval."""
    place = places(chunk, mask, line, address, space, "mbarrier.inval")
    _observe_initialised(chunk, mask, line, place)
    for thread, word, _ in each_active(chunk, mask, place):
        fetch(chunk, line, word, thread, "mbarrier.inval")
        chunk.view("shared", "u8")[word] = 0
    return ()


def barrier_arrive(
    chunk: Chunk, mask: Mask, line: int, address: Values, arrivals: Values, owed: Values,
    *, space: str, drop: bool, no_complete: bool, count: int,
) -> tuple[Values]:  # fmt: skip
    """mbarrier.arrive and arrive_drop, after `owed` more bytes are expected. Gives the tokens: the words before."""
    place = places(chunk, mask, line, address, space, "mbarrier.arrive")
    tokens = np.zeros(chunk.threads, np.uint64)
    observe_arrival(chunk, mask, line, place)
    for thread, word, (number, extra) in each_active(chunk, mask, place, arrivals, owed):
        barrier = fetch(chunk, line, word, thread, "mbarrier.arrive")
        tokens[thread] = barrier.word()
        _owe(chunk, line, barrier, extra, word, thread)
        arrive(chunk, line, barrier, number, word, thread)
        if drop:
            barrier.expected -= number
        if no_complete and barrier.pending == 0 and barrier.owed == 0:
            chunk.fault(line, "mbarrier.arrive.noComplete completed the phase", thread)
        put(chunk, word, barrier)
    return (tokens,)


def arrive(chunk: Chunk, line: int, barrier: Barrier, number: int, place: int, thread: int) -> None:
    """`number` arrivals, which the phase must lack; a fault else. The caller puts the barrier back."""
    if not 1 <= number <= barrier.pending:
        chunk.fault(
            line, f"{number} arrivals at the mbarrier at {where(chunk, place)}, whose phase lacks {barrier.pending} of "
            f"{barrier.expected} arrivals", thread,
        )  # fmt: skip
    barrier.pending -= number


def _owe(chunk: Chunk, line: int, barrier: Barrier, nbytes: int, place: int, thread: int) -> None:
    barrier.owed += nbytes
    if abs(barrier.owed) > _MOST:
        chunk.fault(
            line, f"the mbarrier at {where(chunk, place)} expects {barrier.owed} bytes, more than {_MOST}", thread
        )  # fmt: skip


def barrier_expect_bytes(
    chunk: Chunk, mask: Mask, line: int, address: Values, nbytes: Values, *, space: str, count: int
) -> tuple[()]:
    """mbarrier.expect_tx."""
    place = places(chunk, mask, line, address, space, "mbarrier.expect_tx")
    for thread, word, (extra,) in each_active(chunk, mask, place, nbytes):
        barrier = fetch(chunk, line, word, thread, "mbarrier.expect_tx")
        _owe(chunk, line, barrier, extra, word, thread)
        put(chunk, word, barrier)
    return ()


def barrier_complete_bytes(
    chunk: Chunk, mask: Mask, line: int, address: Values, nbytes: Values, *, space: str, count: int
) -> tuple[()]:
    """mbarrier.complete_tx."""
    place = places(chunk, mask, line, address, space, "mbarrier.complete_tx")
    for thread, word, (done,) in each_active(chunk, mask, place, nbytes):
        complete_bytes(chunk, line, word, done, thread)
    return ()


def complete_bytes(chunk: Chunk, line: int, place: int, nbytes: int, thread: int) -> None:
    """A copy has delivered `nbytes`, which the barrier at word `place` no longer waits for."""
    barrier = fetch(chunk, line, place, thread, "completion of an asynchronous copy")
    _owe(chunk, line, barrier, -nbytes, place, thread)
    put(chunk, place, barrier)


def barrier_test(
    chunk: Chunk, mask: Mask, line: int, address: Values, token: Values,
    *, space: str, parity: bool, count: int,
) -> tuple[Values]:  # fmt: skip
    """mbarrier.test_wait: whether the phase of the token, or of that parity, is complete."""
    answer = complete(chunk, mask, line, address, token, space=space, parity=parity)
    if chunk.observer is not None:
        observe_waited(chunk, answer if mask is None else answer & mask, line, address, space)
    return (answer,)


def complete(chunk: Chunk, mask: Mask, line: int, address: Values, token: Values, *, space: str, parity: bool) -> Array:
    """For each thread whether the phase it asks for is over. A token is the word at the time of its arrival."""
    place = places(chunk, mask, line, address, space, "wait on an mbarrier")
    words = chunk.view("shared", "u8")[place]
    marked = (words >> np.uint64(MARK_SHIFT)) == MARK
    missing = ~marked if mask is None else mask & ~marked
    if missing.any():
        thread = int(missing.argmax())
        fetch(chunk, line, int(place[thread]), thread, "wait on an mbarrier")
    asked: Any = token.astype("u8") if parity else token >> np.uint64(PARITY_SHIFT)
    return np.asarray((words >> np.uint64(PARITY_SHIFT) & np.uint64(1)) != (asked & np.uint64(1)))


def barrier_pending_count(chunk: Chunk, mask: Mask, line: int, token: Values, *, count: int) -> tuple[Values]:
    """mbarrier.pending_count: arrivals that the phase of a token lacked."""
    return ((token & np.uint64(_MOST)).astype("u4"),)
