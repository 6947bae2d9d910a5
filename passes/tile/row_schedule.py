"""Schedules of row kernels: how threads of a block, and blocks of a cluster, share lines that are reduced.

In: sizes, how far elements are contiguous, bytes of the widest one. Out: schedules, the predicted one first; the others
differ in how many threads and blocks share a line, and are there for a tuning to choose from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ...runtime.symbolic import Expression
from ..lower.layouts import reduced_text
from ..target import Target
from .schedule import size_guess
from .tile_types import ACCESS_BYTES

REGISTERS = 32  # elements of a line that a thread may keep
THREADS = 256
MOST_VECTOR = 8  # elements: of bytes, sixteen would be too many registers
WARP = 32
SPLITS = (2, 4, 8)  # blocks of a cluster
LONG_THREADS, LONG_VECTORS = 512, 4  # of a block with a part too long for registers: 32 KB are under way
# Bytes a microsecond that a block alone and a multiprocessor among all draw, and microseconds that clusters cost by
# meeting: estimates.
_BLOCK_RATE = 15e3
_SHARE_RATE = 20e3
_MEETING = 2.0


@dataclass(frozen=True)
class RowProblem:
    """`lines` to reduce over `length` places each; `inner` elements lie next to each other along the dimension that
    threads run over: that of the lines (`kept_inner`) or that of the places. The widest element has `element_bytes`.
    """

    lines: Expression
    length: Expression
    inner: Expression
    kept_inner: bool
    element_bytes: int


@dataclass(frozen=True)
class Schedule:
    """Tile of `lines` kept positions x `chunk` reduced ones; `across` = 1: reduced positions lie along the columns,
    0: along the rows.
    """

    across: int
    lines: int
    chunk: int
    thread_lines: int
    thread_chunk: int
    vector: int
    whole: bool  # the chunk holds the whole line, or the block's part of it: values stay in registers
    split: int = 1  # blocks of a cluster that share lines, each with a part of the places

    @property
    def shape(self) -> tuple[int, int]:
        return (self.lines, self.chunk) if self.across == 1 else (self.chunk, self.lines)

    @property
    def layout(self) -> str:
        rows, columns = (
            (self.thread_lines, self.thread_chunk) if self.across else (self.thread_chunk, self.thread_lines)
        )
        return f"blocked<{rows}x{columns}, vector={self.vector}>"

    @property
    def reduced_layout(self) -> str:
        return reduced_text(self.across, self.layout, *self.shape)

    @property
    def reduced_shape(self) -> tuple[int, int]:
        return (self.lines, 1) if self.across == 1 else (1, self.lines)

    @property
    def threads(self) -> int:
        return self.thread_lines * self.thread_chunk

    def part(self, length: Expression) -> Expression:
        """Places of a line of `length` that a block has, the last one maybe fewer."""
        return length.ceil_divide(self.split * self.chunk) * self.chunk if self.split > 1 else length


def _power_of_two(value: int) -> int:
    """The smallest power of two >= value."""
    return 1 << max(0, value - 1).bit_length()


def row_schedules(problem: RowProblem, target: Target) -> list[Schedule]:
    """Every schedule, the predicted one first: threads run along the dimension that is contiguous in memory, as many as
    its length asks for; where lines are few and long, blocks of a cluster share them.
    """
    vector = min(MOST_VECTOR, ACCESS_BYTES // problem.element_bytes)
    while vector > 1 and not problem.inner.divisible_by(vector):
        vector //= 2
    found = list(dict.fromkeys(_across_lines(problem, vector) if problem.kept_inner else _along_lines(problem, vector)))
    if target.cluster:
        shared = [_shared(own, problem, split) for own in found[:1] for split in SPLITS]
        found = sorted([found[0], *shared], key=lambda own: _predicted(own, problem, target)) + found[1:]
    return found


def _shared(schedule: Schedule, problem: RowProblem, split: int) -> Schedule:
    """The same for lines that `split` blocks share: a part that fits is kept in registers. Blocks that read theirs
    again are few, so each has much under way.
    """
    constant = problem.length.as_constant()
    step = schedule.thread_chunk * (schedule.vector if schedule.across else 1)
    kept = REGISTERS if schedule.across else max(1, REGISTERS // schedule.vector)
    part = -(-constant // split) if constant is not None else None
    if part is None or part > schedule.thread_chunk * kept:
        if not schedule.across:
            return replace(schedule, split=split, whole=False)
        chunk = LONG_THREADS * schedule.vector * LONG_VECTORS
        return Schedule(1, 1, chunk, 1, LONG_THREADS, schedule.vector, whole=False, split=split)
    return replace(schedule, split=split, whole=True, chunk=-(-part // step) * step)


def _predicted(schedule: Schedule, problem: RowProblem, target: Target) -> float:
    """Microseconds: a line that does not stay in registers is read three times."""
    lines, length = size_guess(problem.lines), size_guess(problem.length)
    blocks = -(-lines // schedule.lines) * schedule.split
    moved = lines * length * problem.element_bytes * (2 if schedule.whole else 4)
    rate = min(blocks * _BLOCK_RATE, target.multiprocessors * _SHARE_RATE)
    return moved / rate + (_MEETING if schedule.split > 1 else 0.0)


def _across_lines(problem: RowProblem, vector: int) -> Iterator[Schedule]:
    """Neighbouring lines in neighbouring threads; further threads have other places."""
    constant = problem.length.as_constant()
    size = problem.inner.as_constant() or WARP
    most = min(WARP, _power_of_two(-(-size // vector)))
    for columns in (most, *(own for own in (32, 16, 8, 4) if own < most)):
        for threads in (THREADS, 512, 128):
            rows = max(1, min(threads // columns, _power_of_two(constant or 64)))
            if rows * columns < WARP:
                rows = WARP // columns
            chunk = rows * 4 if constant is None or constant > rows * 2 else rows
            whole = constant is not None and constant <= rows * max(1, REGISTERS // vector)
            if whole:
                chunk = -(-(constant or 1) // rows) * rows
            yield Schedule(0, columns * vector, chunk, columns, rows, vector, whole)


def _along_lines(problem: RowProblem, vector: int) -> Iterator[Schedule]:
    """Neighbouring places in neighbouring threads; further threads have other lines."""
    constant = problem.length.as_constant()
    wanted = -(-(constant if constant is not None else 1024) // vector)
    most = max(1, _power_of_two(wanted))
    predicted = min(THREADS, most)
    if constant is not None and predicted > WARP and wanted <= WARP * REGISTERS // vector // 2:
        predicted = WARP
    for columns in (predicted, *(own for own in (32, 64, 128, 256, 512) if own <= most)):
        rows = max(1, 128 // columns)
        whole = constant is not None and constant <= columns * REGISTERS
        step = columns * vector
        chunk = -(-(constant or 1) // step) * step if whole else step * max(1, min(4, REGISTERS // 4 // vector))
        yield Schedule(1, rows, chunk, rows, columns, vector, whole)
