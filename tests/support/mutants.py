"""Bugs injected into the PTX of kernels that are right, and what catches them.

In: the name of a kernel under test. Out: mutants of its PTX, and for each the checks that noticed. Why: a sanitizer
is worth what it finds; a table of mutants says so, and a survivor is either harmless, with a reason, or a hole.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from types import FrameType
from unittest import mock

import ml_dtypes
import numpy as np
import onnx
from mlir import ir
from tests.emulator.hopper_harness import Tensors
from tests.passes.dot.harness import compile_kernel
from tests.support import mutant_models

import tilewright
from tilewright.dialects import graph_builder
from tilewright.passes.tile.schedule import Schedule
from tilewright.passes.tile.schedule_wgmma import Candidate
from tilewright.runtime.emulator.device import EmulatorDevice
from tilewright.runtime.emulator.observer import Instrument, Order
from tilewright.runtime.emulator.sanitizer import Sanitizer
from tilewright.runtime.emulator.sanitizer_findings import Finding
from tilewright.runtime.engine import Engine
from tilewright.runtime.errors import DeviceError
from tilewright.runtime.session import Session

Arrays = dict[str, np.ndarray]
SITES = 2
"""Places of one kind that are mutated in a kernel, spread evenly."""


@dataclass(frozen=True)
class Operator:
    """A kind of bug: lines that match `pattern` become what `change` makes of the match, or disappear."""

    name: str
    pattern: str
    change: Callable[[re.Match[str]], str] | None = None

    def sites(self, lines: list[str]) -> list[tuple[int, str]]:
        """(line index, its mutated text) of every place."""
        found = []
        for number, line in enumerate(lines):
            match = re.search(self.pattern, line)
            if match is None:
                continue
            text = ""
            if self.change is not None:
                text = line[: match.start()] + self.change(match) + line[match.end() :]
            if text != line:
                found.append((number, text))
        return found


def _plus(group: int, more: int) -> Callable[[re.Match[str]], str]:
    """Add `more` to the integer in `group`."""

    def change(match: re.Match[str]) -> str:
        begin, end = match.start(group) - match.start(), match.end(group) - match.start()
        return match[0][:begin] + str(int(match[group]) + more) + match[0][end:]

    return change


def _bound(match: re.Match[str]) -> str:
    return {"lt": "setp.le", "ge": "setp.gt", "gt": "setp.ge", "le": "setp.lt"}[match[1]] + match[0][7:]


def _without_lowest_bit(match: re.Match[str]) -> str:
    value = int(match[2])
    return f"{match[1]}{value & (value - 1)};"


def _next_row(match: re.Match[str]) -> str:
    base, offset = match[1], int(match[2] or 0)
    return match[0][: match.start(1) - match.start() - 1] + f"[{base}+{offset + 16}]"


def _other_phase(match: re.Match[str]) -> str:
    turned = f"{{ .reg .b32 Q1; xor.b32 Q1, {match[3]}, 1; .reg .pred"
    return f"{turned}{match[1]}{match[2]}Q1;"


OPERATORS = (
    Operator("dropped barrier", r"^\s*bar\.sync\b.*"),
    Operator("dropped wait_group", r"^\s*cp\.async\.(bulk\.)?wait_group.*"),
    Operator("wait_group for one group less", r"cp\.async\.wait_group\s+(\d+)", _plus(1, 1)),
    Operator("dropped commit_group", r"^\s*cp\.async\.(bulk\.)?commit_group.*"),
    Operator("dropped copy", r"^\s*cp\.async\.(c[ag]|bulk\.tensor).*"),
    Operator("dropped zero-fill", r"(cp\.async\.c\S+\s+\[[^]]*\], \[[^]]*\], \d+), (%r\d+|0);", lambda m: f"{m[1]};"),
    Operator("off-by-one bound", r"setp\.(lt|ge|gt|le)\.[su]32.*", _bound),
    Operator("wrong stride", r"mad\.lo\.s32.*, (\d+), %r\d+;", _plus(1, 16)),
    Operator("wrong shift", r"shl\.b32.*, (\d+);", _plus(1, 1)),
    Operator("wrong swizzle or mask", r"((?:xor|and)\.b32\s+%r\d+, %r\d+, )(\d{2,});", _without_lowest_bit),
    Operator(
        "swapped operands", r"(sub\.(?:rn\.f32|s32)|div\.\S+)\s+(%r\d+), (%r\d+), (%r\d+);",
        lambda m: f"{m[1]} {m[2]}, {m[4]}, {m[3]};",
    ),
    Operator(
        "swapped fragments", r"^\t\t\{(%r\d+), (%r\d+), (%r\d+), (%r\d+)\},$",
        lambda m: f"\t\t{{{m[2]}, {m[1]}, {m[3]}, {m[4]}}},",
    ),
    Operator("dropped store", r"^\s*(@!?%p\d+ )?st\.(global|shared)\..*"),
    Operator("store at the wrong address", r"st\.shared\.\S+\s+\[(%\w+)(\+\d+)?\]", _next_row),
    Operator("wrong lane", r"(shfl\.sync\.bfly\.b32.*, )(\d+), 31", lambda m: f"{m[1]}{int(m[2]) // 2}, 31"),
    Operator("dropped proxy fence", r"^\s*fence\.proxy\.async.*"),
    Operator("wrong phase", r"\{ \.reg \.pred( P1;.*try_wait\.parity.*)(P1, \[%r\d+\], )(%r\d+);", _other_phase),
    Operator("dropped wait for an mbarrier", r"^.*mbarrier\.try_wait.*"),
    Operator("dropped arrival", r"^\s*mbarrier\.arrive\.release.*"),
    Operator("too few bytes expected", r"(arrive\.expect_tx\S+ _, \[%r\d+\], )%r\d+;", lambda m: f"{m[1]}64;"),
    Operator("dropped wgmma.wait_group", r"^\s*wgmma\.wait_group.*"),
    Operator("dropped wgmma.fence", r"^\s*wgmma\.fence.*"),
    Operator(
        "swapped coordinates", r"(cp\.async\.bulk\.tensor.*\{)(%r\d+), (%r\d+)\}",
        lambda m: f"{m[1]}{m[3]}, {m[2]}}}",
    ),
    Operator("wrong count of arrivals", r"(mbarrier\.init\.\S+ \[%r\d+\], )(%r\d+|1);", lambda m: f"{m[1]}3;"),
)  # fmt: skip


_NUMBER_OF_REGISTER = re.compile(r"(%[a-z]+)\d+")


@dataclass(frozen=True)
class Mutant:
    """One bug in one kernel: what replaces line `line` (from 1), whose text was `before`; `place` counts the mutants of
    its kind in the kernel."""

    case: str
    operator: str
    place: int
    line: int
    before: str
    after: str

    @property
    def name(self) -> str:
        """The same when lines move and registers are numbered anew, another one when the instruction changes."""
        text = " ".join(_NUMBER_OF_REGISTER.sub(r"\1", self.before).split())
        return f"{self.case}: {self.operator} {self.place}: {text}"


@dataclass(frozen=True)
class Verdict:
    """What noticed a mutant: kinds of findings, `comparison`, or nothing."""

    mutant: Mutant
    caught_by: tuple[str, ...]


class Case:
    """A kernel under test. Subclasses run a PTX text of it."""

    name = ""
    tolerance = 0.0
    """Of the largest output: how far an answer may be from the right one."""
    ptx = ""
    entry = ""
    operators = OPERATORS

    def run(self, ptx: str, instrument: Instrument) -> Arrays:
        """The outputs with this PTX. Raises DeviceError."""
        raise AssertionError("a subclass runs")

    @cached_property
    def right(self) -> Arrays:
        """The answer of the kernel as it is."""
        sanitizer = Sanitizer()
        outputs = self.run(self.ptx, sanitizer)
        assert not len(sanitizer.findings), [str(finding) for finding in sanitizer.findings.list()]
        return outputs

    def mutants(self) -> Iterator[Mutant]:
        """Up to `SITES` of each kind of bug."""
        lines = self.ptx.split("\n")
        first = next(number for number, line in enumerate(lines) if f".entry {self.entry}(" in line)
        last = next((n for n in range(first + 1, len(lines)) if ".entry" in lines[n]), len(lines))
        for operator in self.operators:
            sites = [site for site in operator.sites(lines) if first < site[0] < last]
            chosen = sorted({len(sites) * (2 * part + 1) // (2 * SITES) for part in range(SITES)})
            taken = [sites[place] for place in chosen if place < len(sites)]
            for place, (number, text) in enumerate(taken, 1):
                before, after = lines[number].strip(), text.strip()
                yield Mutant(self.name, operator.name, place, number + 1, before, after)

    def judge(self, mutant: Mutant, limit: float = 60) -> Verdict:
        """Run a mutant under the sanitizer, for at most `limit` seconds."""
        lines = self.ptx.split("\n")
        indent = lines[mutant.line - 1][: len(lines[mutant.line - 1]) - len(lines[mutant.line - 1].lstrip())]
        lines[mutant.line - 1] = indent + mutant.after
        sanitizer = Sanitizer(Order("reversed"))
        noticed: list[str] = []
        try:
            with _time_limit(limit):
                outputs = self.run("\n".join(lines), sanitizer)
            if not self.agrees(outputs):
                noticed.append("comparison")
        except DeviceError as error:
            if not len(sanitizer.findings):
                noticed.append(f"error: {str(error).splitlines()[0]}")
        except TimeoutError:
            noticed.append("time limit")
        kinds = [_kind(finding) for finding in sanitizer.findings.list()]
        return Verdict(mutant, tuple(dict.fromkeys([*kinds, *noticed])))

    def agrees(self, outputs: Arrays) -> bool:
        """Whether outputs are those of the right kernel, within the tolerance."""
        for name, right in self.right.items():
            want, got = right.astype("f8"), outputs[name].astype("f8")
            if not np.allclose(got, want, rtol=0, atol=self.tolerance * float(np.abs(want).max())):
                return False
        return True


def _kind(finding: Finding) -> str:
    if finding.kind != "fault":
        return {"unwritten": "uninitialised"}.get(finding.kind, finding.kind)
    for word, kind in (("out of bounds", "bounds"), ("misaligned", "bounds"), ("deadlock", "deadlock")):
        if word in finding.what:
            return kind
    return "fault"


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the body: a mutant may loop for ever."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class CompiledCase(Case):
    """The kernel of a small model (of several, the one called like the model), compiled by tilewright for sm_80."""

    entry: str

    def __init__(self, model: Callable[[], onnx.ModelProto], precision: str, *inputs: Arrays, only: str = "") -> None:
        self.name = f"{model.__name__} {precision}"
        # Halves round to 2^-11 of values of about the largest size; f32 to 2^-24, over sums of hundreds.
        self.tolerance = 2e-3 if precision == "f16" else 1e-5
        self._engine = tilewright.compile(model(), target="sm_80", precision=precision)
        self._inputs = inputs
        if only:
            self.operators = tuple(operator for operator in OPERATORS if operator.name == only)
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


class BoxesCase(Case):
    """Our own product for sm_90a whose results leave in boxes: one block with two tiles of three strips each,
    so that both slots are used again within a tile and from one to the next.
    """

    name, entry, tolerance = "boxes", "kernel", 2.0**-9
    _sizes = (128, 328, 64)
    _schedule = Schedule((128, 192, 64), (8, 1), "m64n192k16.f16", stages=2, producers=4, resident=1)
    _kinds = (
        "dropped barrier", "dropped wait_group", "dropped commit_group", "dropped proxy fence", "swapped coordinates",
        "wrong swizzle or mask",
    )  # fmt: skip

    def __init__(self) -> None:
        rows, columns, depth = self._sizes

        def make(left: ir.Value, right: ir.Value) -> ir.Value:
            return graph_builder.matmul(left, right, False, True, element="f16")

        candidates = [Candidate(self._schedule, 0.0)]
        with mock.patch("tilewright.passes.tile.warp_plan.wgmma_candidates", lambda *_: candidates):
            self._kernel = compile_kernel([([rows, depth], "f16"), ([columns, depth], "f16")], make, "sm_90a")
        self.ptx = self._kernel.ptx
        early = Operator("wait_group for one group less", r"cp\.async\.bulk\.wait_group\.read\s+(\d+)", _plus(1, 1))
        self.operators = (*(operator for operator in OPERATORS if operator.name in self._kinds), early)

    def run(self, ptx: str, instrument: Instrument) -> Arrays:
        rows, columns, depth = self._sizes
        generator = np.random.default_rng(3)
        arrays = [generator.standard_normal((lines, depth)).astype(np.float16) for lines in (rows, columns)]
        return {"y": replace(self._kernel, ptx=ptx).run(arrays, instrument)[0]}


class BesideCase(Case):
    """The same with a residual, which arrives in the shared tiles that results leave from: one block, four tiles."""

    name, entry, tolerance = "residual", "kernel", 2.0**-9
    _sizes = (136, 136, 64)
    _schedule = Schedule((128, 128, 64), (8, 1), "m64n128k16.f16", stages=2, producers=4, resident=1)
    operators = (
        Operator("dropped wait for the last stores", r"^\s*cp\.async\.bulk\.wait_group\.read\s+0.*"),
        Operator("dropped wait for an mbarrier", r"mbarrier\.try_wait\.parity.*", lambda m: "setp.eq.u32 P1, 0, 0;"),
        Operator("dropped fetch", r"@%p\d+ cp\.async\.bulk\.tensor\.2d\.shared.*"),
        Operator("too few bytes expected", r"(arrive\.expect_tx\S+ _, \[%r\d+\], )\d+;", lambda m: f"{m[1]}64;"),
    )

    def __init__(self) -> None:
        rows, columns, depth = self._sizes

        def make(left: ir.Value, right: ir.Value, residual: ir.Value) -> ir.Value:
            product = graph_builder.matmul(left, right, False, True, element="f16")
            return graph_builder.map([product, residual], lambda x, r: x + r)

        candidates, shapes = [Candidate(self._schedule, 0.0)], ([rows, depth], [columns, depth], [rows, columns])
        with mock.patch("tilewright.passes.tile.warp_plan.wgmma_candidates", lambda *_: candidates):
            self._kernel = compile_kernel([(shape, "f16") for shape in shapes], make, "sm_90a")
        self.ptx = self._kernel.ptx

    def run(self, ptx: str, instrument: Instrument) -> Arrays:
        rows, columns, depth = self._sizes
        generator = np.random.default_rng(3)
        shapes = ((rows, depth), (columns, depth), (rows, columns))
        arrays = [generator.standard_normal(shape).astype(np.float16) for shape in shapes]
        return {"y": replace(self._kernel, ptx=ptx).run(arrays, instrument)[0]}


class SharedTilesCase(Case):
    """Our own product for sm_90a whose tiles fill no wave: blocks share their k through global memory and flags."""

    name, entry, tolerance = "shared tiles", "kernel", 2.0**-9
    _schedule = Schedule((64, 64, 64), (4, 1), "m64n64k16.f16", stages=3, producers=4, resident=5, run=4)
    operators = (
        Operator("flag without release", r"st\.release\.gpu", lambda m: "st.relaxed.gpu"),
        Operator("flag without acquire", r"ld\.acquire\.gpu", lambda m: "ld.relaxed.gpu"),
        Operator("flag that is never set", r"@first st\.release.*"),
        Operator("flag that is never cleared", r"@first st\.relaxed.*"),
        Operator("flag of another warp", r"@first st\.release\.\S+ \[%rd\d+\]", lambda m: m[0][:-1] + "+4]"),
        Operator("dropped barrier of a warp", r"^\s*bar\.warp\.sync.*"),
        Operator("dropped sums", r"^\s*st\.global\.v4.*"),
    )  # fmt: skip

    def __init__(self) -> None:
        def make(left: ir.Value, right: ir.Value) -> ir.Value:
            return graph_builder.matmul(left, right, False, True, element="f16")

        candidates = [Candidate(self._schedule, 0.0)]
        with mock.patch("tilewright.passes.tile.warp_plan.wgmma_candidates", lambda *_: candidates):
            self._kernel = compile_kernel([([136, 320], "f16"), ([136, 320], "f16")], make, "sm_90a")
        self.ptx = self._kernel.ptx

    def run(self, ptx: str, instrument: Instrument) -> Arrays:
        generator = np.random.default_rng(3)
        arrays = [generator.standard_normal((136, 320)).astype(np.float16) for _ in range(2)]
        return {"y": replace(self._kernel, ptx=ptx).run(arrays, instrument)[0]}


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
    "attention f16: off-by-one bound 2: setp.lt.u32 %p, %r, 100;": _NEVER_EQUAL,
    "attention f16: wrong swizzle or mask 1: and.b32 %r, %r, 31;":
        "the lane is only compared with 16: its lowest bit does not matter",
    "pointwise strict: off-by-one bound 2: setp.lt.u32 %p, %r, 47;": _NEVER_EQUAL,
    "shared tiles: dropped barrier of a warp 1: bar.warp.sync -1;": _TOGETHER,
    "wsgemm: dropped proxy fence 1: fence.proxy.async.shared::cta;": _INITIALISED,
    "boxes: dropped wait_group 1: cp.async.bulk.wait_group.read 1;": _WAITED,
    "boxes: wait_group for one group less 1: cp.async.bulk.wait_group.read 1;": _WAITED,
    "boxes: wrong swizzle or mask 2: and.b32 %r, %r, 127;":
        "threads 0 and 1 both start the store: the same bytes are written twice",
    "boxes: dropped proxy fence 1: fence.proxy.async.shared::cta;": _INITIALISED,
}  # fmt: skip
"""Why a mutant that survives does no harm, by its name; looked into one by one."""

CASES: dict[str, Callable[[], Case]] = {
    "matmul f16": lambda: CompiledCase(mutant_models.matmul, "f16", *_rows(70, 75)),
    "matmul strict": lambda: CompiledCase(mutant_models.matmul, "strict", *_rows(70, 75)),
    "convolution f16": lambda: CompiledCase(
        mutant_models.convolution, "f16", {"x": _noise((2, 16, 11, 13))[0]}
    ),
    "convolution strict": lambda: CompiledCase(
        mutant_models.convolution, "strict", {"x": _noise((2, 16, 11, 13))[0]}, only="dropped zero-fill"
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
}
