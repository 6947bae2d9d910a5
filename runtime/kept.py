"""Tensors that values of the host hold while their elements stay on the device: rows that a loop collects, the
tensors of a sequence.

In: how many bytes. Out: memory that is used again as soon as no value holds it, and arrays that are parts of it. It
exists so that the host can decide how many tensors there are without a copy of what is in them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .device import Device, release_all
from .dtypes import DType
from .errors import DeviceError, ModelError

LEAST_BYTES = 256  # of a block; blocks are powers of two


class Block:
    """Memory for one tensor; `release` gets its address when nobody holds it any more."""

    def __init__(self, address: int, release: Callable[[int], None]) -> None:
        self.address = address
        self._release = release

    def __del__(self) -> None:
        self._release(self.address)


class KeptMemory:
    """The blocks of a session. Those that were given back serve again, in the order of the device's work: what was
    launched before has read them. With `checked` each is an allocation of its own size, so that an emulator checks it.
    """

    def __init__(self, device: Device, checked: bool = False) -> None:
        self._device = device
        self._checked = checked
        self._sizes: dict[int, int] = {}  # bytes of every block, by address
        self._free: dict[int, list[int]] = {}  # addresses by bytes

    def take(self, nbytes: int) -> Block:
        """A block of that many bytes. Raises DeviceError."""
        room = max(nbytes, 1) if self._checked else max(LEAST_BYTES, 1 << max(nbytes - 1, 0).bit_length())
        waiting = [] if self._checked else self._free.setdefault(room, [])
        address = waiting.pop() if waiting else self._device.allocate(room)
        self._sizes[address] = room
        return Block(address, self._give_back)

    def _give_back(self, address: int) -> None:
        room = self._sizes.get(address)
        if room is None:  # the session is closed, and the memory freed
            return
        if not self._checked:
            self._free.setdefault(room, []).append(address)
            return
        del self._sizes[address]
        with contextlib.suppress(DeviceError):  # nobody is there to be told
            self._device.free(address)

    def close(self) -> None:
        """Free everything; the first failure is raised after all have been tried."""
        sizes, self._sizes, self._free = self._sizes, {}, {}
        release_all(partial(self._device.free, address) for address in sizes)


class KeptArray:
    """A tensor on the device: `shape`, `dtype` as numpy sees it, and the address of its first element."""

    def __init__(self, block: Block, element: DType, shape: tuple[int, ...], start: int = 0) -> None:
        self._block = block
        self._start = start  # in elements
        self.element = element
        self.shape = shape

    @property
    def address(self) -> int:
        """Valid as long as this array, or another part of the same tensor, is held."""
        return self._block.address + self._start * self.element.bytes

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type as numpy sees it."""
        return self.element.numpy

    @property
    def nbytes(self) -> int:
        """Size of the elements in bytes."""
        return math.prod(self.shape) * self.element.bytes

    def part(self, start: int, shape: tuple[int, ...]) -> KeptArray:
        """The elements from `start` on, in row-major order, as an array of that shape: the same memory."""
        if not 0 <= start <= start + math.prod(shape) <= math.prod(self.shape):
            raise ModelError(f"a part of the shape {list(shape)} from element {start} of {list(self.shape)}")
        return KeptArray(self._block, self.element, shape, self._start + start)


def fetched(value: Any, device: Device) -> Any:
    """The value with an array of the host in place of every kept one."""
    if isinstance(value, list | tuple):
        return [fetched(item, device) for item in value]
    if not isinstance(value, KeptArray):
        return value
    array: np.ndarray[Any, Any] = np.empty(value.shape, value.dtype)
    if array.nbytes:
        device.download(value.address, array)
    return array
