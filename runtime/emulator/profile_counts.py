"""What one warp-wide memory access costs: sectors of global memory, wavefronts of shared memory.

In: byte addresses of the active threads of a chunk. Out: counts. Why: coalescing and bank conflicts follow from
addresses alone; both are counted for all warps at once.
"""

from __future__ import annotations

import numpy as np

from .numpy_chunk import Array

SECTOR = 32
"""Bytes of global memory that move together."""
_BANKS = 32
_BANK_BYTES = 4
_NOTHING = np.int64(-1)


def sectors(threads: Array, addresses: Array, nbytes: int) -> Array:
    """The sectors that each warp's request touches, one entry for each warp and sector, as sector numbers."""
    first = addresses.astype(np.int64) // SECTOR
    last = (addresses.astype(np.int64) + (nbytes - 1)) // SECTOR
    warps = threads // 32
    if (first != last).any():
        first, warps = np.concatenate((first, last)), np.concatenate((warps, warps))
    order = np.lexsort((first, warps))
    first, warps = first[order], warps[order]
    new = np.ones(len(first), bool)
    new[1:] = (first[1:] != first[:-1]) | (warps[1:] != warps[:-1])
    return np.asarray(first[new])


def wavefronts(threads: Array, addresses: Array, nbytes: int) -> tuple[int, int]:
    """(wavefronts, those that would do without bank conflicts) of a shared-memory request of every warp.

    A request of 8 bytes a lane is served by halves of the warp, one of 16 by quarters. A wavefront gives each of
    the 32 banks one word of 4 bytes, to any number of lanes.
    """
    words = max(1, nbytes // _BANK_BYTES)
    lanes = max(1, 32 // words)
    first = addresses.astype(np.int64) // _BANK_BYTES
    rows, row = np.unique(threads // lanes, return_inverse=True)
    table = np.full((len(rows), lanes, words), _NOTHING)
    table[row, threads % lanes] = first[:, None] + np.arange(words)
    flat = np.sort(table.reshape(len(rows), -1), axis=1)
    distinct = flat != _NOTHING
    distinct[:, 1:] &= flat[:, 1:] != flat[:, :-1]
    number = np.broadcast_to(np.arange(len(rows))[:, None], flat.shape)
    used = number[distinct] * _BANKS + flat[distinct] % _BANKS
    per_bank = np.bincount(used, minlength=len(rows) * _BANKS).reshape(-1, _BANKS)
    return int(per_bank.max(axis=1).sum()), len(rows)
