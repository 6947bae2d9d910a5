"""The fast engine: compiled kernels, and their launches over the cores.

In: translations, launches. Out: effects on global memory, or the DeviceError that the NumPy engine would raise. Why:
everything that costs time while a kernel runs is in its compiled code; here contexts are filled and blocks handed out.
"""

from __future__ import annotations

import ctypes
import hashlib
import struct
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from .kernel_facts import Extents
from .llvm_compile import Translation
from .llvm_context import AGAIN, BARRIER_BYTES, BARRIERS, CONTEXT, HURRIED, NEW
from .llvm_faults import finding, spin
from .llvm_host import Host, call_of, shared_stride
from .llvm_library import Library
from .llvm_loader import loader
from .llvm_runner import DONE, FOUND, SPINS
from .llvm_values import LANES
from .numpy_chunk import Launch
from .numpy_engine import available_cores

_MOST_CORES = 8
_SMALL_LAUNCH_WARPS = 16
"""A launch of fewer warps than this runs on the calling thread."""
_SHARES_PER_CORE = 4
"""Each core takes its blocks in about so many portions, so that none waits for another for long."""
_MOST_RESIDENT, _RESIDENT_BYTES = 1024, 1 << 28
"""Blocks of a kernel that spins that are there at once, and the memory of all of them."""
_SCRATCH_BYTES = 1 << 14
_ALIGNMENT = 128
_MARGIN_BYTES = 16
"""Behind the parameters, so that the widest load of one stays inside."""
_SHARED_MARGIN_BYTES = 1024
_EVERY_BLOCK = (1 << 32) - 1

Array = np.ndarray[Any, np.dtype[Any]]
Rooms = tuple[tuple[str, int], ...]
"""Names and bytes of memories that a kernel needs."""
_FUNCTION = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)


