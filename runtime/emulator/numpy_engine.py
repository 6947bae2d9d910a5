"""The NumPy engine: runs launches of compiled kernels, chunk by chunk.

In: PTX programs and launches. Out: effects on global memory. Why: it needs nothing but NumPy, compiles in
milliseconds, checks every access, and is the reference for faster engines.
"""

from __future__ import annotations

import numpy as np

from ..errors import DeviceError
from .control_flow import Program
from .numpy_chunk import Chunk, Geometry, Launch
from .numpy_codegen import Compiled, compile_program
from .numpy_scheduler import run_chunk

CHUNK_THREADS = 8192
"""About how many threads advance together: enough to hide Python's overhead, few enough for the second-level
cache.
"""
_CHUNK_SHARED_BYTES = 1 << 28
_GEOMETRIES_KEPT = 16

__all__ = ["CHUNK_THREADS", "Compiled", "Launch", "NumpyEngine"]


class NumpyEngine:
    """Compiles programs and runs launches. Holds only caches."""

    def __init__(self, chunk_threads: int = CHUNK_THREADS) -> None:
        self.chunk_threads = chunk_threads
        self._geometries: dict[tuple[tuple[int, int, int], int], Geometry] = {}

    def compile(self, program: Program, addresses: dict[str, int]) -> Compiled:
        """Generate code. `addresses` are those of the module's global variables."""
        try:
            return compile_program(program, addresses)
        except (AssertionError, IndexError, ValueError, KeyError, TypeError) as error:
            # Malformed operands surface here; the parser accepts more than PTX allows.
            raise DeviceError(
                f"emulator: kernel {program.name} is malformed or uses an unknown form: {type(error).__name__}: {error}"
            ) from error

    def run(self, compiled: Compiled, launch: Launch) -> None:
        """Run all blocks of `launch`, in order, several at a time."""
        x, y, z = launch.grid
        total = x * y * z
        padded = -(-(launch.block[0] * launch.block[1] * launch.block[2]) // 32) * 32
        together = max(
            1, min(total, self.chunk_threads // padded, _CHUNK_SHARED_BYTES // max(1, launch.shared_bytes))
        )
        with np.errstate(all="ignore"):
            for first in range(0, total, together):
                geometry = self._geometry(launch.block, min(together, total - first))
                run_chunk(compiled, Chunk(launch, geometry, first))

    def _geometry(self, block: tuple[int, int, int], blocks: int) -> Geometry:
        key = (block, blocks)
        found = self._geometries.get(key)
        if found is None:
            if len(self._geometries) >= _GEOMETRIES_KEPT:
                self._geometries.pop(next(iter(self._geometries)))
            found = self._geometries[key] = Geometry(block, blocks)
        return found
