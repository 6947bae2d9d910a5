"""A device of numpy memory whose kernels are Python functions: it stands in for the emulator in tests of the
runtime.

In: the calls of the `Device` protocol. Out: the same effects, and a record of what is still allocated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tests.runtime.kernels import KERNELS

from tilewright.runtime.errors import DeviceError


@dataclass
class FakeKernel:
    name: str


class FakeDevice:
    """Host memory at invented addresses, every access checked against its allocation."""

    name = "emulator"
    description = "a fake"

    def __init__(self, capacity: int = 1 << 30) -> None:
        self.capacity = capacity
        self.memory: dict[int, np.ndarray] = {}
        self.next = 0x10000
        self.launches: list[str] = []
        self.closed = 0
        self.ahead = False  # something was uploaded that nothing started from now on waits for

    def allocate(self, nbytes: int) -> int:
        if sum(block.nbytes for block in self.memory.values()) + nbytes > self.capacity:
            raise DeviceError(f"out of memory: {nbytes} bytes")
        address = self.next
        self.memory[address] = np.full(nbytes, 0xAB, np.uint8)
        self.next += -(-nbytes // 256) * 256 + 4096
        return address

    def free(self, address: int) -> None:
        del self.memory[address]

    def bytes_at(self, address: int, nbytes: int) -> np.ndarray:
        for start, block in self.memory.items():
            if start <= address < start + max(block.nbytes, 1):
                assert address + nbytes <= start + block.nbytes, "outside its allocation"
                return block[address - start : address - start + nbytes]
        raise AssertionError(f"no memory at {address:#x}")

    def view(self, address: int, element: type, count: int) -> np.ndarray:
        return self.bytes_at(address, count * np.dtype(element).itemsize).view(element)

    def upload(self, address: int, array: np.ndarray) -> None:
        assert array.flags.c_contiguous
        self.bytes_at(address, array.nbytes)[:] = array.reshape(-1).view(np.uint8)

    def upload_ahead(self, address: int, array: np.ndarray) -> None:
        self.upload(address, array)
        self.ahead = True

    def order_uploads(self) -> None:
        self.ahead = False

    def download(self, address: int, array: np.ndarray) -> None:
        array.reshape(-1).view(np.uint8)[:] = self.bytes_at(address, array.nbytes)

    def copy(self, target: int, source: int, nbytes: int) -> None:
        self.bytes_at(target, nbytes)[:] = self.bytes_at(source, nbytes)

    def fill(self, address: int, byte: int, nbytes: int) -> None:
        self.bytes_at(address, nbytes)[:] = byte

    def load(self, name: str, ptx: str) -> FakeKernel:
        assert f".entry {name}(" in ptx
        return FakeKernel(name)

    def launch(
        self,
        kernel: Any,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        shared_bytes: int,
        arguments: Sequence[tuple[str, int]],
    ) -> None:
        assert min(grid) > 0
        self.launches.append(kernel.name)
        KERNELS[kernel.name](self.view, [value for _, value in arguments])

    def synchronize(self) -> None:
        pass

    def time(self, body: Callable[[], None]) -> float:
        body()
        return 1e-4

    def capture(self, body: Callable[[], None]) -> None:
        return None

    def close(self) -> None:
        self.closed += 1