class Kernel:
    """A translation linked into this process, for blocks of `warps` warps."""

    def __init__(self, translation: Translation, shape: Extents) -> None:
        """Raises DeviceError where the system refuses memory for code."""
        self.translation = translation
        self.warps = -(-(shape[0] * shape[1] * shape[2]) // LANES)
        x, y, z = translation.facts.cluster_shape or (1, 1, 1)
        self.cluster_blocks = x * y * z
        self.calls = {int(site): call_of(values) for site, values in translation.calls.items()}
        warps = self.warps * self.cluster_blocks
        self.rooms = (
            ("recent", 16 * translation.site_count), ("local", translation.local_bytes * LANES * warps),
            ("parameters", translation.facts.parameter_bytes + _MARGIN_BYTES),
            ("warps", translation.record_bytes * warps), ("barriers", BARRIER_BYTES * BARRIERS * self.cluster_blocks),
        )  # fmt: skip
        loader().load(translation.images)
        self.function = _FUNCTION(loader().addresses[translation.symbol])

    def most_resident(self, launch: Launch) -> int:
        """How many blocks (or clusters) of a launch may be there at once."""
        own = sum(nbytes for _, nbytes in self.rooms) + self.cluster_blocks * shared_stride(launch.shared_bytes)
        return max(1, min(_MOST_RESIDENT, _RESIDENT_BYTES // own))


def _aligned(nbytes: int) -> tuple[Array, int]:
    """Memory (as an array that keeps it) and the address of its first aligned byte."""
    array = np.zeros(nbytes + _ALIGNMENT, np.uint8)
    address = array.ctypes.data
    return array, address + -address % _ALIGNMENT


_HEAD = struct.Struct("=15Q8I")
"""The first fields of a context: pointers, grid, block, dynamic bytes, and the space of a fault."""


class Workspace:
    """The context of one host thread and the memories that it points to; they grow as launches need."""

    def __init__(self) -> None:
        keep, self.address = _aligned(CONTEXT.itemsize)
        start = self.address - keep.ctypes.data
        whole = keep[start : start + CONTEXT.itemsize]
        self.context = whole.view(CONTEXT)
        self._head = whole.data
        self._sizes: dict[str, int] = {}
        self._fitting: set[tuple[Rooms, int]] = set()
        self._addresses: dict[str, int] = {}
        self.arrays: dict[str, Array] = {}
        self._parameters = memoryview(b"")
        self._ready: tuple[Launch, tuple[int, int], int] | None = None
        self.host = Host(self)

    def _make_room(self, kernel: Kernel, block_bytes: int) -> None:
        """Have all memories as large as a launch needs them."""
        shared_bytes = kernel.cluster_blocks * shared_stride(block_bytes)
        needs = (kernel.rooms, shared_bytes)
        if needs in self._fitting:
            return
        scratch = ("scratch", _SCRATCH_BYTES)
        for name, nbytes in (*kernel.rooms, ("shared", shared_bytes + _SHARED_MARGIN_BYTES), scratch):
            if self._sizes.get(name, -1) < nbytes:
                self.arrays[name], self._addresses[name] = _aligned(nbytes)
                self._sizes[name] = nbytes
        self._parameters = self._from("parameters").data
        self._fitting.add(needs)

    def _from(self, name: str) -> Array:
        array = self.arrays[name]
        return array[self._addresses[name] - array.ctypes.data :]

    def records(self) -> Array:
        """The bytes of the warps' records."""
        return self._from("warps")

    def shared(self) -> Array:
        """The shared memory of the block that runs, or of its cluster."""
        return self._from("shared")

    def scratch(self) -> Array:
        """Where operands of calls lie."""
        return self._from("scratch")

    def prepare(self, kernel: Kernel, launch: Launch, stop: int) -> None:
        """Fill the context for a launch, unless it is as it was. `stop` is the address of the last block that anybody
        still wants."""
        table = launch.memory.table_address()
        ready = self._ready
        if ready is None or ready[0] is not launch or ready[1] != table or ready[2] != stop:
            self._fill(kernel, launch, table, stop)
            self._ready = (launch, table, stop)
        self.host.begin(kernel, launch)

    def _fill(self, kernel: Kernel, launch: Launch, table: tuple[int, int], stop: int) -> None:
        self._make_room(kernel, launch.shared_bytes)
        at = self._addresses
        self._parameters[: len(launch.parameters)] = launch.parameters
        _HEAD.pack_into(
            self._head, 0, launch.memory.address, at["parameters"], at["shared"], launch.shared_bytes, at["local"],
            at["warps"], *table, at["recent"], stop, at["scratch"], at["local"], at["barriers"], at["shared"],
            self.host.pointer, *launch.grid, 0, 0, 0, launch.dynamic_bytes, 0,
        )  # fmt: skip


class LlvmEngine:
    """Runs kernels. Holds workspaces and, once it is needed, a pool of `cores` threads."""

    def __init__(self, library: Library, cores: int | None = None) -> None:
        self.library = library
        self.cores = cores or min(_MOST_CORES, available_cores())
        self._idle: deque[Workspace] = deque()
        self._pool: ThreadPoolExecutor | None = None
        self._last_block = ctypes.c_uint32(_EVERY_BLOCK)
        self.never = ctypes.addressof(self._last_block)

    def run(self, kernel: Kernel, launch: Launch) -> None:
        """Run all blocks of `launch`, several at a time, handed out in order. Raises DeviceError for a finding."""
        x, y, z = launch.grid
        total = x * y * z // kernel.cluster_blocks
        if kernel.translation.spins:
            self._run_resident(kernel, launch, total)
            return
        if self.cores == 1 or total * kernel.warps < _SMALL_LAUNCH_WARPS or total == 1 or kernel.translation.atomics:
            self._run_here(kernel, launch, total)
            return
        found = self._run_together(_Task(self, kernel, launch), total)
        findings = [one for one in found if one is not None]
        if findings:
            raise min(findings, key=lambda one: one[0])[1]

    def _run_here(self, kernel: Kernel, launch: Launch, total: int) -> None:
        """All blocks on the calling thread; for a small launch this is most of its time."""
        workspace = self.workspace()
        try:
            workspace.prepare(kernel, launch, self.never)
            if kernel.function(workspace.address, 0, total):
                raise finding(kernel, launch, workspace)
        finally:
            self._idle.append(workspace)

    def _run_resident(self, kernel: Kernel, launch: Launch, total: int) -> None:
        """Blocks that may wait for each other in loops: as on a GPU many of them are there at once, and take turns."""
        present: list[_Resident] = []
        begun, calm = 0, True
        while begun < total or present:
            changed = False
            while begun < total and len(present) < kernel.most_resident(launch):
                present.append(_Resident(self, kernel, launch, begun))
                begun, changed = begun + 1, True
                if present[-1].take_turn(NEW):
                    present.pop().leave()
            for resident in list(present):
                if resident.take_turn(AGAIN if calm else HURRIED):
                    resident.leave()
                    present.remove(resident)
                changed = changed or resident.changed
            if not changed and not calm:
                raise spin(kernel, launch, present[0].workspace)
            calm = changed

    def _run_together(self, task: _Task, total: int) -> list[tuple[int, BaseException] | None]:
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
        """Let another launch use it. There were many for blocks that waited for each other; a few are kept."""
        if len(self._idle) < _MOST_CORES:
            self._idle.append(workspace)

    def close(self) -> None:
        """End the threads and give memory back."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        self._idle.clear()


class _Resident:
    """A block (or cluster) of a kernel that spins, in a workspace of its own. `changed`: its threads have, since their
    turn before, come to another place or to other values."""

    def __init__(self, engine: LlvmEngine, kernel: Kernel, launch: Launch, block: int) -> None:
        self.engine, self.kernel, self.launch, self.block = engine, kernel, launch, block
        self.workspace = engine.workspace()
        self.workspace.prepare(kernel, launch, engine.never)
        self.changed = True
        self._before = b""

    def take_turn(self, turn: int) -> bool:
        """Run until only spinning warps are left; whether the block has ended. Raises DeviceError for a finding."""
        context = self.workspace.context
        context["turn"] = turn
        outcome = self.kernel.function(self.workspace.address, self.block, self.block + 1)
        if outcome == FOUND:
            raise finding(self.kernel, self.launch, self.workspace)
        if outcome == SPINS:
            nbytes = self.kernel.translation.record_bytes * self.kernel.warps * self.kernel.cluster_blocks
            now = hashlib.sha256(self.workspace.records()[:nbytes].tobytes()).digest()
            self.changed, self._before = now != self._before, now
        return bool(outcome == DONE)

    def leave(self) -> None:
        """The block has ended."""
        self.changed = True
        self.engine.give_back(self.workspace)


class _Task:
    """One launch as its threads share it: blocks still to run, and the last one that anybody wants."""

    def __init__(self, engine: LlvmEngine, kernel: Kernel, launch: Launch) -> None:
        self.engine = engine
        self.kernel = kernel
        self.launch = launch
        self.stop = ctypes.c_uint32(_EVERY_BLOCK)
        self.portions: deque[tuple[int, int]] = deque()

    def work(self) -> tuple[int, BaseException] | None:
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
                    block = int(workspace.context[0]["block_number"]) // self.kernel.cluster_blocks
                    self.stop.value = min(self.stop.value, block)
                    return block, finding(self.kernel, self.launch, workspace)
        finally:
            self.engine.give_back(workspace)
