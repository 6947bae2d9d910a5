"""Bugs injected into the PTX of kernels that are right, and what catches them.

In: the name of a kernel under test. Out: mutants of its PTX, and for each the checks that noticed. Why: a sanitizer
is worth what it finds; a table of mutants says so, and a survivor is either harmless, with a reason, or a hole.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from tests.support import mutant_models
from tests.support.mutant_products import (
    MEETINGS,
    BesideCase,
    BoxesCase,
    ClusterCase,
    HopperCase,
    SharedTilesCase,
    SplitCase,
)
from tests.support.mutation import OPERATORS, Arrays, Case, Operator

import tilewright
from tilewright.runtime.emulator.device import EmulatorDevice
from tilewright.runtime.emulator.observer import Instrument
from tilewright.runtime.engine import Engine
from tilewright.runtime.session import Session


class CompiledCase(Case):
    """The kernel of a small model (of several, the one called like the model), compiled by tilewright."""

    entry: str

    def __init__(
        self,
        model: Callable[[], onnx.ModelProto],
        precision: str,
        *inputs: Arrays,
        operators: tuple[Operator, ...] = OPERATORS,
        target: str = "sm_80",
    ) -> None:
        self.name = f"{model.__name__.replace('_', ' ')} {precision}"
        # Halves round to 2^-11 of values of about the largest size; f32 to 2^-24, over sums of hundreds.
        self.tolerance = 2e-3 if precision == "f16" else 1e-5
        self._engine = tilewright.compile(model(), target=target, precision=precision)
        self._inputs = inputs
        self.operators = operators
        kernels = self._engine.kernels
        self.entry = next((name for name in kernels if name.startswith(model.__name__)), next(iter(kernels)))
        self.ptx = self._engine.ptx(self.entry)

    def run(self, ptx: str, instrument: Instrument) -> Arrays:
        weights = [array for _, array in self._engine.weights()]
        kernels = {name: self._engine.ptx(name) for name in self._engine.kernels} | {self.entry: ptx}
        engine = Engine.build(self._engine.manifest, kernels, {}, weights)
        with Session(engine, EmulatorDevice(instrument=instrument), checked=True) as session:
            runs = [session.run(arrays) for arrays in self._inputs]
        return {f"{name} {number}": array for number, run in enumerate(runs) for name, array in run.items()}


def _noise(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    generator = np.random.default_rng(7)
    return [generator.standard_normal(shape).astype(np.float32) for shape in shapes]


def _logits() -> list[Arrays]:
    """Moderate ones, and some whose exponentials overflow unless the true maximum is subtracted."""
    (noise,) = _noise((3, 2500))
    return [{"x": noise}, {"x": 60 * noise**3}]


def _rows(*counts: int) -> list[Arrays]:
    """Several batches: which bound matters depends on the number of rows."""
    return [{"x": _noise((count, 152))[0]} for count in counts]


_NO_OUTPUT = "the columns are outside of the matrix: nobody stores their products"
_ZERO = "the elements are beyond k, where the other factor is zero"
_NEVER_EQUAL = "the number never equals the bound: a trap on that is never reached"
_LAST_USE = "what follows uses other shared memory: the barrier is not needed"
_TOGETHER = "the emulator takes the lanes of a warp together: that one may still look for the flag is not seen"
_WAITED = "in front of the first strip of a tile all stores before it were waited for"
_INITIALISED = "fence.mbarrier_init before it publishes the same mbarriers"
_NEXT_FENCE = "the same thread's next one, in front of the meeting, tells of all mbarriers that it has made"
_OWN_BLOCK = "bar.sync tells the block's threads of its mbarriers, and fence.proxy.async the copies"
REASONS: dict[str, str] = {
    "matmul f16: dropped zero-fill 1: cp.async.cg.shared.global [%rd+6912], [%rd], 16, %r;": _NO_OUTPUT,
    "matmul f16: dropped zero-fill 2: cp.async.cg.shared.global [%rd+4608], [%rd], 16, %r;": _ZERO,
    "matmul f16: off-by-one bound 1: setp.lt.u32 %p, %r, 72;": _NEVER_EQUAL,
    "matmul f16: off-by-one bound 2: setp.ge.s32 %p, %r, %r;": _NEVER_EQUAL,
    "matmul strict: dropped zero-fill 1: cp.async.cg.shared.global [%rd+13056], [%rd], 16, %r;": _NO_OUTPUT,
    "matmul strict: dropped zero-fill 2: cp.async.cg.shared.global [%rd], [%rd], 16, %r;": _ZERO,
    "matmul strict: off-by-one bound 2: setp.lt.u32 %p, %r, 152;": _NEVER_EQUAL,
    "convolution f16: dropped zero-fill 1: cp.async.cg.shared.global [%rd], [%rd], 16, %r;": _NO_OUTPUT,
    "convolution f16: dropped zero-fill 2: cp.async.cg.shared.global [%rd], [%rd], 16, %r;": _ZERO,
    "convolution f16: off-by-one bound 2: setp.lt.u32 %p, %r, 13;": _NEVER_EQUAL,
    "convolution strict: dropped zero-fill 2: cp.async.ca.shared.global [%rd], [%rd], 4, 0;": _ZERO,
    "softmax strict: dropped barrier 1: bar.sync 0;": _LAST_USE,
    "softmax strict: dropped barrier 2: bar.sync 0;": _LAST_USE,
    "softmax strict: off-by-one bound 1: setp.gt.u32 %p, %r, 2499;": _NEVER_EQUAL,
    "attention f16: dropped zero-fill 1: cp.async.cg.shared.global [%rd+3072], [%rd], 16, %r;":
        "the queries are beyond the last: nobody stores what they find",
    "attention f16: dropped zero-fill 2: cp.async.cg.shared.global [%rd], [%rd], 16, %r;":
        "the keys are beyond the last: their scores are replaced by -inf",
    "attention f16: off-by-one bound 1: setp.lt.u32 %p, %r, 100;": _NEVER_EQUAL,
    "attention f16: wrong swizzle or mask 1: and.b32 %r, %r, 31;":
        "the lane is only compared with 16: its lowest bit does not matter",
    "pointwise strict: off-by-one bound 2: setp.lt.u32 %p, %r, 47;": _NEVER_EQUAL,
    "shared tiles: dropped barrier of a warp 1: bar.warp.sync -1;": _TOGETHER,
    "wsgemm: dropped proxy fence 1: fence.proxy.async.shared::cta;": _INITIALISED,
    "boxes: dropped wait_group 1: cp.async.bulk.wait_group.read 1;": _WAITED,
    "boxes: wait_group for one group less 1: cp.async.bulk.wait_group.read 1;": _WAITED,
    "boxes: wrong swizzle or mask 2: and.b32 %r, %r, 261120;":
        "dynamic shared memory begins at 0 here, so the bit is never set; on a card it begins at 0x400",
    "boxes: dropped proxy fence 1: fence.proxy.async.shared::cta;": _INITIALISED,
    "cluster: dropped fence of new mbarriers 1: fence.mbarrier_init.release.cluster;": _NEXT_FENCE,
    "shared k: dropped fence of new mbarriers 1: fence.mbarrier_init.release.cluster;": _OWN_BLOCK,
    "shared k: dropped fence of new mbarriers 2: fence.mbarrier_init.release.cluster;": _OWN_BLOCK,
}  # fmt: skip
"""Why a mutant that survives does no harm, by its name; looked into one by one."""

_ZERO_FILL = tuple(operator for operator in OPERATORS if operator.name == "dropped zero-fill")
CASES: dict[str, Callable[[], Case]] = {
    "matmul f16": lambda: CompiledCase(mutant_models.matmul, "f16", *_rows(70, 75)),
    "matmul strict": lambda: CompiledCase(mutant_models.matmul, "strict", *_rows(70, 75)),
    "convolution f16": lambda: CompiledCase(
        mutant_models.convolution, "f16", {"x": _noise((2, 16, 11, 13))[0]}
    ),
    "convolution strict": lambda: CompiledCase(
        mutant_models.convolution, "strict", {"x": _noise((2, 16, 11, 13))[0]}, operators=_ZERO_FILL
    ),
    "softmax strict": lambda: CompiledCase(mutant_models.softmax, "strict", *_logits()),
    "attention f16": lambda: CompiledCase(mutant_models.attention, "f16", {"x": _noise((2, 100, 32))[0]}),
    "pointwise strict": lambda: CompiledCase(
        mutant_models.pointwise, "strict", *({"x": _noise((count, 30, 47))[0]} for count in (2, 3))
    ),
    "wsgemm": HopperCase,
    "boxes": BoxesCase,
    "residual": BesideCase,
    "shared tiles": SharedTilesCase,
    "cluster": ClusterCase,
    "shared k": SplitCase,
    "long lines strict": lambda: CompiledCase(
        mutant_models.long_lines, "strict", {"x": _noise((2, 20000))[0]}, operators=MEETINGS, target="sm_90a"
    ),
}
