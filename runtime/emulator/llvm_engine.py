"""The fast engine: compiled kernels, and their launches over the cores.

In: translations, launches. Out: effects on global memory, or the DeviceError that the NumPy engine would raise. Why:
everything that costs time while a kernel runs is in its compiled code; here contexts are filled and blocks handed out.
"""

from __future__ import annotations

import ctypes
import struct
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ..errors import DeviceError
from .llvm_compile import Translation
from .llvm_context import CONTEXT, offset
from .llvm_faults import finding
from .llvm_library import Library
from .llvm_values import LANES
from .numpy_chunk import Launch
from .numpy_engine import available_cores

_MOST_CORES = 8
_SMALL_LAUNCH_WARPS = 16
"""A launch of fewer warps than this runs on the calling thread."""
_SHARES_PER_CORE = 4
"""Each core takes its blocks in about so many portions, so that none waits for another for long."""
_SCRATCH_BYTES = 1 << 14
_ALIGNMENT = 128
_EVERY_BLOCK = (1 << 32) - 1

Array = np.ndarray[Any, np.dtype[Any]]
_loading = threading.Lock()


class Kernel:
    """A translation linked into this process."""

    def __init__(self, translation: Translation, library: Library, helper: Callable[[str], bytes]) -> None:
        """`helper` gives the object file of a helper by its symbol, where the process does not have it yet."""
        self.translation = translation
        with _loading:
            # Code is never unloaded, so that a second device can use the same.
            for symbol in translation.helpers:
                if symbol not in library.symbols:
                    library.add(helper(symbol), symbol)
            prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
            self.function = prototype(library.load(translation.content, translation.symbol))


def _aligned(nbytes: int) -> tuple[Array, int]:
    """Memory (as an array that keeps it) and the address of its first aligned byte."""
    array = np.zeros(nbytes + _ALIGNMENT, np.uint8)
    address = array.ctypes.data
    return array, address + -address % _ALIGNMENT


_HEAD = struct.Struct("=12Q8I")
"""The first fields of a context: pointers, grid, block, dynamic bytes, and the space of a fault."""
_KIND = struct.Struct("=I")
_KIND_AT = offset("fault_kind")


class Workspace:
    """The context of one host thread and the memories that it points to; they grow as launches need."""

    def __init__(self) -> None:
        keep, self.address = _aligned(CONTEXT.itemsize)
        start = self.address - keep.ctypes.data
        whole = keep[start : start + CONTEXT.itemsize]
        self.context = whole.view(CONTEXT)
        self._head = whole.data
        self._sizes: dict[str, int] = {}
        self._addresses: dict[str, int] = {}
        self.arrays: dict[str, Array] = {}

    def room(self, name: str, nbytes: int) -> int:
        """Address of at least `nbytes` of memory for one purpose."""
        if self._sizes.get(name, -1) < nbytes:
            self.arrays[name], self._addresses[name] = _aligned(nbytes)
            self._sizes[name] = nbytes
        return self._addresses[name]

    def records(self) -> Array:
        """The bytes of the warps' records."""
        array = self.arrays["warps"]
        return array[self._addresses["warps"] - array.ctypes.data :]

    def prepare(self, kernel: Kernel, launch: Launch, stop: int) -> None:
        """Fill the context for a launch. `stop` is the address of the last block that anybody still wants."""
        translation = kernel.translation
        x, y, z = launch.block
        warps = -(-(x * y * z) // LANES)
        recent_bytes = 16 * len(translation.sites)
        recent = self.room("recent", recent_bytes)
        ctypes.memset(recent, 0, recent_bytes)
        frames = self.room("local", translation.local_bytes * LANES * warps)
        parameters = self.room("parameters", len(launch.parameters) + 16)
        ctypes.memmove(parameters, launch.parameters, len(launch.parameters))
        table, count = launch.memory.table_address()
        _HEAD.pack_into(
            self._head, 0, launch.memory.address, parameters, self.room("shared", launch.shared_bytes + 1024),
            launch.shared_bytes, frames, self.room("warps", translation.record_bytes * warps), table, count, recent,
            stop, self.room("scratch", _SCRATCH_BYTES), frames, *launch.grid, 0, 0, 0, launch.dynamic_bytes, 0,
        )  # fmt: skip
        _KIND.pack_into(self._head, _KIND_AT, 0)


class LlvmEngine:
    """Runs kernels. Holds workspaces and, once it is needed, a pool of `cores` threads."""

    def __init__(self, library: Library, cores: int | None = None) -> None:
        self.library = library
        self.cores = cores or min(_MOST_CORES, available_cores())
        self._idle: deque[Workspace] = deque()
        self._pool: ThreadPoolExecutor | None = None

    def run(self, kernel: Kernel, launch: Launch) -> None:
        """Run all blocks of `launch`, several at a time, handed out in order. Raises DeviceError for a finding."""
        x, y, z = launch.grid
        total = x * y * z
        warps = total * -(-(launch.block[0] * launch.block[1] * launch.block[2]) // LANES)
        task = _Task(self, kernel, launch)
        if self.cores == 1 or kernel.translation.atomics or warps < _SMALL_LAUNCH_WARPS or total == 1:
            task.portions.append((0, total))
            found = [task.work()]
        else:
            found = self._run_together(task, total)
        findings = [one for one in found if one is not None]
        if findings:
            raise min(findings, key=lambda one: one[0])[1]

    def _run_together(self, task: _Task, total: int) -> list[tuple[int, DeviceError] | None]:
        """Several threads take portions of the blocks; the calling one waits."""
        cores = min(self.cores, total)
        share = -(-total // (cores * _SHARES_PER_CORE))
        task.portions.extend((first, min(first + share, total)) for first in range(0, total, share))
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.cores, thread_name_prefix="emulator")
        futures = [self._pool.submit(task.work) for _ in range(cores)]
        try:
            return [future.result() for future in futures]
        except BaseException:
            task.stop.value = 0
            task.portions.clear()
            raise

    def workspace(self) -> Workspace:
        """One that nobody uses."""
        try:
            return self._idle.pop()
        except IndexError:
            return Workspace()

    def give_back(self, workspace: Workspace) -> None:
        """Let another launch use it."""
        self._idle.append(workspace)

    def close(self) -> None:
        """End the threads and give memory back."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        self._idle.clear()


class _Task:
    """One launch as its threads share it: blocks still to run, and the last one that anybody wants."""

    def __init__(self, engine: LlvmEngine, kernel: Kernel, launch: Launch) -> None:
        self.engine = engine
        self.kernel = kernel
        self.launch = launch
        self.stop = ctypes.c_uint32(_EVERY_BLOCK)
        self.portions: deque[tuple[int, int]] = deque()

    def work(self) -> tuple[int, DeviceError] | None:
        """Run portions until there are none; (block, error) of a finding. Blocks below it still run elsewhere, so
        that the finding of the lowest block is the one that is told.
        """
        workspace = self.engine.workspace()
        try:
            workspace.prepare(self.kernel, self.launch, ctypes.addressof(self.stop))
            while True:
                try:
                    first, behind = self.portions.popleft()
                except IndexError:
                    return None
                if self.kernel.function(workspace.address, first, behind):
                    block = int(workspace.context[0]["block_number"])
                    self.stop.value = min(self.stop.value, block)
                    return block, finding(self.kernel.translation, self.launch, workspace)
        finally:
            self.engine.give_back(workspace)
