"""The NumPy engine: runs launches of compiled kernels, chunk by chunk.

In: PTX programs and launches. Out: effects on global memory. Why: it needs nothing but NumPy, compiles in milliseconds,
checks every access, and is the reference for faster engines. Chunks run on several cores, since NumPy lets go of the
interpreter lock inside its loops; kernels with atomics run on one, so that their answers do not depend on timing.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..errors import DeviceError
from .control_flow import Program, reads_flags
from .numpy_chunk import Chunk, Geometry, Launch
from .numpy_codegen import Compiled, compile_program
from .numpy_delayed import DelayedCopies
from .numpy_order import ChunkOrder
from .numpy_scheduler import run_chunk
from .observer import Enough

CHUNK_THREADS = 8192
"""About how many threads advance together: enough to hide Python's overhead, few enough for the second-level cache."""
_SMALL_CHUNK_THREADS = 2048
"""A launch is not cut into smaller chunks than this for the sake of more cores."""
_MOST_CORES = 8
_CHUNK_SHARED_BYTES = 1 << 28
_GEOMETRIES_KEPT = 16

__all__ = ["CHUNK_THREADS", "Compiled", "Launch", "NumpyEngine"]


class NumpyEngine:
    """Compiles programs and runs launches. Holds only caches and, once it is needed, a pool of `cores` threads."""

    def __init__(self, chunk_threads: int = CHUNK_THREADS, cores: int | None = None) -> None:
        self.chunk_threads = chunk_threads
        self.cores = cores or min(_MOST_CORES, available_cores())
        self._geometries: dict[tuple[tuple[int, int, int], int], Geometry] = {}
        self._pool: ThreadPoolExecutor | None = None

    def compile(self, program: Program, addresses: dict[str, int], observed: bool = False) -> Compiled:
        """Generate code. `addresses` are those of the module's global variables; `observed` kernels can be launched
        with an instrument, and only so.
        """
        try:
            return compile_program(program, addresses, observed)
        except (AssertionError, IndexError, ValueError, KeyError, TypeError) as error:
            # Malformed operands surface here; the parser accepts more than PTX allows.
            raise DeviceError(
                f"emulator: kernel {program.name} is malformed or uses an unknown form: {type(error).__name__}: {error}"
            ) from error

    def run(self, compiled: Compiled, launch: Launch) -> None:
        """Run all blocks of `launch`, several at a time, handed out in order."""
        x, y, z = launch.grid
        total = x * y * z
        padded = -(-(launch.block[0] * launch.block[1] * launch.block[2]) // 32) * 32
        cores = 1 if compiled.atomics else self.cores
        together = max(1, min(total, self.chunk_threads // padded, _CHUNK_SHARED_BYTES // max(1, launch.shared_bytes)))
        if cores > 1:
            together = min(together, max(_SMALL_CHUNK_THREADS // padded, -(-total // cores), 1))
        together = _whole_clusters(together, launch)
        if launch.instrument is not None:
            self._run_observed(compiled, launch, together)
            return
        starts = range(0, total, together)
        chunks = deque(starts)
        cores = min(cores, len(starts))
        for first in (0, total - total % together):
            if first < total:
                self._geometry(launch.block, min(together, total - first))
        if cores == 1:
            self._work(compiled, launch, together, chunks)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.cores, thread_name_prefix="emulator")
        futures = [self._pool.submit(self._work, compiled, launch, together, chunks) for _ in range(cores)]
        try:
            found = [error for error in (future.exception() for future in futures) if error is not None]
        except BaseException:
            chunks.clear()
            raise
        if found:
            # Chunks were handed out in order and all begun ones ended, so the first finding is always the same.
            raise min(found, key=lambda error: getattr(error, "first_block", -1))

    def _run_observed(self, compiled: Compiled, launch: Launch, together: int) -> None:
        """Run chunk after chunk, in the order that the instrument asks for, under its eyes."""
        instrument = launch.instrument
        assert instrument is not None
        failure: DeviceError | None = None
        total = launch.grid[0] * launch.grid[1] * launch.grid[2]
        together = _whole_clusters(min(together, instrument.begin(compiled, launch)), launch)
        order = ChunkOrder(instrument.order)
        try:
            with np.errstate(all="ignore"):
                waits = reads_flags(compiled.program)
                for first in instrument.chosen(order.arrange(range(0, total, together), waits), waits):
                    chunk = Chunk(launch, self._geometry(launch.block, min(together, total - first)), first)
                    chunk.observer = instrument.observe(chunk)
                    chunk.delayed = DelayedCopies(chunk) if instrument.delayed else None
                    with contextlib.suppress(Enough):
                        run_chunk(compiled, chunk, order.schedule(chunk))
        except DeviceError as error:
            failure = error
            raise
        finally:
            instrument.finish(failure)

    def _work(self, compiled: Compiled, launch: Launch, together: int, chunks: deque[int]) -> None:
        """Take chunks until there are none, or until one fails (here or in another thread)."""
        x, y, z = launch.grid
        with np.errstate(all="ignore"):
            while True:
                try:
                    first = chunks.popleft()
                except IndexError:
                    return
                geometry = self._geometry(launch.block, min(together, x * y * z - first))
                try:
                    run_chunk(compiled, Chunk(launch, geometry, first))
                except BaseException as error:
                    chunks.clear()
                    error.first_block = first  # type: ignore[attr-defined]
                    raise

    def _geometry(self, block: tuple[int, int, int], blocks: int) -> Geometry:
        key = (block, blocks)
        found = self._geometries.get(key)
        if found is None:
            if len(self._geometries) >= _GEOMETRIES_KEPT:
                self._geometries.pop(next(iter(self._geometries)))
            found = self._geometries[key] = Geometry(block, blocks)
        return found

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


def _whole_clusters(blocks: int, launch: Launch) -> int:
    """So many blocks a chunk, or as few more as make whole clusters."""
    x, y, z = launch.cluster
    return max(blocks - blocks % (x * y * z), x * y * z)


def available_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
