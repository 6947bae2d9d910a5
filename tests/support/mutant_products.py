"""Products for sm_90a that are worth breaking: tensor copies, mbarriers, wgmma, results in boxes, blocks that meet.

In: nothing. Out: cases whose PTX is mutated. Why: each is as small as lets every wait and fence in it matter.
"""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import ml_dtypes
import numpy as np
from mlir import ir
from tests.emulator.hopper_harness import Tensors
from tests.passes.dot.harness import compile_kernel
from tests.support.mutation import OPERATORS, Arrays, Case, Operator, plus

from tilewright.dialects import graph_builder
from tilewright.passes.tile.schedule import Schedule
from tilewright.passes.tile.schedule_wgmma import Candidate
from tilewright.runtime.emulator.observer import Instrument


class HopperCase(Case):
    """The warp-specialised product of tests/emulator/cuda: tensor copies, mbarriers, wgmma."""

    name, entry, tolerance = "wsgemm", "wsgemm", 2.0**-8

    def __init__(self, shapes: tuple[tuple[int, int, int], ...] = ((128, 256, 448), (128, 128, 256))) -> None:
        """`shapes`: m, n, k. By default two tiles of seven steps with one block for both, and one tile of as many steps
        as the loop is unrolled.
        """
        self._shapes = shapes
        self.ptx = Tensors("wsgemm").ptx

    def run(self, ptx: str, instrument: Instrument) -> Arrays:
        return {str(shape): self._product(ptx, instrument, *shape) for shape in self._shapes}

    def _product(self, ptx: str, instrument: Instrument, m: int, n: int, k: int) -> np.ndarray:
        tensors = Tensors("wsgemm", instrument)
        tensors.ptx = ptx
        generator = np.random.default_rng(3)
        a = generator.standard_normal((m, k)).astype(ml_dtypes.bfloat16)
        b = generator.standard_normal((n, k)).astype(ml_dtypes.bfloat16)
        c = np.zeros((m, n), ml_dtypes.bfloat16)
        places = [tensors.put(a), tensors.put(b), tensors.device.allocate(c.nbytes)]
        boxes = ((64, 128), (64, 128), (64, 64))
        maps = [
            tensors.map("bfloat16", place, array, box, swizzle="128b")
            for place, array, box in zip(places, (a, b, c), boxes, strict=True)
        ]
        shared = 3 * 2 * 128 * 64 * 2 + 2 * 64 * 128 * 2
        tensors.launch("wsgemm", *maps, m, n, k, grid=1, block=384, shared=shared)
        return tensors.get(places[2], c)


class OwnCase(Case):
    """Our own product x y' for sm_90a of `sizes` (rows, columns, depth), by one schedule."""

    entry, tolerance = "kernel", 2.0**-9
    sizes = (0, 0, 0)
    schedule: Schedule

    def __init__(self) -> None:
        candidates = [Candidate(self.schedule, 0.0)]
        with mock.patch("tilewright.passes.tile.warp_plan.wgmma_candidates", lambda *_: candidates):
            self._kernel = compile_kernel([(list(shape), "f16") for shape in self.shapes()], self.make, "sm_90a")
        self.ptx = self._kernel.ptx

    def shapes(self) -> list[tuple[int, int]]:
        """Of the arguments."""
        rows, columns, depth = self.sizes
        return [(rows, depth), (columns, depth)]

    @staticmethod
    def make(*arguments: ir.Value) -> ir.Value:
        """The kernel's body."""
        return graph_builder.matmul(arguments[0], arguments[1], False, True, element="f16")

    def run(self, ptx: str, instrument: Instrument) -> Arrays:
        generator = np.random.default_rng(3)
        arrays = [generator.standard_normal(shape).astype(np.float16) for shape in self.shapes()]
        return {"y": replace(self._kernel, ptx=ptx).run(arrays, instrument)[0]}


_KINDS_OF_BOXES = (
    "dropped barrier", "dropped wait_group", "dropped commit_group", "dropped proxy fence", "swapped coordinates",
    "wrong swizzle or mask",
)  # fmt: skip


