"""State of the threads that the NumPy engine runs in lock-step, and how a fault of one of them is told.

In: a loaded kernel, a launch and the numbers of some blocks. Out: a `Chunk`: registers, shared and local
memory, special registers, masks. Why: routines and generated code share this one object; whole warps only,
padding lanes are masked out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ..errors import DeviceError
from .memory import RANK_SHIFT, GlobalMemory
from .observer import Instrument, Observer
from .ptx import Module

if TYPE_CHECKING:
    from .numpy_bulk import BulkQueue
    from .numpy_cluster import ClusterBarrier
    from .numpy_delayed import DelayedCopies

_NO_WINDOWS: dict[str, Any] = {dtype: np.zeros((), dtype)[()] for dtype in ("u4", "i4", "u8", "i8")}
Array = np.ndarray[Any, np.dtype[Any]]
Values = Any
Mask = Any
"""None when every thread takes part, else a bool array over threads."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch as every chunk of it sees it. `shared_bytes` is the total a block has; `parameters` the
    packed bytes.
    """

    kernel: str
    module: Module
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int
    dynamic_bytes: int
    local_bytes: int
    parameters: bytes
    memory: GlobalMemory
    instrument: Instrument | None = None
    cluster: tuple[int, int, int] = (1, 1, 1)


@dataclass(slots=True)
class Geometry:
    """What depends on the block shape and the number of blocks in a chunk only, and is kept between launches."""

    block: tuple[int, int, int]
    blocks: int
    block_threads: int = 0
    padded: int = 0
    threads: int = 0
    alive: Mask = None
    identity: dict[str, Values] = field(default_factory=dict)
    ramps: dict[int, Array] = field(default_factory=dict)
    tables: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        x, y, z = self.block
        self.block_threads = x * y * z
        self.padded = -(-self.block_threads // 32) * 32
        self.threads = self.padded * self.blocks
        linear = np.tile(np.arange(self.padded, dtype=np.uint32), self.blocks)
        if self.padded != self.block_threads:
            self.alive = linear < self.block_threads
            linear = np.minimum(linear, np.uint32(self.block_threads - 1))
        zero = np.uint32(0)
        self.identity["%tid.x"] = linear % np.uint32(x) if x > 1 else zero
        self.identity["%tid.y"] = linear // np.uint32(x) % np.uint32(y) if y > 1 else zero
        self.identity["%tid.z"] = linear // np.uint32(x * y) if z > 1 else zero
        lane = self.identity["%laneid"] = np.tile(np.arange(32, dtype=np.uint32), self.threads // 32)
        self.identity["%warpid"] = linear // np.uint32(32) if self.padded > 32 else zero
        one = np.uint32(1)
        self.identity["%lanemask_eq"] = one << lane
        self.identity["%lanemask_lt"] = (one << lane) - one
        self.identity["%lanemask_le"] = ((one << lane) - one) | (one << lane)
        self.identity["%lanemask_ge"] = ~((one << lane) - one)
        self.identity["%lanemask_gt"] = ~(((one << lane) - one) | (one << lane))

    def ramp(self, step: int) -> Array:
        """`step` times the thread number, as u64."""
        found = self.ramps.get(step)
        if found is None:
            found = self.ramps[step] = np.arange(self.threads, dtype=np.uint64) * np.uint64(step)
        return found

    def table(self, key: Any, make: Callable[[], Any]) -> Any:
        """A value computed once for this geometry."""
        found = self.tables.get(key)
        if found is None:
            found = self.tables[key] = make()
        return found


class Chunk:
    """Consecutive blocks of one launch, all threads of which advance together.

    `registers` holds a NumPy scalar (a value all threads share) or an array over `threads`. `alive` is the mask of
    threads that have not ended. `observer` and `delayed` are None unless the launch is instrumented. The blocks of a
    cluster follow each other, by rank. `events` counts what may end a wait, `changes` what a spin loop may see.
    """

    def __init__(self, launch: Launch, geometry: Geometry, first_block: int) -> None:
        self.launch = launch
        self.geometry = geometry
        self.memory = launch.memory
        self.first_block = first_block
        self.threads = geometry.threads
        self.alive: Mask = geometry.alive
        self.observer: Observer | None = None
        self.delayed: DelayedCopies | None = None
        x, y, z = launch.cluster
        self.cluster_blocks = x * y * z
        self.windows = self._own_windows()
        self.cluster_barrier: ClusterBarrier | None = None
        self.bulk: BulkQueue | None = None
        self.events = 0
        self.changes = 0
        self.registers: list[Values] = []
        self.special = _SpecialRegisters(self)
        self._shared: dict[str, Array] = {}
        self._local: dict[str, Array] = {}
        self.scratch = np.empty(self.threads, np.float64)
        self._room = self.scratch
        self.shared_stride = -(-launch.shared_bytes // 128) * 128
        self.local_stride = -(-launch.local_bytes // 16) * 16

    def own_ranks(self) -> Array:
        """For each thread the rank of its block in its cluster, int64."""

        def make() -> Array:
            return np.repeat(np.arange(self.geometry.blocks) % self.cluster_blocks, self.geometry.padded)

        found: Array = self.geometry.table(("rank", self.cluster_blocks), make)
        return found

    def _own_windows(self) -> dict[str, Array]:
        """For each integer type what stands above the offset in the address of a block's own shared memory. In a
        cluster, as ptxas makes them, addresses name the block's rank: who computes with one, as for a descriptor of
        wgmma, has to cut it off.
        """
        if self.cluster_blocks == 1:
            return _NO_WINDOWS
        named = self.own_ranks() + 1 << RANK_SHIFT
        return {dtype: named.astype(dtype) for dtype in _NO_WINDOWS}

    def room(self, count: int) -> Array:
        """Uninitialised f64 elements to compute in; the same ones each time."""
        if len(self._room) < count:
            self._room = np.empty(count, np.float64)
        return self._room[:count]

    def view(self, space: str, dtype: str) -> Array:
        """The memory of `space` (global, shared, cluster, local) as elements of `dtype`; that of `shared` and `cluster`
        is the shared memory of all blocks.
        """
        if space == "global":
            return self.memory.view(dtype)
        views = self._local if space == "local" else self._shared
        found = views.get(dtype)
        if found is None:
            raw = views.get("u1")
            if raw is None:
                count = self.threads if space == "local" else self.geometry.blocks
                stride = self.local_stride if space == "local" else self.shared_stride
                # Wide elements first, so that any view of the memory is aligned.
                raw = views["u1"] = np.zeros(max(16, count * stride) // 16, dtype=np.complex128).view("u1")
            found = views[dtype] = raw.view(dtype)
        return found

    def use_shared(self, memory: Array) -> None:
        """Have the blocks' shared memory in `memory`, bytes at a multiple of 16."""
        self._shared = {"u1": memory}

    def bases(self, space: str, nbytes: int) -> Array:
        """For each thread the element index at which its block's shared, or its own local, memory begins."""
        stride = self.shared_stride if space == "shared" else self.local_stride

        def make() -> Array:
            count = self.geometry.blocks if space == "shared" else self.threads
            starts = np.arange(count, dtype=np.int64) * (stride // nbytes)
            return np.repeat(starts, self.threads // count)

        found: Array = self.geometry.table((space, nbytes, stride), make)
        return found

    def parameter(self, offset: int, dtype: str) -> Values:
        """The kernel parameter at byte `offset`."""
        return np.frombuffer(self.launch.parameters, dtype, 1, offset)[0]

    def position(self, thread: int) -> str:
        """Block and thread of a lane, for messages."""
        x, y, _ = self.launch.block
        linear = min(thread % self.geometry.padded, self.geometry.block_threads - 1)
        number = np.array([self.first_block + thread // self.geometry.padded])
        block = tuple(int(coordinate[0]) for coordinate in block_coordinates(self.launch, number))
        return f"block {block}, thread {(linear % x, linear // x % y, linear // (x * y))}"

    def fault(self, line: int, what: str, thread: int | None = None) -> NoReturn:
        """Raise the DeviceError of a finding at PTX `line`."""
        where = f"\n  {self.position(thread)}" if thread is not None else ""
        raise DeviceError(
            f"emulator: {what}\n  kernel {self.launch.kernel}, grid {self.launch.grid}, block {self.launch.block}"
            f"{where}\n  PTX line {line}: {self.launch.module.text(line)}"
        )


def block_coordinates(launch: Launch, numbers: Array) -> tuple[Array, Array, Array]:
    """%ctaid of the blocks that are `numbers` in the order of chunks: cluster by cluster, within one by rank."""
    grid, (x, y, z) = launch.grid, launch.cluster
    rank, cluster = numbers % (x * y * z), numbers // (x * y * z)
    across, down = grid[0] // x, grid[1] // y
    return (
        cluster % across * x + rank % x,
        cluster // across % down * y + rank // x % y,
        cluster // (across * down) * z + rank // (x * y),
    )


class _SpecialRegisters(dict[str, Values]):
    """Special registers, computed when first read."""

    def __init__(self, chunk: Chunk) -> None:
        super().__init__()
        self._chunk = chunk

    def __missing__(self, name: str) -> Values:
        value = self._compute(name)
        if not name.startswith(("%clock", "%globaltimer")):
            self[name] = value
        return value

    def _compute(self, name: str) -> Values:
        chunk, launch = self._chunk, self._chunk.launch
        identity = chunk.geometry.identity.get(name)
        if identity is not None:
            return identity
        head, _, axis_name = name.partition(".")
        axis = "xyz".find(axis_name) if axis_name else -1
        if head in ("%ntid", "%nctaid", "%ctaid") and axis >= 0:
            if head == "%ctaid":
                return self._block_number(axis)
            return np.uint32((launch.block if head == "%ntid" else launch.grid)[axis])
        if "cluster" in head:
            return self._of_cluster(head, axis)
        if head in ("%clock64", "%globaltimer"):
            return np.uint64(time.perf_counter_ns())
        if head.startswith(("%clock", "%globaltimer")):
            return np.uint32(time.perf_counter_ns() & 0xFFFFFFFF)
        fixed = {
            "%nwarpid": 64, "%gridid": 0, "%smid": 0, "%nsmid": 1, "%total_smem_size": launch.shared_bytes,
            "%aggr_smem_size": launch.shared_bytes, "%dynamic_smem_size": launch.dynamic_bytes,
        }  # fmt: skip
        return np.uint64(0) if head == "%gridid" else np.uint32(fixed.get(head, 0))

    def _block_number(self, axis: int) -> Values:
        chunk = self._chunk
        linear = np.arange(chunk.first_block, chunk.first_block + chunk.geometry.blocks)
        return self._of_each_block(block_coordinates(chunk.launch, linear)[axis])

    def _of_each_block(self, values: Array) -> Values:
        """A value per block, for every thread of it; one scalar where all blocks have the same."""
        chunk, numbers = self._chunk, values.astype(np.uint32)
        if (numbers == numbers[0]).all():
            return numbers[0]
        return np.repeat(numbers, chunk.geometry.padded)

    def _of_cluster(self, name: str, axis: int) -> Values:
        """%clusterid and its kin. Without clusters every block is a cluster of its own."""
        chunk, launch = self._chunk, self._chunk.launch
        shape = launch.cluster
        blocks = chunk.first_block + np.arange(chunk.geometry.blocks)
        ranks = blocks % chunk.cluster_blocks
        if name == "%is_explicit_cluster":
            return np.bool_(chunk.cluster_blocks > 1)
        if name in ("%cluster_ctarank", "%cluster_nctarank"):
            return np.uint32(chunk.cluster_blocks) if "nc" in name else self._of_each_block(ranks)
        if name == "%cluster_nctaid":
            return np.uint32(shape[axis])
        if name == "%nclusterid":
            return np.uint32(launch.grid[axis] // shape[axis])
        if name == "%cluster_ctaid":
            inside = (ranks % shape[0], ranks // shape[0] % shape[1], ranks // (shape[0] * shape[1]))
            return self._of_each_block(inside[axis])
        return self._of_each_block(block_coordinates(launch, blocks)[axis] // shape[axis])
