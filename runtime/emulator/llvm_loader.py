"""Images in memory that may be executed.

In: images of a kernel and of the helpers that it calls. Out: addresses. Why: one copy of each helper serves all kernels
of the process, and a kernel that comes from the cache needs neither libLLVM nor a linker.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import struct
import threading
from collections.abc import Mapping

from ..errors import DeviceError, InternalError
from .llvm_image import ALIGNMENT, Image

_ROOM_BYTES = 1 << 20
"""Memory is taken from the system in such pieces, or in one as large as it needs to be."""
_libc = ctypes.CDLL(None, use_errno=True)


class Loader:
    """Code of this process, by symbol. It stays until the process ends, so that every device can use the same."""

    def __init__(self) -> None:
        self.addresses: dict[str, int] = {}
        self._lock = threading.Lock()
        self._rooms: list[mmap.mmap] = []  # never given back: threads may be running in them
        self._start = 0  # address of the latest
        self._used = 0

    def load(self, images: Mapping[str, bytes]) -> None:
        """Have all of `images` (each as `Image.to_bytes` gives it), which may call each other and functions of the C
        library. Raises DeviceError where the system does not allow it."""
        with self._lock:
            new = {symbol: data for symbol, data in images.items() if symbol not in self.addresses}
            if new:
                self._add({symbol: Image.from_bytes(data) for symbol, data in new.items()})

    def _add(self, images: Mapping[str, Image]) -> None:
        offsets, nbytes = {}, 0
        for symbol, image in images.items():
            offsets[symbol] = nbytes
            nbytes += len(image.content) + -len(image.content) % ALIGNMENT
        room, begin = self._room_for(nbytes)
        own = {symbol: self._start + begin + offsets[symbol] + image.entry for symbol, image in images.items()}
        for symbol, image in images.items():
            place = begin + offsets[symbol]
            room[place : place + len(image.content)] = image.content
            targets = [own.get(name) or self.addresses.get(name) or _function(name) for name in image.names]
            struct.pack_into(f"={len(targets)}Q", room, place + image.table, *targets)
        self._make_executable(begin, nbytes)
        self.addresses.update(own)

    def _room_for(self, nbytes: int) -> tuple[mmap.mmap, int]:
        """Writable memory: a mapping, and where in it a page begins from which on `nbytes` are free."""
        if not self._rooms or self._used + nbytes > len(self._rooms[-1]):
            self._rooms.append(mmap.mmap(-1, max(_ROOM_BYTES, nbytes)))
            self._start = ctypes.addressof(ctypes.c_char.from_buffer(self._rooms[-1]))
            self._used = 0
        begin = self._used
        self._used += nbytes + -nbytes % mmap.PAGESIZE
        return self._rooms[-1], begin

    def _make_executable(self, begin: int, nbytes: int) -> None:
        flags = mmap.PROT_READ | mmap.PROT_EXEC
        if _libc.mprotect(ctypes.c_void_p(self._start + begin), ctypes.c_size_t(nbytes), flags):
            raise DeviceError(
                f"emulator: the system refuses memory for compiled code (error {ctypes.get_errno()} of mprotect)\n"
                "  TILEWRIGHT_EMULATOR=numpy runs kernels without compiling them"
            )


@functools.cache
def loader() -> Loader:
    """The one of this process."""
    return Loader()


def _function(name: str) -> int:
    """The address of a function of the C library."""
    try:
        return ctypes.cast(getattr(_libc, name), ctypes.c_void_p).value or 0
    except AttributeError:
        raise InternalError(f"emulator: compiled code needs {name!r}, which this process does not have") from None
