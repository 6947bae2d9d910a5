"""Asynchronous copies that arrive as late as they may.

In: cp.async of a chunk, commits and waits. Out: the same copies, made when a thread waits for them or ends. Why: a GPU
may finish a copy at any time up to the wait, so a kernel that reads too early must not get the right answer here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .numpy_chunk import Array, Chunk, Mask, Values
from .numpy_memory import copy_async


@dataclass(slots=True)
class _Copy:
    """One executed instruction: the threads whose copy is outstanding, and the group each belongs to."""

    mask: Array
    group: Array
    line: int
    target: Values
    source: Values
    size: Values | None
    nbytes: int


class DelayedCopies:
    """The outstanding cp.async of all threads of a chunk."""

    def __init__(self, chunk: Chunk) -> None:
        self._chunk = chunk
        self._committed = np.zeros(chunk.threads, np.int64)
        self._copies: list[_Copy] = []

    def add(self, mask: Mask, line: int, target: Values, source: Values, size: Values | None, nbytes: int) -> None:
        """A copy that belongs to the open group of each thread."""
        everyone = np.ones(self._chunk.threads, bool)
        chosen = everyone if mask is None else mask.copy()
        self._copies.append(_Copy(chosen, self._committed.copy(), line, target, source, size, nbytes))

    def commit(self, mask: Mask) -> None:
        """Close the open group of each thread."""
        if mask is None:
            self._committed += 1
        else:
            self._committed[mask] += 1

    def complete(self, mask: Mask, pending: int | None) -> None:
        """Make the copies of all groups but the newest `pending` (None: of all, open ones too) of each thread."""
        kept = []
        for copy in self._copies:
            due = copy.mask if mask is None else copy.mask & mask
            if pending is not None:
                due = due & (copy.group < self._committed - pending)
            if due.any():
                self._make(copy, due)
                copy.mask = copy.mask & ~due
                if not copy.mask.any():
                    continue
            kept.append(copy)
        self._copies = kept

    def _make(self, copy: _Copy, due: Array) -> None:
        mask = None if due.all() else due
        copy_async(self._chunk, mask, copy.line, copy.target, copy.source, copy.size, nbytes=copy.nbytes, count=0)
