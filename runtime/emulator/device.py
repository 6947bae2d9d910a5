"""The emulator as a device: memory, kernels and launches with the interface of the CUDA device.

In: PTX text, launches, host arrays. Out: the same answers a GPU would give, or a DeviceError that names the
PTX line. Why: one engine file runs, is tested and is checked for memory errors where there is no GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..cache import Cache
from ..device import LaunchArgument
from ..errors import DeviceError
from ..tensor_map import TensorMap
from .kernel import EmulatedKernel, Engines
from .kernel_facts import Extents, KernelFacts, packing
from .llvm_engine import LlvmEngine
from .memory import GlobalMemory
from .numpy_engine import Launch, NumpyEngine
from .observer import Instrument
from .policy import Policy
from .ptx import Module
from .tensor_map import encode

_LIMITS = ((1 << 31) - 1, 65535, 65535)
_BLOCK_LIMITS = (1024, 1024, 64)
_THREADS = 1024
_CLUSTER_BLOCKS = 16
"""The largest cluster that a GPU grants (8 without asking)."""
_SHARED_BYTES = 232448
"""Dynamic plus static shared memory that the largest target grants a block."""

Array = np.ndarray[Any, np.dtype[Any]]


class EmulatorDevice:
    """A device that executes PTX on the CPU with all checks on. Implements runtime.device.Device."""

    name = "emulator"

    def __init__(
        self, capacity: int = 1 << 36, cores: int | None = None, instrument: Instrument | None = None,
        engine: str | None = None,
    ) -> None:  # fmt: skip
        """Reserve (not commit) `capacity` bytes of address space; use `cores` CPU cores, by default up to eight.

        `instrument` observes every launch (sanitizer.py, profile.py). `engine` is auto, numpy or llvm; by default the
        environment variable TILEWRIGHT_EMULATOR decides, and without it policy.py.
        """
        self._instrument = instrument
        self._memory = GlobalMemory(capacity)
        if instrument is not None:
            instrument.attach(self._memory)
        policy = Policy(engine, observed=instrument is not None)
        fast = LlvmEngine(policy.library, cores) if policy.library is not None else None
        self._engines = Engines(
            policy, NumpyEngine(cores=cores), fast, Cache(), self._place_variables, instrument is not None
        )
        self._kernels: dict[tuple[str, str, Extents | None], EmulatedKernel] = {}

    @property
    def description(self) -> str:
        """One line for people: which engine runs kernels, and why."""
        return f"PTX emulator ({self._engines.policy.describe()}; bounds and alignment checked)"

    # Memory.
    def allocate(self, nbytes: int) -> int:
        """Address of new memory, 256-byte aligned. Raises DeviceError when out of memory."""
        address = self._memory.allocate(nbytes)
        if self._instrument is not None:
            self._instrument.forgotten(address, nbytes)
        return address

    def label(self, address: int, label: str) -> None:
        """What messages call the allocation at `address`."""
        self._memory.label(address, label)

    def free(self, address: int) -> None:
        """Release what `allocate` returned."""
        self._memory.free(address)

    def upload(self, address: int, array: Array) -> None:
        """Copy the bytes of a C-contiguous array to the device."""
        source = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self._memory.range(address, source.nbytes)[:] = source
        if self._instrument is not None:
            self._instrument.defined(address, source.nbytes)

    def upload_ahead(self, address: int, array: Array) -> None:
        """The same: nothing runs meanwhile."""
        self.upload(address, array)

    def order_uploads(self) -> None:
        """They are over."""

    def download(self, address: int, array: Array) -> None:
        """Fill a C-contiguous array from the device."""
        if not array.flags.c_contiguous:
            raise DeviceError("emulator: download needs a C-contiguous array")
        target = array.reshape(-1).view(np.uint8)
        target[:] = self._memory.range(address, target.nbytes)
        if self._instrument is not None:
            self._instrument.downloaded(address, target.nbytes)

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Copy device memory."""
        self._memory.range(target, nbytes)[:] = self._memory.range(source, nbytes)
        if self._instrument is not None:
            self._instrument.copied(target, source, nbytes)

    def fill(self, address: int, byte: int, nbytes: int) -> None:
        """Set device memory to one byte value."""
        self._memory.range(address, nbytes)[:] = byte & 0xFF
        if self._instrument is not None:
            self._instrument.defined(address, nbytes)

    def discard(self, address: int, nbytes: int) -> None:
        """Contents that nobody may rely on any more: filled with 0xFF, a NaN in every float type."""
        self.fill(address, 0xFF, nbytes)
        if self._instrument is not None:
            self._instrument.forgotten(address, nbytes)

    # Kernels.
    def tensor_map(self, description: TensorMap) -> bytes:
        """128 bytes that tensor copies of this device understand. Raises DeviceError for what a GPU would refuse."""
        return encode(description)

    def load(self, name: str, ptx: str) -> EmulatedKernel:
        """Parse and translate the entry `name` of a PTX module. The same text is translated once."""
        return self._load(name, ptx, None)

    def _load(self, name: str, ptx: str, cluster: Extents | None) -> EmulatedKernel:
        kernel = self._kernels.get((name, ptx, cluster))
        if kernel is None:
            kernel = self._kernels[name, ptx, cluster] = EmulatedKernel(name, ptx, self._engines, cluster)
        return kernel

    def _place_variables(self, module: Module) -> dict[str, int]:
        """Allocate and initialise the module's global and const variables."""
        placed = {
            name: self._memory.allocate(variable.nbytes, f"variable {name!r}")
            for name, variable in module.variables.items()
            if variable.space in ("global", "const")
        }
        for name, address in placed.items():
            variable = module.variables[name]
            data = bytearray(variable.nbytes)
            for offset, width, value in variable.initial:
                if isinstance(value, str):
                    symbol, _, plus = value.partition("+")
                    if symbol not in placed:
                        raise DeviceError(f"emulator: variable {name!r} is initialised with unknown {symbol!r}")
                    value = placed[symbol] + int(plus or 0)
                data[offset : offset + width] = (value & ((1 << 8 * width) - 1)).to_bytes(width, "little")
            self.upload(address, np.frombuffer(bytes(data), np.uint8))
        return placed

    def launch(
        self, kernel: EmulatedKernel, grid: Extents, block: Extents, shared_bytes: int,
        arguments: Sequence[LaunchArgument], cluster: Extents | None = None,
    ) -> None:  # fmt: skip
        """Run a kernel to its end. `shared_bytes` is the dynamic part; arguments are ("pointer" | "i32" |
        "i64", number) or ("bytes", bytes). `cluster` is CUDA's launch attribute ClusterDimension, for kernels whose
        PTX does not fix it.
        """
        if cluster is not None and cluster != kernel.facts.cluster_shape:
            if kernel.facts.cluster_shape is not None:
                raise DeviceError(f"emulator: cannot launch {kernel.facts.name}: cluster {cluster} differs from "
                                  f".reqnctapercluster {kernel.facts.cluster_shape}")  # fmt: skip
            kernel = self._load(kernel.name, kernel.ptx, cluster)
        latest = kernel.latest
        given = tuple(arguments)
        if (
            latest is None or kernel.arguments != given or latest.grid != grid or latest.block != block
            or latest.dynamic_bytes != shared_bytes
        ):  # fmt: skip
            latest = self._described(kernel, grid, block, shared_bytes, self._pack(kernel, given))
            kernel.latest, kernel.arguments = latest, given
        kernel.launch(latest)

    def _described(
        self, kernel: EmulatedKernel, grid: Extents, block: Extents, shared_bytes: int, parameters: bytes
    ) -> Launch:  # fmt: skip
        """A launch that the kernel and the device allow. Raises DeviceError for others."""
        facts = kernel.facts
        shape = (grid, block, shared_bytes)
        if kernel.checked != shape:
            self._check_shape(facts, grid, block, shared_bytes)
            kernel.checked = shape
        return Launch(
            facts.name, kernel.module, (grid[0], grid[1], grid[2]), (block[0], block[1], block[2]),
            facts.static_shared + shared_bytes, shared_bytes, facts.local_bytes, parameters,
            self._memory, self._instrument, facts.cluster_shape or (1, 1, 1),
        )  # fmt: skip

    def _check_shape(self, facts: KernelFacts, grid: Extents, block: Extents, shared_bytes: int) -> None:
        threads = block[0] * block[1] * block[2]
        wrong = ""
        if any(not 1 <= extent <= limit for extent, limit in zip(grid, _LIMITS, strict=True)):
            wrong = f"grid {grid} is outside 1..{_LIMITS}"
        elif (
            any(not 1 <= extent <= limit for extent, limit in zip(block, _BLOCK_LIMITS, strict=True))
            or threads > _THREADS
        ):
            wrong = f"block {block} exceeds {_BLOCK_LIMITS} or {_THREADS} threads"
        elif facts.static_shared + shared_bytes > _SHARED_BYTES:
            wrong = f"{facts.static_shared} + {shared_bytes} bytes of shared memory exceed {_SHARED_BYTES}"
        elif facts.block_shape is not None:
            x, y, z = facts.block_shape
            if facts.block_required and tuple(block) != facts.block_shape:
                wrong = f"block {block} differs from .reqntid {facts.block_shape}"
            elif threads > x * y * z:
                wrong = f"block {block} has more threads than .maxntid {facts.block_shape}"
        if not wrong and facts.cluster_required and facts.cluster_shape is None:
            wrong = ".explicitcluster asks for a cluster whose size the launch gives, and it gives none"
        if not wrong and facts.cluster_shape is not None:
            x, y, z = facts.cluster_shape
            if any(extent % blocks for extent, blocks in zip(grid, facts.cluster_shape, strict=True)):
                wrong = f"grid {grid} is not a multiple of the cluster {facts.cluster_shape}"
            elif x * y * z > _CLUSTER_BLOCKS:
                wrong = f"cluster {facts.cluster_shape} has more than {_CLUSTER_BLOCKS} blocks"
        if wrong:
            raise DeviceError(f"emulator: cannot launch {facts.name}: {wrong}")

    def _pack(self, kernel: EmulatedKernel, arguments: Sequence[LaunchArgument]) -> bytes:
        """Lay arguments out as the parameter space of the entry."""
        kinds = [kind for kind, _ in arguments]
        if kernel.packing is not None and kernel.packing.kinds == kinds:
            return kernel.packing.bytes_of(arguments)
        facts = kernel.facts
        if len(arguments) != len(facts.parameters):
            raise DeviceError(
                f"emulator: {facts.name} takes {len(facts.parameters)} arguments, {len(arguments)} were given"
            )
        data = bytearray(facts.parameter_bytes)
        for (kind, value), (name, offset, nbytes) in zip(arguments, facts.parameters, strict=True):
            width = len(value) if isinstance(value, bytes) else {"pointer": 8, "i64": 8, "i32": 4}.get(kind)
            if width != nbytes:
                raise DeviceError(
                    f"emulator: {facts.name}: parameter {name} has {nbytes} bytes, the argument is a {kind}"
                )
            if not isinstance(value, bytes):
                value = (int(value) & ((1 << 8 * width) - 1)).to_bytes(width, "little")
            data[offset : offset + width] = value
        if "bytes" not in kinds:
            kernel.packing = packing(facts, kinds)
        return bytes(data)

    def synchronize(self) -> None:
        """Launches have already ended when `launch` returns."""

    def time(self, body: Callable[[], None]) -> float:
        """Seconds of wall clock that `body` takes."""
        start = time.perf_counter()
        body()
        return time.perf_counter() - start

    def capture(self, body: Callable[[], None]) -> None:
        """There are no graphs here; returns None without running `body`."""

    def close(self) -> None:
        """Release everything; the device must not be used afterwards."""
        self._engines.numpy.close()
        if self._engines.fast is not None:
            self._engines.fast.close()
        self._kernels.clear()
        self._memory.close()
