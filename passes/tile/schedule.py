"""Schedules of contractions: which block tile, how many warps, which instruction, how many stages.

In: the sizes of a problem (symbolic ones guessed), its dtypes and the target. Out: a `Schedule`, the
candidate of one table for which a small cost model predicts the least time. The model knows how full the last
wave is and how busy a block keeps its multiprocessor; nothing here was measured on a GPU yet, the
`efficiency` column is an estimate from the ratio of loads to multiply-adds.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from mlir import ir

from ...runtime.symbolic import Expression
from ..target import Target

GUESS = 64  # what a symbolic size is taken to be, unless a hint says more
SCHEDULERS = 4  # of a multiprocessor
HIDING = 4.0  # warps of a scheduler beyond which more of them hide no more latency
SPLIT_MARGIN = 1.15  # k is split only for a clear gain
EXCHANGE_BYTES = 64 * 1024  # of shared memory for partial sums: fits every target
COMBINE = 200  # issue slots of exchanging partial sums: two barriers and the latency of shared memory
LATENCY = 16  # issue slots that a k costs a lone warp beyond its multiply-adds: shared loads, loop
_TYPICAL: ContextVar[Mapping[str, int]] = ContextVar("typical sizes of symbols", default={})  # noqa: B039, never changed


@dataclass(frozen=True)
class Schedule:
    """How one contraction is cut up. `block` is (rows, columns, k) of the tile of one block."""

    block: tuple[int, int, int]
    warps: tuple[int, int]
    instruction: str  # "fma" or a name of passes/lower/dot_mma.py
    lanes: tuple[int, int] = (4, 8)  # of a warp, for fma
    warp_depth: int = 1  # groups of warps that split k among them
    producers: int = 0  # warps that only fetch: the program is warp-specialised, and persistent
    resident: int = 0  # blocks of a persistent program that run at once
    cluster: int = 1  # blocks that share the right operand
    turns: int = 1  # groups of consumers that multiply in turn, each a tile of its own
    split: int = 1  # blocks of a cluster that share k, each adding up a part of the tile in the end
    run: int = 0  # steps of k of each block's part of the tiles that fill no whole wave; 0: no block shares a tile so
    stages: int = 1
    efficiency: float = 1.0
    cycles: float = 0.0  # that the whole launch is predicted to take; 0 where the model says no cycles

    @property
    def threads(self) -> int:
        return (self.warps[0] * self.warps[1] * self.warp_depth * self.turns + self.producers) * 32

    @property
    def together(self) -> int:
        """Blocks of a cluster."""
        return self.cluster * self.split

    @property
    def consumers(self) -> int:
        """Threads that multiply one tile, of a warp-specialised program."""
        return self.warps[0] * 32

    @property
    def each(self) -> tuple[int, int]:
        """Rows and columns of one thread, for fma."""
        return (
            self.block[0] // (self.warps[0] * self.lanes[0]),
            self.block[1] // (self.warps[1] * self.lanes[1]),
        )

    def attribute(self) -> ir.Attribute:
        """As it stands in the tile program: ``{block = [64, 64, 16], instruction = "fma", stages = 3, warps =
        [2, 1]}``.
        """
        i64 = ir.IntegerType.get_signless(64)
        shared = {"cluster": self.cluster, "split": self.split, "turns": self.turns, "run": self.run}
        return ir.DictAttr.get(
            {
                "block": ir.DenseI64ArrayAttr.get(list(self.block)),
                "warps": ir.DenseI64ArrayAttr.get([*self.warps, self.warp_depth]),
                "instruction": ir.StringAttr.get(self.instruction),
                "stages": ir.IntegerAttr.get(i64, self.stages),
                **{name: ir.IntegerAttr.get(i64, blocks) for name, blocks in shared.items() if blocks > 1},
            }
        )


# (rows, columns), warps, lanes, efficiency relative to the largest tile
_FMA = (
    ((128, 128), (4, 2), (4, 8), 1.0),
    ((128, 64), (4, 1), (4, 8), 0.95),
    ((64, 128), (2, 2), (4, 8), 0.95),
    ((64, 64), (2, 1), (4, 8), 0.88),
    ((64, 64), (2, 2), (4, 8), 0.8),
    ((32, 128), (1, 2), (4, 8), 0.85),
    ((32, 64), (1, 1), (4, 8), 0.8),
    ((64, 32), (2, 1), (4, 8), 0.7),
    ((32, 32), (1, 1), (4, 8), 0.6),
    ((16, 64), (1, 1), (4, 8), 0.6),
    ((16, 32), (1, 1), (4, 8), 0.4),
    ((8, 128), (1, 1), (1, 32), 0.5),
    ((4, 128), (1, 1), (1, 32), 0.35),
    ((128, 16), (4, 1), (8, 4), 0.4),
    ((128, 8), (2, 1), (16, 2), 0.35),
)
_MMA = (
    ((128, 128), (2, 2), 1.0),
    ((128, 64), (2, 2), 0.85),
    ((64, 128), (2, 2), 0.85),
    ((64, 64), (2, 2), 0.65),
    ((32, 128), (1, 4), 0.6),
    ((64, 32), (2, 1), 0.5),
    ((32, 64), (1, 2), 0.5),
    ((32, 32), (1, 1), 0.4),
    ((16, 64), (1, 2), 0.4),
    ((16, 32), (1, 1), 0.3),
    ((64, 16), (2, 1), 0.3),
)
_BYTES = [
    f"m16n8k32.{left}.{right}" for kinds in (("s8", "u8"), ("e4m3", "e5m2")) for left in kinds for right in kinds
]
_DEPTH = {"fma": 16, "m16n8k16.f16": 32, "m16n8k16.bf16": 32, "m16n8k8.tf32": 16, **dict.fromkeys(_BYTES, 64)}
_LEAST_DEPTH = {"fma": 4, "m16n8k16.f16": 16, "m16n8k16.bf16": 16, "m16n8k8.tf32": 8, **dict.fromkeys(_BYTES, 32)}
_STAGES = {instruction: 3 if instruction == "fma" else 4 for instruction in _DEPTH}


@dataclass(frozen=True)
class Problem:
    """Sizes of a contraction and the bytes of its operands' elements in shared memory."""

    batch: Expression
    rows: Expression
    columns: Expression
    depth: Expression
    element_bytes: int


