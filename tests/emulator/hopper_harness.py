"""Runs kernels that take tensor maps: arrays stay on the device, so that a map can be made of their addresses.

In: the stem of a kernel file in cuda/. Out: launches. Why: `harness.Runner` uploads arrays in the launch itself, too
late for a map.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tests.emulator.harness import CUDA

from tilewright.runtime.device import LaunchArgument
from tilewright.runtime.emulator.device import EmulatorDevice
from tilewright.runtime.emulator.observer import Instrument
from tilewright.runtime.tensor_map import TensorMap


class Tensors:
    """A device with the kernels of one file, and arrays on it."""

    def __init__(self, stem: str, instrument: Instrument | None = None) -> None:
        self.ptx = (CUDA / f"{stem}.ptx").read_text()
        self.device = EmulatorDevice(instrument=instrument)

    def put(self, array: np.ndarray) -> int:
        """Upload; gives the address."""
        address = self.device.allocate(array.nbytes)
        self.device.upload(address, np.ascontiguousarray(array))
        return address

    def get(self, address: int, like: np.ndarray) -> np.ndarray:
        """Download an array of the shape and type of `like`."""
        result = np.empty_like(like)
        self.device.download(address, result)
        return result

    def map(self, data_type: str, address: int, array: np.ndarray, box: tuple[int, ...], **options: Any) -> bytes:
        """The map of a C-ordered array at `address`; `box` innermost first."""
        strides = tuple(array.strides[-2::-1])
        return self.device.tensor_map(TensorMap(data_type, address, array.shape[::-1], strides, box, **options))

    def launch(self, name: str, *arguments: Any, grid: int = 1, block: int = 32, shared: int = 0) -> None:
        """Bytes go by value, np.int64 (addresses) as pointers, other integers as i32."""
        packed: list[LaunchArgument] = []
        for argument in arguments:
            if isinstance(argument, bytes):
                packed.append(("bytes", argument))
            else:
                packed.append(("pointer" if isinstance(argument, np.int64) else "i32", int(argument)))
        kernel = self.device.load(name, self.ptx)
        self.device.launch(kernel, (grid, 1, 1), (block, 1, 1), shared, packed)
        refused = [choice.reason for choice in kernel.choices.values() if choice.engine == "refused"]
        assert not refused, refused
