"""What the runtime asks of a device, and the choice of one.

In: "auto", "cuda" or "emulator". Out: an open `Device`, with the reason why it was chosen. It exists so that
sessions are written once, and the CUDA driver and the emulator are the only two places that know how memory
and launches really work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .errors import DeviceError, ModelError
from .tensor_map import TensorMap

Extents = tuple[int, int, int]
LaunchArgument = tuple[str, "int | bytes"]
"""("pointer" | "i32" | "i64", number), or ("bytes", the bytes of a parameter that is passed by value)."""


class Kernel(Protocol):
    """A kernel that a device has loaded."""

    @property
    def name(self) -> str: ...


class Graph(Protocol):
    """A captured sequence of launches and copies that is started as one."""

    def launch(self) -> None:
        """Run everything captured. Raises DeviceError."""

    def close(self) -> None:
        """Give the graph's resources back."""


class Device(Protocol):
    """Memory and kernels of one GPU or emulator. Every method raises DeviceError and nothing else."""

    @property
    def name(self) -> str:
        """`cuda` or `emulator`."""

    @property
    def description(self) -> str:
        """One line for people."""

    def allocate(self, nbytes: int) -> int:
        """A device address of at least `nbytes` bytes, 256-byte aligned."""

    def free(self, address: int) -> None:
        """Give back what `allocate` gave."""

    def upload(self, address: int, array: np.ndarray[Any, Any]) -> None:
        """Copy the bytes of a C-contiguous array to the device; it may change as soon as this returns."""

    def upload_ahead(self, address: int, array: np.ndarray[Any, Any]) -> None:
        """The same beside what runs, which must not use that memory; `order_uploads` comes before what does."""

    def order_uploads(self) -> None:
        """What is started from now on waits for the uploads that went ahead."""

    def download(self, address: int, array: np.ndarray[Any, Any]) -> None:
        """Fill a C-contiguous array from the device, after everything launched before has finished."""

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Copy within the device."""

    def fill(self, address: int, byte: int, nbytes: int) -> None:
        """Set every byte."""

    def tensor_map(self, description: TensorMap) -> bytes:
        """The 128 bytes of a tensor map on this device, for a parameter of kind `bytes` or for global memory."""

    def load(self, name: str, ptx: str) -> Kernel:
        """Compile the PTX of the kernel `name` for this device."""

    def launch(
        self,
        kernel: Any,
        grid: Extents,
        block: Extents,
        shared_bytes: int,
        arguments: Sequence[LaunchArgument],
    ) -> None:
        """Run a kernel that `load` gave, with `shared_bytes` of dynamic shared memory a block."""

    def synchronize(self) -> None:
        """Wait until everything launched has finished."""

    def time(self, body: Callable[[], None]) -> float:
        """Run `body` and wait: seconds between the start and the end of what it puts on the device."""

    def capture(self, body: Callable[[], None]) -> Graph | None:
        """Record what `body` launches, copies and fills, without running it; None where there is no such
        thing.
        """

    def close(self) -> None:
        """Give everything back."""


@dataclass(frozen=True)
class DeviceChoice:
    """An open device and the reason why it was taken."""

    device: Device
    reason: str


def release_all(releases: Iterable[Callable[[], object]]) -> None:
    """Call every function, whatever the others do, and then raise the first DeviceError there was."""
    failure: DeviceError | None = None
    for release in releases:
        try:
            release()
        except DeviceError as error:
            failure = failure or error
    try:
        if failure is not None:
            raise failure
    finally:
        del failure  # else error and frame keep each other alive, and with them what a caller still holds


def choose_device(name: str = "auto") -> DeviceChoice:
    """Open the device called `name`; "auto" takes a CUDA GPU where one works, else the emulator.

    Raises ModelError for another name, and DeviceError, with the reason for each, when none can be opened.
    """
    if name == "cuda":
        return DeviceChoice(_open_cuda(), "asked for")
    if name == "emulator":
        return DeviceChoice(_open_emulator(), "asked for")
    if name != "auto":
        raise ModelError(f"unknown device {name!r}\n  supported: auto, cuda, emulator")
    try:
        return DeviceChoice(_open_cuda(), "a CUDA GPU is present")
    except DeviceError as error:
        no_gpu = str(error).splitlines()[0]
    try:
        return DeviceChoice(_open_emulator(), f"no CUDA GPU can be used: {no_gpu}")
    except DeviceError as error:
        raise DeviceError(f"no device can be opened\n  cuda: {no_gpu}\n  emulator: {error}") from error


def open_device(name: str = "auto") -> Device:
    """The device of `choose_device`."""
    return choose_device(name).device


def _open_cuda() -> Device:
    from .cuda import CudaDevice

    return CudaDevice()


def _open_emulator() -> Device:
    from .emulator.device import EmulatorDevice

    return EmulatorDevice()
