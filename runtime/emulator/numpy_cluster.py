"""Thread-block clusters of the NumPy engine: addresses of other blocks' shared memory, the cluster barrier.

In: a chunk, which holds whole clusters, and masks or addresses over threads. Out: places, answers. Why: a cluster is a
run of consecutive blocks of its chunk, so a rank is an offset.

A shared::cluster address is an offset plus (rank + 1) << 24, and without that in the block's own memory; a shared::cta
address may be either.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .memory import RANK_SHIFT, SHARED_WINDOW
from .numpy_chunk import Array, Chunk, Mask, Values

OFFSET_MASK = (1 << RANK_SHIFT) - 1


# Addresses.
def block_ranks(chunk: Chunk, address: Values) -> Array:
    """For each thread the rank that its shared::cluster address names, int64."""
    named = (np.broadcast_to(address, (chunk.threads,)).astype("i8") >> RANK_SHIFT & 0xFF) - 1
    return np.asarray(np.where(named < 0, chunk.own_ranks(), named))


def rank_of_address(chunk: Chunk, mask: Mask, line: int, address: Values, *, count: int) -> tuple[Values]:
    """getctarank."""
    return (block_ranks(chunk, address).astype("u4"),)


def resolve(chunk: Chunk, mask: Mask, line: int, address: Values, verb: str) -> tuple[Array, Array]:
    """shared::cluster addresses as (offset in a block's shared memory, number of that block in the chunk)."""
    address = np.broadcast_to(address, (chunk.threads,)).astype("i8")
    ranks = block_ranks(chunk, address)
    beyond = (ranks >= chunk.cluster_blocks) | (address >> (RANK_SHIFT + 8) != 0)
    beyond = beyond if mask is None else beyond & mask
    if beyond.any():
        thread = int(beyond.argmax())
        chunk.fault(
            line, f"{verb} at {int(address[thread]):#x}: block rank {int(ranks[thread])} in a cluster of "
            f"{chunk.cluster_blocks} blocks", thread,
        )  # fmt: skip
    first = np.arange(chunk.threads) // chunk.geometry.padded // chunk.cluster_blocks * chunk.cluster_blocks
    return address & OFFSET_MASK, first + np.minimum(ranks, chunk.cluster_blocks - 1)


def own_offsets(chunk: Chunk, mask: Mask, line: int, address: Values, verb: str) -> Values:
    """shared::cta addresses without the rank of the block, which must be the thread's own."""
    named = address.astype("i8") >> RANK_SHIFT
    wrong = (named != 0) & (named != chunk.own_ranks() + 1)
    wrong = wrong if mask is None else wrong & mask
    if wrong.any():
        thread = int(wrong.argmax())
        where = int(np.broadcast_to(address, (chunk.threads,))[thread])
        chunk.fault(line, f"{verb} at {where:#x}: not in the shared memory of the thread's own block", thread)
    return address & address.dtype.type(OFFSET_MASK)


def leave_shared_window(address: Values) -> Values:
    """A generic address in the shared window as a shared::cluster one."""
    return address - np.uint64(SHARED_WINDOW)


# The cluster barrier.
class ClusterBarrier:
    """barrier.cluster of every cluster of a chunk: which threads have arrived, and the generation of each thread's
    last arrival.
    """

    def __init__(self, chunk: Chunk) -> None:
        self.arrived: Array = np.zeros(chunk.threads, bool)
        self.generation: Array = np.zeros(chunk.geometry.blocks // chunk.cluster_blocks, np.int64)
        self.joined: Array = np.full(chunk.threads, -1, np.int64)


def _rows(chunk: Chunk, values: Array) -> Array:
    return values.reshape(-1, chunk.geometry.padded * chunk.cluster_blocks)


def _spread(chunk: Chunk, per_cluster: Array) -> Array:
    return np.repeat(per_cluster, chunk.geometry.padded * chunk.cluster_blocks)


def cluster_arrive(chunk: Chunk, mask: Mask, line: int, *, relaxed: bool, count: int) -> tuple[()]:
    """barrier.cluster.arrive; `relaxed` matters to observers only."""
    if chunk.cluster_barrier is None:
        chunk.cluster_barrier = ClusterBarrier(chunk)
    state: Any = chunk.cluster_barrier
    chosen = np.ones(chunk.threads, bool) if mask is None else mask
    twice = chosen & state.arrived
    if twice.any():
        chunk.fault(line, "barrier.cluster.arrive twice without a wait", int(twice.argmax()))
    state.arrived = state.arrived | chosen
    state.joined = np.where(chosen, _spread(chunk, state.generation), state.joined)
    if chunk.observer is not None:
        chunk.observer.cluster_barrier_arrived(mask, line, relaxed)
    release_clusters(chunk)
    return ()


def release_clusters(chunk: Chunk) -> None:
    """Begin the next generation where every living thread has arrived. Call after arrivals and after threads end."""
    state = chunk.cluster_barrier
    if state is None:
        return
    done = state.arrived if chunk.alive is None else state.arrived | ~chunk.alive
    complete = _rows(chunk, done).all(axis=1) & _rows(chunk, state.arrived).any(axis=1)
    if complete.any():
        state.generation = state.generation + complete
        state.arrived = state.arrived & ~_spread(chunk, np.asarray(complete))
        chunk.events += 1


def cluster_barrier_passed(chunk: Chunk, mask: Mask, line: int) -> Array:
    """barrier.cluster.wait: for each thread whether the generation that it joined is complete."""
    state = chunk.cluster_barrier
    joined = np.full(chunk.threads, -1) if state is None else state.joined
    missing = joined < 0 if mask is None else mask & (joined < 0)
    if state is None or missing.any():
        chunk.fault(line, "barrier.cluster.wait without an arrive before", int(missing.argmax()))
    return np.asarray(_spread(chunk, state.generation) > joined)