class BoxesCase(OwnCase):
    """Results leave in boxes: one block with two tiles of three strips each, so that both slots are used again within a
    tile and from one to the next.
    """

    name, sizes = "boxes", (128, 328, 64)
    schedule = Schedule((128, 192, 64), (8, 1), "m64n192k16.f16", stages=2, producers=4, resident=1)
    operators = (
        *(operator for operator in OPERATORS if operator.name in _KINDS_OF_BOXES),
        Operator("wait_group for one group less", r"cp\.async\.bulk\.wait_group\.read\s+(\d+)", plus(1, 1)),
    )


class BesideCase(OwnCase):
    """The same with a residual, which arrives in the shared tiles that results leave from: one block, four tiles."""

    name, sizes = "residual", (136, 136, 64)
    schedule = Schedule((128, 128, 64), (8, 1), "m64n128k16.f16", stages=2, producers=4, resident=1)
    operators = (
        Operator("dropped wait for the last stores", r"^\s*cp\.async\.bulk\.wait_group\.read\s+0.*"),
        Operator("dropped wait for an mbarrier", r"mbarrier\.try_wait\.parity.*", lambda m: "setp.eq.u32 P1, 0, 0;"),
        Operator("dropped fetch", r"@%p\d+ cp\.async\.bulk\.tensor\.2d\.shared.*"),
        Operator("too few bytes expected", r"(arrive\.expect_tx\S+ _, \[%r\d+\], )\d+;", lambda m: f"{m[1]}64;"),
    )

    def shapes(self) -> list[tuple[int, int]]:
        return [*super().shapes(), self.sizes[:2]]

    @staticmethod
    def make(*arguments: ir.Value) -> ir.Value:
        return graph_builder.map([OwnCase.make(*arguments[:2]), arguments[2]], lambda x, r: x + r)


class SharedTilesCase(OwnCase):
    """Tiles fill no wave: blocks share their k through global memory and flags."""

    name, sizes = "shared tiles", (136, 136, 320)
    schedule = Schedule((64, 64, 64), (4, 1), "m64n64k16.f16", stages=3, producers=4, resident=5, run=4)
    operators = (
        Operator("flag without release", r"st\.release\.gpu", lambda m: "st.relaxed.gpu"),
        Operator("flag without acquire", r"ld\.acquire\.gpu", lambda m: "ld.relaxed.gpu"),
        Operator("flag that is never set", r"@first st\.release.*"),
        Operator("flag that is never cleared", r"@first st\.relaxed.*"),
        Operator("flag of another warp", r"@first st\.release\.\S+ \[%rd\d+\]", lambda m: m[0][:-1] + "+4]"),
        Operator("dropped barrier of a warp", r"^\s*bar\.warp\.sync.*"),
        Operator("dropped sums", r"^\s*st\.global\.v4.*"),
    )


MEETINGS = (
    Operator("dropped fence of new mbarriers", r"^\s*fence\.mbarrier_init.*"),
    Operator("cluster barrier without release", r"cluster\.arrive;", lambda m: "cluster.arrive.relaxed;"),
    Operator("dropped wait for the cluster", r"^\s*barrier\.cluster\.wait.*"),
)
"""Bugs where the blocks of a cluster meet."""


class ClusterCase(OwnCase):
    """Two blocks share the columns' operand, two tiles each: boxes go to both, and both empty a stage."""

    name, sizes = "cluster", (200, 136, 320)
    schedule = Schedule((64, 64, 64), (4, 1), "m64n64k16.f16", stages=2, producers=4, resident=2, cluster=2)
    operators = (
        *MEETINGS,
        Operator("arrival at one block", r"(setp\.lt\.u32 first, \S+) 2;", lambda m: f"{m[1]} 1;"),
        Operator("box for one block", r"(cp\.async\.bulk\.tensor.*multicast.*)%rs\d+;", lambda m: f"{m[1]}1;"),
    )


class SplitCase(OwnCase):
    """Two blocks share k: each adds up half of the rows over the shared memory of both."""

    name, sizes = "shared k", (64, 136, 320)
    schedule = Schedule((64, 64, 64), (4, 1), "m64n64k16.f16", stages=2, producers=4, resident=1, split=2)
    operators = MEETINGS
