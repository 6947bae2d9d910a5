"""Runs of neighbouring windows: pools and depthwise convolutions in channels-last.

In: a loop kernel around one small window whose result has channels last and a known width. Out: a program in which a
thread has a run of neighbouring pixels, 16 bytes of their channels each: what their windows share is loaded once and
stays in registers, and the weights are loaded once for all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlir import ir

from ...dialects.tensors import Shape, element_of, shape_of
from ...runtime.symbolic import ONE, product
from ...runtime.tuning import describe
from ..graph.rewriting import integers, string
from ..unit import KernelProgram
from .builder import TileBuilder, bytes_of
from .elements import ElementEmitter, Indices
from .flat import flat_program, store_results
from .programs import Request
from .schedule import size_guess
from .tile_types import ACCESS_BYTES
from .windows import UNROLL

THREADS = 128
RUNS = (8, 7, 6, 5, 4, 3, 2, 1)  # pixels
MOST_VECTOR = 8  # channels
MOST_REGISTERS = 115  # four blocks of 128 threads on a multiprocessor
# Bytes a cycle of a multiprocessor: estimates for an H100.
_CACHE_RATE = 100.0
_MEMORY_RATE = 14.0


@dataclass(frozen=True)
class WindowProblem:
    """`results` elements in lines of `width` pixels of `channels`, of `taps` each; the widest has `element_bytes`."""

    results: int
    width: int
    channels: int
    taps: tuple[int, ...]
    strides: tuple[int, ...]
    element_bytes: int


@dataclass(frozen=True)
class WindowSchedule:
    """A thread has `vector` channels of `run` pixels."""

    vector: int
    run: int


def window_program(request: Request) -> KernelProgram | None:
    """The program of a kernel whose anchor is a window that suits; else None.

    before: a function of one pool or depthwise convolution with maps around it
    after:  tile.map over the runs and channels, each body with the loads and stores of a run
    """
    window = _anchor(request)
    if window is None:
        return None
    shape = shape_of(window.results[0])
    problem = _problem(request, window, shape)
    if problem is None:
        return None
    schedule = request.choose("window", describe(problem), window_schedules(problem, request.target.multiprocessors))
    runs = (*shape[:-2], shape[-2].exact_divide(schedule.run) or ONE, shape[-1])

    def body(builder: TileBuilder, inside: ElementEmitter, indices: Indices) -> None:
        *outer, group, channel = indices
        for number in range(schedule.run):  # one emitter for all pixels: what it has loaded it does not load again
            store_results(request, builder, inside, (*outer, group * schedule.run + number, channel))

    noted = {"vector": schedule.vector, "run": schedule.run}
    return flat_program(request, runs, (THREADS, THREADS * schedule.vector, schedule.vector), noted, body)


def window_schedules(problem: WindowProblem, multiprocessors: int) -> list[WindowSchedule]:
    """Every schedule that spares registers, the predicted one first; of equals the one with the widest accesses, then
    the one with the longest run.
    """
    widest = min(MOST_VECTOR, ACCESS_BYTES // problem.element_bytes)
    vectors = [vector for vector in dict.fromkeys((widest, 4)) if problem.channels % vector == 0] or [1]
    runs = [run for run in RUNS if problem.width % run == 0]
    found = [WindowSchedule(vector, run) for vector in vectors for run in runs]
    fitting = [own for own in found if _registers(problem, own) <= MOST_REGISTERS] or found[-1:]
    return sorted(fitting, key=lambda own: (_predicted(problem, own, multiprocessors), -own.vector, -own.run))


def _reach(problem: WindowProblem, schedule: WindowSchedule) -> int:
    """Pixels of a line that the windows of a run lie on."""
    return (schedule.run - 1) * problem.strides[-1] + problem.taps[-1]


def _registers(problem: WindowProblem, schedule: WindowSchedule) -> int:
    """An estimate, of sums and one line of what they read."""
    return schedule.vector * (schedule.run + _reach(problem, schedule)) + 10


def _predicted(problem: WindowProblem, schedule: WindowSchedule, multiprocessors: int) -> float:
    """Cycles of a multiprocessor for a result, over the part of the card that has blocks, rounded: the memory's, or the
    first-level cache's where that has more to do.
    """
    lines = math.prod(problem.taps[:-1])
    cached = lines * (_reach(problem, schedule) + problem.taps[-1]) / schedule.run + 1  # inputs and weights; the result
    moved = math.prod(problem.strides) + 1
    blocks = problem.results / (schedule.vector * schedule.run * THREADS)
    cycles = problem.element_bytes * max(cached / _CACHE_RATE, moved / _MEMORY_RATE)
    return round(cycles / min(1.0, blocks / (2 * multiprocessors)), 2)


# What suits -----------------------------------------------------------------------------------------------------
def _anchor(request: Request) -> ir.Operation | None:
    """The one window of the kernel, where it is small, has its channels last and all results have its shape."""
    windows = [own for own in request.operations if own.name in ("graph.pool", "graph.convolution")]
    if len(windows) != 1 or string(windows[0], "layout") != "channels_last":
        return None
    window, shape = windows[0], shape_of(windows[0].results[0])
    small = math.prod(_kernel(window)) <= UNROLL
    return window if small and all(shape_of(value) == shape for value in request.returned) else None


def _kernel(window: ir.Operation) -> tuple[int, ...]:
    """Taps along each spatial dimension; too many where they, or the channels of a group, are not known to be few."""
    if window.name == "graph.pool":
        return integers(window, "kernel")
    *taps, inner, _ = (size.as_constant() for size in shape_of(window.operands[1]))
    known = [size for size in taps if size is not None]
    return tuple(known) if inner == 1 and len(known) == len(taps) else (UNROLL + 1,)


def _problem(request: Request, window: ir.Operation, shape: Shape) -> WindowProblem | None:
    width, channels = shape[-2].as_constant(), shape[-1].as_constant()
    if not width or not channels:
        return None
    widest = max(bytes_of(element_of(value)) for value in request.returned)
    size, strides = size_guess(product(list(shape))), integers(window, "strides")
    return WindowProblem(size, width, channels, _kernel(window), strides, widest)
