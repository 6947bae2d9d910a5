"""Page-locked host memory that inputs pass on their way to a GPU.

In: arrays anywhere in host memory. Out: copies in a stream, in pieces: the GPU fetches one while the host fills the
next. It exists because the GPU reads ordinary memory only by way of the driver, which stops the stream for it first, so
that nothing overlaps.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from .errors import DeviceError

PIECE = 4 << 20  # bytes: a tenth of a millisecond on the bus, so that the calls for a piece are little beside it
PIECES = 4
DIRECT = 64 << 10  # bytes of ordinary memory up to which the driver copies within the call


class Staging:
    """A ring of pieces, each with an event that tells when the GPU has fetched it. Made when first needed."""

    def __init__(self, call: Callable[..., Any]) -> None:
        """`call(name, *arguments)` calls the driver, in the context, and raises DeviceError."""
        self._call = call
        self._base = 0
        self._events: list[Any] = []
        self._next = 0

    def upload(self, address: int, array: np.ndarray[Any, Any], stream: Any, ahead: bool = False) -> None:
        """Start the copy of a C-contiguous array; its memory may change as soon as this returns.

        Memory that the caller has locked himself (a tensor that torch has pinned) the GPU reads when the stream comes
        to it. A run waits for its stream before it returns; for what goes `ahead` of its run nobody does, so that
        small arrays take the way of large ones.
        """
        source = array.ctypes.data
        if array.nbytes <= DIRECT and not ahead:
            self._call("cuMemcpyHtoDAsync", address, source, array.nbytes, stream)
            return
        self._prepare()
        for offset in range(0, array.nbytes, PIECE):
            size = min(PIECE, array.nbytes - offset)
            event, place = self._events[self._next], self._base + self._next * PIECE
            self._next = (self._next + 1) % PIECES
            self._call("cuEventSynchronize", event)
            ctypes.memmove(place, source + offset, size)
            self._call("cuMemcpyHtoDAsync", address + offset, place, size, stream)
            self._call("cuEventRecord", event, stream)

    def _prepare(self) -> None:
        if not self._base:
            try:
                self._base = int(self._call("cuMemHostAlloc", PIECES * PIECE, 0))
            except DeviceError as error:
                raise DeviceError(f"{error}\n  while locking {PIECES * PIECE:,} bytes of the host's memory") from error
        while len(self._events) < PIECES:
            self._events.append(self._call("cuEventCreate", 0))

    def releases(self) -> list[tuple[str, Any]]:
        """The calls that give everything back, once."""
        calls = [("cuEventDestroy", event) for event in self._events]
        if self._base:
            calls.append(("cuMemFreeHost", self._base))
        self._base, self._events = 0, []
        return calls
