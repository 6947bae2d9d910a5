"""What the NumPy engine tells about a running chunk: memory accesses, synchronisation, executed blocks.

In: calls of the engine's routines and scheduler. Out: nothing; a sanitizer or a profile derives from `Observer` and
collects. Why: the checks live outside the engine, and cost nothing when nobody observes: kernels are then
compiled without the calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..errors import DeviceError
    from .memory import GlobalMemory
    from .numpy_chunk import Chunk, Launch, Mask, Values
    from .numpy_codegen import Compiled

READ, WRITE, ATOMIC = "read", "write", "atomic"
"""Kinds of access."""
COPY, BULK, WGMMA = "copy", "bulk", "wgmma"
"""Kinds of asynchronous groups: cp.async; bulk copies that have no mbarrier; wgmma.mma_async."""


class Enough(Exception):
    """Raised by an observer that has seen enough of its chunk: the rest of it is not run."""


class Observer:
    """Everything that happens in one chunk. Each method does nothing here.

    `mask` says which threads of the chunk take part (None: all), `line` is that of the PTX, addresses are values
    over threads: u64, offsets from the start of their space for `shared` and `local`, and for `cluster` (shared
    memory of any block of the cluster) as numpy_cluster.py writes them. Every access has passed the bounds and
    alignment checks, and routines call after they have read or written.
    """

    def executed(self, block: int, mask: Mask) -> None:
        """Basic block `block` begins."""

    # Accesses.
    def accessed(self, mask: Mask, line: int, kind: str, space: str, address: Values, nbytes: int) -> None:
        """Each thread has read or written (`kind`) `nbytes` consecutive bytes of global, shared or local memory
        through the generic proxy.
        """

    def copied(self, mask: Mask, line: int, target: Values, source: Values, size: Values | None, nbytes: int) -> None:
        """cp.async has begun: `nbytes` of shared memory at `target`, the first `size` (all without it) from global
        memory at `source`. It belongs to the thread's open group of kind `COPY`.
        """

    def bulk_accessed(
        self,
        thread: int,
        line: int,
        kind: str,
        space: str,
        addresses: Any,
        nbytes: int,
        *,
        block: int | None = None,
        mbarrier: int | None = None,
        group: str | None = None,
        others: Sequence[int] = (),
    ) -> None:
        """A TMA or bulk copy, or a wgmma, that `thread` has begun reads or writes (`kind`) through the asynchronous
        proxy `nbytes` bytes at each of `addresses` (an array of byte addresses).

        `block` is whose shared memory is meant, counted within the chunk; by default that of `thread`. It is
        complete when the current phase of the mbarrier at shared address `mbarrier` of that block is, or when the
        thread's open group of kind `group` is (`BULK` or `WGMMA`). `others` are threads of the other warps that take
        part in the same access.
        """

    # Asynchronous groups.
    def group_committed(self, mask: Mask, line: int, kind: str) -> None:
        """The open group of kind `kind` of each thread ends, and a new one begins."""

    def group_waited(self, mask: Mask, line: int, kind: str, pending: int | None, reading: bool = False) -> None:
        """Groups of kind `kind` but for the newest `pending` committed ones are complete; None: open ones too.
        `reading`: only as far as their reads go (`cp.async.bulk.wait_group.read`).
        """

    # Synchronisation of threads.
    def fenced(self, mask: Mask, line: int, kind: str) -> None:
        """A fence: `async` (fence.proxy.async), `memory` (membar, fence.acq_rel, fence.sc), `mbarrier_init`, `wgmma`.
        """

    def warps_met(self, mask: Mask, line: int, everyone: bool) -> None:
        """bar.warp.sync, a shuffle, a vote: the lanes of each warp have synchronised. `everyone`: it names all 32."""

    def barrier_arrived(self, mask: Mask, line: int, number: int) -> None:
        """Threads have arrived at barrier `number` of their block (bar.sync, bar.arrive, bar.red)."""

    def barrier_passed(self, mask: Mask, number: int, complete: Mask) -> None:
        """Threads leave barrier `number`, which has become complete in the blocks `complete` (one bool a block;
        None: in all). Those that only arrive (bar.arrive) have gone on before.
        """

    def mbarrier_initialised(self, mask: Mask, line: int, address: Values) -> None:
        """mbarrier.init or mbarrier.inval of the object at shared address `address`."""

    def mbarrier_arrived(
        self, mask: Mask, line: int, address: Values, block: Values | None = None, kind: str = "thread"
    ) -> None:
        """An arrival at the mbarrier at shared address `address`, of block `block` of the chunk where it is another
        one's: of the thread itself, or (`kind` `COPY`) by cp.async.mbarrier.arrive of its cp.async up to now.
        """

    def mbarrier_completed(self, block: int, address: int) -> None:
        """The phase of an mbarrier is complete; the next one begins. Called after the arrival that completes it."""

    def mbarrier_waited(self, mask: Mask, line: int, address: Values, block: Values | None = None) -> None:
        """test_wait or try_wait answered true: the threads know that the last phase before the current is complete.
        """

    def cluster_barrier_arrived(self, mask: Mask, line: int, relaxed: bool) -> None:
        """barrier.cluster.arrive; `relaxed`: without release."""

    def cluster_barrier_passed(self, mask: Mask, line: int) -> None:
        """barrier.cluster.wait has let these threads, of every block of their clusters, go on."""

    def previous_awaited(self, mask: Mask, line: int) -> None:
        """griddepcontrol.wait: the kernels in front have ended, and what they wrote is visible to these threads."""

    # The end.
    def ended(self) -> None:
        """Every thread of the chunk has ended."""


@dataclass(frozen=True, slots=True)
class Order:
    """In which order warps and blocks advance, among those that can: `lockstep` (as fast as it goes), `reversed`
    (the last warp as far as it can go, then the one before), or `random` by `seed`.
    """

    name: str = "lockstep"
    seed: int = 0

    def __str__(self) -> str:
        return f"random:{self.seed}" if self.name == "random" else self.name


class Instrument:
    """Observes every launch of a device. `order` is that of warps and blocks; `delayed` applies asynchronous copies
    at the latest moment that is legal instead of at once.
    """

    order = Order()
    delayed = False

    # Host side: what happens to the memory of the device.
    def attach(self, memory: GlobalMemory) -> None:
        """The memory of the device, which is new."""

    def defined(self, address: int, nbytes: int) -> None:
        """The host has written: an upload, a fill, a module variable."""

    def forgotten(self, address: int, nbytes: int) -> None:
        """Contents that nobody may rely on: of new memory, or discarded."""

    def copied(self, target: int, source: int, nbytes: int) -> None:
        """Device memory has been copied."""

    def downloaded(self, address: int, nbytes: int) -> None:
        """The host reads."""

    # Launches.
    def begin(self, compiled: Compiled, launch: Launch) -> int:
        """A launch begins; gives the largest number of blocks that may run in one chunk."""
        return 1 << 30

    def chosen(self, firsts: Sequence[int], waits: bool) -> Iterable[int]:
        """Which chunks run, by their first blocks, and in which order; `firsts` are all of them. With `waits` blocks
        wait for what earlier ones write. Asked for the next one when the one before has ended.
        """
        return firsts

    def observe(self, chunk: Chunk) -> Observer:
        """The observer of a chunk of the launch, which begins now; chunks run one after another."""
        return Observer()

    def finish(self, error: DeviceError | None) -> None:
        """The launch has ended, or failed."""