def size_guess(size: Expression) -> int:
    """The size, symbols taken as their hint or else as `GUESS`; at least 1."""
    hints = _TYPICAL.get()
    return max(1, value_guess(size, {name: hints.get(name, GUESS) for name in size.symbols}))


@contextmanager
def typical_sizes(hints: Mapping[str, int]) -> Iterator[None]:
    """Within it, `size_guess` takes symbols to have these sizes.

    A variable of the context rather than a parameter: guesses are asked for by every program and far below it, and
    may only steer a choice.
    """
    token = _TYPICAL.set(hints)
    try:
        yield
    finally:
        _TYPICAL.reset(token)


@contextmanager
def without_hints(symbols: Collection[str]) -> Iterator[None]:
    """Within it, nothing is typical of the sizes of these symbols."""
    with typical_sizes({name: size for name, size in _TYPICAL.get().items() if name not in symbols}):
        yield


def has_hints(symbols: Collection[str]) -> bool:
    """Whether a size is typical of any of these symbols."""
    return any(name in symbols for name in _TYPICAL.get())


def value_guess(value: Expression, values: Mapping[str, int]) -> int:
    """The value for guessed symbols; 0 where a guess makes a divisor zero (an empty dimension), because it
    only steers a choice.
    """
    try:
        return value.evaluate(values)
    except ZeroDivisionError:
        return 0


def tiled_candidates(problem: Problem, instruction: str, target: Target) -> list[Schedule]:
    """Every schedule, least predicted time first; ties go to the earlier, larger one."""
    found = sorted(_candidates(problem, instruction), key=lambda candidate: _time(problem, candidate, target))
    return [_with_stages(candidate, problem, target) for candidate in found]


