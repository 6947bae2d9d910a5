"""The host's side of `llvm_calls.py`: routines of the NumPy engine on the memory of a workspace of the fast engine.

In: a call's number and the lanes that make it; operands in the scratch memory. Out: results there, memory changed, or
the DeviceError of a finding. Why: a `Chunk` over the same shared memory is all that those routines need to know.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .llvm_calls import SLOT_BYTES
from .llvm_module import HostCall
from .llvm_values import LANES
from .numpy_chunk import Array, Chunk, Geometry, Launch
from .numpy_matrix import multiply
from .numpy_mbarrier import complete
from .numpy_routines import ROUTINES

if TYPE_CHECKING:
    from .llvm_engine import Kernel, Workspace

FUNCTION = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint, ctypes.c_uint)


def _phase_is_complete(chunk: Chunk, mask: Array, line: int, *values: Any, count: int, **static: Any) -> tuple[Array]:
    return (complete(chunk, mask, line, *values, **static),)


_ROUTINES: dict[str, Callable[..., Any]] = {**ROUTINES, "phase_is_complete": _phase_is_complete, "mma": multiply}


def shared_stride(shared_bytes: int) -> int:
    """Bytes from the shared memory of one block of a cluster to that of the next."""
    return -(-shared_bytes // 128) * 128


class Host:
    """Answers the calls of one workspace. `pointer` is what compiled code calls; `error` what a call raised."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._function = FUNCTION(self._answer)
        self.pointer = ctypes.cast(self._function, ctypes.c_void_p).value or 0
        self.error: BaseException | None = None
        self._kernel: Kernel | None = None
        self._launch: Launch | None = None
        self._chunk: Chunk | None = None
        self._geometries: dict[tuple[tuple[int, int, int], int], Geometry] = {}

    def begin(self, kernel: Kernel, launch: Launch) -> None:
        """Calls to come are those of a launch."""
        self._kernel, self._launch, self._chunk, self.error = kernel, launch, None, None

    def _answer(self, site: int, lanes: int) -> int:
        """Called by compiled code; 1 for a finding."""
        try:
            with np.errstate(all="ignore"):
                self._call(site, lanes)
        except BaseException as error:
            self.error = error
            return 1
        return 0

    def chunk(self) -> Chunk:
        """The blocks that run now (one, or a cluster), on the workspace's shared memory."""
        assert self._kernel is not None and self._launch is not None
        first = int(self._workspace.context[0]["block_number"])
        chunk = self._chunk
        if chunk is None or chunk.first_block != first:
            launch, blocks = self._launch, self._kernel.cluster_blocks
            key = (launch.block, blocks)
            geometry = self._geometries.get(key)
            if geometry is None:
                geometry = self._geometries[key] = Geometry(launch.block, blocks)
            chunk = self._chunk = Chunk(launch, geometry, first)
            nbytes = max(16, blocks * shared_stride(launch.shared_bytes))
            chunk.use_shared(self._workspace.shared()[:nbytes])
        return chunk

    def _call(self, site: int, lanes: int) -> None:
        assert self._kernel is not None
        wanted = self._kernel.calls[site]
        chunk = self.chunk()
        context = self._workspace.context[0]
        warp = int(context["rank"]) * (chunk.geometry.padded // LANES) + int(context["warp"])
        mine = slice(LANES * warp, LANES * (warp + 1))
        mask = np.zeros(chunk.threads, bool)
        mask[mine] = (lanes >> _LANE_NUMBERS & 1).astype(bool)
        line = self._kernel.translation.site(site).line
        scratch = self._workspace.scratch()
        values = [
            _spread(scratch[SLOT_BYTES * index : SLOT_BYTES * (index + 1)], dtype, mine, chunk.threads)
            for index, dtype in enumerate(wanted.operands)
        ]
        count = wanted.static.get("count", len(wanted.results))
        answers = _ROUTINES[wanted.routine](chunk, mask, line, *values, **{**wanted.static, "count": count})
        for index, (answer, dtype) in enumerate(zip(answers, wanted.results, strict=True)):
            slot = scratch[SLOT_BYTES * index : SLOT_BYTES * (index + 1)]
            lanes_of_answer = np.broadcast_to(answer, (chunk.threads,))[mine]
            _columns(slot, dtype)[:, 0] = lanes_of_answer.astype("u1") if dtype == "?" else lanes_of_answer


_LANE_NUMBERS = np.arange(LANES)


def _columns(slot: Array, dtype: str) -> Array:
    """The 64 bits of each lane as elements of `dtype`, the value in the first column."""
    return slot.view("u1" if dtype == "?" else dtype).reshape(LANES, -1)


def _spread(slot: Array, dtype: str, mine: slice, threads: int) -> Array:
    """An operand over all threads, of which only the calling warp's matter."""
    found = np.zeros(threads, dtype)
    found[mine] = _columns(slot, dtype)[:, 0]
    return found


def call_of(values: dict[str, Any]) -> HostCall:
    """From what JSON makes of it: tuples have become lists."""
    static = {name: tuple(value) if isinstance(value, list) else value for name, value in values["static"].items()}
    return HostCall(values["routine"], values["operands"], values["results"], static)
