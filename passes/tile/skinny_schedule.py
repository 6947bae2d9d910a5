"""Schedules of contractions with few rows: how threads share the weights, which are read once.

In: sizes, the bytes of a weight, which of its dimensions is contiguous. Out: candidates with the cycles that a model
predicts, the best first. The model knows bytes in flight, busy multiprocessors and how much of a line one access takes;
its constants are datasheet numbers and estimates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ..target import Target

WARP = 32
MOST_SUMS = 64  # a thread, in registers
MOST_WAITING = 8  # accesses of a thread that are under way together: 32 registers

# Bytes a cycle and cycles, for one multiprocessor.
_MEMORY = 15.0  # its share of the memory's bandwidth
_ALONE = 24.0  # what one gets when the others ask for nothing
_LATENCY = 1200.0  # of memory that is busy
_REDUCTION = 40.0  # a sum in each of its rounds, a barrier included
_INSTRUCTIONS = 128.0  # of threads
_WIDENING, _PRODUCT, _FACTOR = 2.4, 1.1, 0.6  # instructions: a packed weight, its product with a row, the row's element
_FACTORS = 16  # registers for elements of a row that packed weights are multiplied with
_LINE_SHARE = {16: 0.4, 32: 0.6, 64: 0.9}  # of the bandwidth, where a warp's access takes so many bytes of a line


@dataclass(frozen=True)
class WeightsProblem:
    """Few `rows`, and `batch` times weights of `columns` x `depth` elements of `element_bytes`; a thread reads `vector`
    neighbours in one access, along k where `depth_contiguous`.
    """

    batch: int
    rows: int
    columns: int
    depth: int
    element_bytes: int
    vector: int
    depth_contiguous: bool


@dataclass(frozen=True)
class PackedProblem(WeightsProblem):
    """Elements that are words of `packed` weights each, which are widened before they are multiplied."""

    packed: int


@dataclass(frozen=True)
class SkinnySchedule:
    """A grid of `threads` (down, across) over a tile of weights whose lines run across; each thread has `lines` of the
    columns (1 unless k is contiguous) and starts `unroll` accesses before it needs the first.
    """

    threads: tuple[int, int]
    vector: int
    lines: int
    unroll: int
    depth_contiguous: bool
    cycles: float = 0.0  # that the whole launch is predicted to take

    @property
    def count(self) -> int:
        """Threads of a block."""
        return self.threads[0] * self.threads[1]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the tile of weights that all threads read with one access for each line."""
        return self.threads[0] * self.lines, self.threads[1] * self.vector

    @property
    def columns(self) -> int:
        """Columns of the result that one block computes."""
        return self.shape[0] if self.depth_contiguous else self.shape[1]

    @property
    def depth(self) -> int:
        """k of one tile."""
        return self.shape[1] if self.depth_contiguous else self.shape[0]


@dataclass(frozen=True)
class SkinnyCandidate:
    """A schedule and the cycles that the whole launch is predicted to take with it."""

    schedule: SkinnySchedule
    cycles: float


def skinny_candidates(problem: WeightsProblem, target: Target) -> list[SkinnyCandidate]:
    """Every schedule that fits, least predicted time first."""
    found = [SkinnyCandidate(schedule, _cycles(problem, schedule, target)) for schedule in _schedules(problem)]
    return sorted(found, key=lambda candidate: candidate.cycles)


def _schedules(problem: WeightsProblem) -> Iterator[SkinnySchedule]:
    for threads in (256, 128, 512):
        for across in (32, 16, 8, 4, 2):
            for lines in (1, 2, 4) if problem.depth_contiguous else (1,):
                if problem.rows * problem.vector * lines > MOST_SUMS:
                    continue
                for unroll in (1, 2, 4, 8):
                    schedule = SkinnySchedule(
                        (threads // across, across), problem.vector, lines, unroll, problem.depth_contiguous
                    )
                    whole = problem.depth % (schedule.depth * unroll) == 0 or isinstance(problem, PackedProblem)
                    if unroll * lines <= MOST_WAITING and (whole or unroll == 1):
                        yield schedule


def _cycles(problem: WeightsProblem, schedule: SkinnySchedule, target: Target) -> float:
    """The busiest multiprocessor's or the memory's time, and that of adding up."""
    access = problem.vector * problem.element_bytes
    blocks = problem.batch * -(-problem.columns // schedule.columns)
    steps = -(-problem.depth // (schedule.depth * schedule.unroll))
    block_bytes = schedule.count * schedule.lines * schedule.unroll * access * steps
    registers = problem.rows * problem.vector * schedule.lines + schedule.unroll * schedule.lines * access // 4 + 32
    if isinstance(problem, PackedProblem):
        registers += _FACTORS * problem.rows + problem.packed
    at_once = max(1, min(2048 // schedule.count, 65536 // (registers * schedule.count)))
    most = -(-blocks // target.multiprocessors)  # of one multiprocessor
    waiting = min(most, at_once) * schedule.count * schedule.lines * schedule.unroll * access
    rate = min(_ALONE, waiting / _LATENCY) * _LINE_SHARE.get(schedule.threads[1] * access, 1.0)
    reading = max(most * block_bytes / rate, blocks * block_bytes / (_MEMORY * target.multiprocessors))
    if isinstance(problem, PackedProblem):
        weights = block_bytes // problem.element_bytes * problem.packed
        work = _WIDENING + problem.rows * (_PRODUCT + _FACTOR / schedule.lines)
        reading = max(reading, most * weights * work / _INSTRUCTIONS)
    together = schedule.threads[1] if schedule.depth_contiguous else schedule.threads[0]
    sums = problem.rows * schedule.lines * (1 if schedule.depth_contiguous else problem.vector)
    return _LATENCY + reading + -(-most // at_once) * sums * _REDUCTION * math.log2(2 * together) / 5
