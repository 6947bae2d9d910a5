"""Global memory of the emulated device: one arena, its allocation table, and the windows of the generic address space.

In: allocation requests and addresses. Out: addresses, NumPy views, and what is near a bad address. Why:
device addresses are offsets into the arena, so that a load is one gather, and gaps between allocations make
overruns visible.
"""

from __future__ import annotations

import bisect
import contextlib
import mmap
from typing import Any

import numpy as np

from ..errors import DeviceError

SHARED_WINDOW = 1 << 44
LOCAL_WINDOW = 1 << 45
PARAMETER_WINDOW = 1 << 46
WINDOW_BYTES = 1 << 32
RANK_SHIFT = 24
"""Generic addresses of shared, local and kernel-parameter space start at these; below them is global memory. An address
in the shared memory of a block of a cluster is the offset there plus (rank + 1) << RANK_SHIFT, or, in the block
itself, the offset alone: so the fast engine makes addresses of variables.
"""

_LOWEST = 1 << 20
"""Below this no allocation lies, so that small wild addresses and null are found."""
_ALIGNMENT = 256
_GAP = 256
_RETURN_PAGES = 1 << 20
_NO_RESERVE = 0x4000

Array = np.ndarray[Any, np.dtype[Any]]


class GlobalMemory:
    """A byte arena with a first-fit allocator. Addresses are offsets; 256-byte aligned; a gap follows each
    allocation.
    """

    def __init__(self, capacity: int = 1 << 36) -> None:
        self._map = reserve(capacity)
        self.bytes: Array = np.frombuffer(self._map, dtype=np.uint8)
        self.capacity = len(self.bytes)
        self._views: dict[str, Array] = {}
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._labels: dict[int, str] = {}
        self._count = 0
        self._table: Array | None = None
        self._table_address = 0
        self.address = self.bytes.ctypes.data

    def view(self, dtype: str) -> Array:
        """The arena as an array of `dtype`."""
        found = self._views.get(dtype)
        if found is None:
            found = self._views[dtype] = self.bytes.view(dtype)
        return found

    def allocate(self, nbytes: int, label: str = "") -> int:
        """Reserve `nbytes` (0 allowed). Raises DeviceError when no gap is large enough."""
        if nbytes < 0:
            raise DeviceError(f"emulator: cannot allocate {nbytes} bytes")
        room = -(-(nbytes + _GAP) // _ALIGNMENT) * _ALIGNMENT
        position = 0
        start = _LOWEST
        if self._starts and self._next_free() + room <= self.capacity:
            position, start = len(self._starts), self._next_free()
        else:
            while position < len(self._starts) and self._starts[position] < start + room:
                start = -(-(self._ends[position] + _GAP) // _ALIGNMENT) * _ALIGNMENT
                position += 1
        if start + room > self.capacity:
            used = sum(end - begin for begin, end in zip(self._starts, self._ends, strict=True))
            raise DeviceError(
                f"emulator: out of memory: {nbytes} bytes wanted, {used} of {self.capacity} bytes in use "
                f"by {len(self._starts)} allocations"
            )
        self._starts.insert(position, start)
        self._ends.insert(position, start + nbytes)
        self._table = None
        self._count += 1
        self._labels[start] = label or f"allocation {self._count}"
        return start

    def label(self, address: int, label: str) -> None:
        """Call the allocation that starts at `address` so in messages."""
        self._labels[address] = label

    @property
    def end(self) -> int:
        """The address behind the last allocation."""
        return self._ends[-1] if self._ends else _LOWEST

    def _next_free(self) -> int:
        return -(-(self._ends[-1] + _GAP) // _ALIGNMENT) * _ALIGNMENT

    def free(self, address: int) -> None:
        """Release an allocation. Raises DeviceError when `address` is not the start of one."""
        position = bisect.bisect_left(self._starts, address)
        if position == len(self._starts) or self._starts[position] != address:
            raise DeviceError(f"emulator: free of {address:#x}, which is not an allocation")
        start, end = self._starts.pop(position), self._ends.pop(position)
        del self._labels[start]
        self._table = None
        if end - start >= _RETURN_PAGES and hasattr(mmap, "MADV_DONTNEED"):
            first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
            last = end // mmap.PAGESIZE * mmap.PAGESIZE
            self._map.madvise(mmap.MADV_DONTNEED, first, last - first)

    def table_address(self) -> tuple[int, int]:
        """Where (start, end) of every allocation stand, sorted, as pairs of u64, and how many there are; valid until
        the next allocation.
        """
        if self._table is None:
            self._table = np.array([self._starts, self._ends], np.uint64).T.copy()
            self._table_address = self._table.ctypes.data
        return self._table_address, len(self._starts)

    def contains(self, start: int, end: int) -> bool:
        """Whether [start, end) lies inside one allocation."""
        position = bisect.bisect_right(self._starts, start) - 1
        return position >= 0 and end <= self._ends[position]

    def outside(self, addresses: Array, nbytes: int) -> Array:
        """For each address whether [address, address + nbytes) is not inside one allocation."""
        starts = np.asarray(self._starts, dtype=np.uint64)
        if not len(starts):
            return np.ones(addresses.shape, bool)
        ends = np.asarray(self._ends, dtype=np.uint64)
        position = np.searchsorted(starts, addresses, side="right")
        below = position == 0
        last = ends[np.maximum(position - 1, 0)]
        return np.asarray(below | (addresses + np.uint64(nbytes) > last) | (addresses >= last))

    def range(self, address: int, nbytes: int) -> Array:
        """The bytes of a host transfer. Raises DeviceError when they leave an allocation."""
        if nbytes and not self.contains(address, address + nbytes):
            raise DeviceError(
                f"emulator: host access of {nbytes} bytes at {address:#x}: {self.describe(address)}"
            )
        return self.bytes[address : address + nbytes]

    def describe(self, address: int) -> str:
        """Where `address` lies relative to the nearest allocation, for a message."""
        if not self._starts:
            return "there are no allocations"
        position = bisect.bisect_right(self._starts, address)
        best = None
        for candidate in (position - 1, position):
            if 0 <= candidate < len(self._starts):
                start, end = self._starts[candidate], self._ends[candidate]
                distance = start - address if address < start else max(0, address - end + 1)
                if best is None or distance < best[0]:
                    best = (distance, start, end)
        assert best is not None
        _, start, end = best
        name = f"{self._labels[start]} [{start:#x}, {end:#x}) of {end - start} bytes"
        if address < start:
            return f"{start - address} bytes before {name}"
        if address >= end:
            return f"{address - end} bytes past the end of {name}"
        return f"{address - start} bytes into {name}"

    def close(self) -> None:
        """Forget all allocations. The mapping itself goes when the last view of it does."""
        self._starts.clear()
        self._ends.clear()
        self._labels.clear()
        self._views.clear()


def reserve(capacity: int) -> mmap.mmap:
    """Map address space without committing it; halve the wish until the system grants it."""
    while True:
        try:
            if hasattr(mmap, "MAP_PRIVATE"):
                mapped = mmap.mmap(-1, capacity, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE)
                if hasattr(mmap, "MADV_HUGEPAGE"):
                    with contextlib.suppress(OSError):  # a kernel without huge pages
                        mapped.madvise(mmap.MADV_HUGEPAGE)
                return mapped
            return mmap.mmap(-1, capacity)
        except (OSError, ValueError, OverflowError):
            if capacity <= 1 << 26:
                raise DeviceError("emulator: cannot reserve 64 MiB of memory for the device") from None
            capacity //= 2