def _candidates(problem: Problem, instruction: str) -> list[Schedule]:
    depth = _block_depth(problem, instruction)
    if instruction == "fma":
        table = [row for row in _FMA if problem.element_bytes == 4 or row[0][0] * row[0][1] <= 64 * 64]
        plain = [
            Schedule((*block, depth), warps, instruction, lanes, efficiency=efficiency)
            for block, warps, lanes, efficiency in table
        ]
    else:
        plain = [
            Schedule((*block, depth), warps, instruction, efficiency=rate) for block, warps, rate in _MMA
        ]
    return plain + [
        _split(candidate, ways)
        for ways in (2, 4)
        for candidate in plain
        if _may_split(candidate, ways, problem)
    ]


def _may_split(schedule: Schedule, ways: int, problem: Problem) -> bool:
    """Whether `ways` groups of warps can share k: a block stays small, and each group has a loop left."""
    steps = size_guess(problem.depth) // (schedule.block[2] * ways)
    exchanged = schedule.block[0] * schedule.block[1] * ways * max(4, problem.element_bytes)
    small = schedule.threads * ways <= 256 and exchanged <= EXCHANGE_BYTES
    return small and schedule.block[2] % 8 == 0 and steps >= 2


def _split(schedule: Schedule, ways: int) -> Schedule:
    rows, columns, depth = schedule.block
    return replace(schedule, block=(rows, columns, depth * ways), warp_depth=ways)


def _block_depth(problem: Problem, instruction: str) -> int:
    """k of a block tile: a 16-byte access at least, no longer than a short problem needs."""
    depth = _DEPTH[instruction] if problem.element_bytes <= 4 else 8
    least = _LEAST_DEPTH[instruction]
    known = problem.depth.as_constant()
    while known is not None and depth > least and depth // 2 >= known:
        depth //= 2
    return depth


def _time(problem: Problem, schedule: Schedule, target: Target) -> float:
    """Predicted time of the whole launch, in issue slots of a scheduler for each k.

    The busiest multiprocessor's warps share four schedulers; a thread's multiply-adds are what a warp issues.
    Work beyond the useful multiply-adds counts a second time, by its root: it costs energy on a GPU and time
    on the emulator even where the GPU has nothing better to do.
    """
    rows, columns, _ = schedule.block
    batch, height, width = map(size_guess, (problem.batch, problem.rows, problem.columns))
    blocks = batch * -(-height // rows) * -(-width // columns)
    at_once = -(-blocks // target.multiprocessors)  # blocks that the busiest multiprocessor gets
    sums = rows * columns * schedule.warp_depth / schedule.threads  # of one thread
    warps = at_once * schedule.threads / (32 * SCHEDULERS)  # of one scheduler
    issued = math.ceil(warps) * sums / schedule.efficiency
    waiting = LATENCY / min(max(warps, 1.0), HIDING)
    waste = blocks * rows * columns / schedule.efficiency / (batch * height * width)
    time = (issued + waiting) * math.sqrt(waste)
    if schedule.warp_depth == 1:
        return time
    combining = (COMBINE + 2 * sums) / size_guess(problem.depth)
    return SPLIT_MARGIN * (time / schedule.warp_depth + combining)


def _with_stages(schedule: Schedule, problem: Problem, target: Target) -> Schedule:
    """As many stages as the loop has use for and shared memory allows, two blocks on a multiprocessor."""
    rows, columns, depth = schedule.block
    stage_bytes = (rows + columns) * (depth + 8) * problem.element_bytes
    fitting = min(target.shared_per_block, target.shared_per_multiprocessor // 2) // stage_bytes
    if fitting < 2:
        fitting = min(2, target.shared_per_block // stage_bytes)
    steps = -(-size_guess(problem.depth) // depth)
    if problem.depth.as_constant() is None:
        steps = _STAGES[schedule.instruction]
    stages = max(1, min(_STAGES[schedule.instruction], fitting, steps))
    return replace(schedule, stages=stages)
