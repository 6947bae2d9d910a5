"""Schedules of warp-specialised programs: tiles, clusters and ways to split k, each with a prediction in cycles.

In: the sizes of a problem, the dtype of its operands, the target. Out: candidates, the one with the fewest predicted
cycles first. The model adds up what a multiprocessor does one after the other; its constants are datasheet numbers and
estimates, nothing was measured on a GPU yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..target import Target
from .schedule import Problem, Schedule, size_guess

LINE_BYTES = 128  # of k, in a tile that wgmma reads: four instructions
MOST_STAGES, LEAST_STAGES = 7, 2
PADDING = 8  # f32 between the rows of sums in shared memory, against bank conflicts
EXCHANGE_LINE = 32 + PADDING  # f32 of a row of the tile through which sums reach the epilogue
RESULT_ROW = 256  # bytes of shared memory for a row on its way out: a line of two boxes, or of the exchange tile
BARRIERS_ROOM = 1024  # bytes of shared memory kept for barriers
CONSUMER_GROUP = 4  # warps that run wgmma together

TILES = (  # (rows, columns), warps that multiply
    ((128, 256), 8),
    ((256, 128), 8),
    ((128, 192), 8),
    ((128, 128), 8),
    ((64, 256), 4),
    ((128, 64), 8),
    ((64, 128), 4),
    ((64, 64), 4),
    ((128, 32), 8),  # few columns, or few rows that are columns here: bound by the reading of the left operand
    ((64, 32), 4),
    ((128, 16), 8),
    ((64, 16), 4),
    ((64, 8), 4),
)
IN_TURN = (
    (128, 128),
    (64, 256),
    (128, 64),
    (64, 128),
    (64, 64),
)  # tiles of which two groups of consumers have one each, and multiply in turn
CLUSTERS = (1, 2)  # blocks that share the right operand
LEAST_RUN = 4  # steps of a block's part of tiles that all blocks share
SPLITS = (2, 4, 8)  # blocks that share k; eight are the most that every card schedules together

# What the model knows of a multiprocessor, in bytes a cycle and in cycles.
_SHARED = 128.0
_SECOND_LEVEL = 56.0  # of the second-level cache, for each of all multiprocessors at once
_CONTENTION = 0.1  # of the time of reading boxes, which is felt even where products hide it
_REMOTE = 32.0  # of another block's shared memory
_MEMORY = 15.0  # of the results, which reach memory in the end
_LATENCY = 1000.0  # from the request of a box to its arrival
_STEP = 40.0  # barriers of a step that no product hides
_CLUSTER_BARRIER = 300.0
_RESULT_BYTES = 2.0
_RUN_MARGIN = 1.05  # tiles are shared by all blocks only for a clear gain
_HANDOVER = 1600.0  # of sums to another block: a flag behind their stores, loads behind the flag


@dataclass(frozen=True)
class Candidate:
    """A schedule and the cycles that the whole launch is predicted to take with it."""

    schedule: Schedule
    cycles: float


@dataclass(frozen=True)
class Stored:
    """How results leave: in boxes of `strip` columns (0: by threads), from tiles of `widest` columns at most. With
    `beside` the epilogue reads as much as it stores, which arrives in boxes as well.
    """

    strip: int = 0
    widest: int = 0
    beside: bool = False

    def suits(self, schedule: Schedule) -> bool:
        """Whether results of that schedule leave in boxes."""
        columns = schedule.block[1]
        if not self.strip or schedule.split > 1 or columns > self.widest or (self.beside and schedule.run):
            return False
        return columns % self.strip == 0 or columns < self.strip


def wgmma_candidates(
    problem: Problem, kind: str, target: Target, ragged: bool = False, stored: Stored | None = None
) -> list[Candidate]:
    """Every schedule that fits, least predicted time first; `kind` is the end of the instruction's name.

    A line of k has four instructions of 32 bytes whatever the type, so the model needs to know bytes only. Where blocks
    share k, `ragged` lets them go past its end, where all is zero.
    """
    schedules = _schedules(problem, kind, target, ragged)
    found = [Candidate(schedule, _cycles(problem, schedule, target, stored or Stored())) for schedule in schedules]
    return sorted(found, key=lambda candidate: candidate.cycles)


def _schedules(problem: Problem, kind: str, target: Target, ragged: bool) -> Iterator[Schedule]:
    depth = LINE_BYTES // problem.element_bytes
    steps = -(-size_guess(problem.depth) // depth)
    splits = [split for split in SPLITS if steps >= 2 * split and (ragged or steps % split == 0)]
    kinds = [(tile, consumers, 1) for tile, consumers in TILES] + [(tile, CONSUMER_GROUP, 2) for tile in IN_TURN]
    for (rows, columns), consumers, turns in kinds:
        stage_bytes = (rows + columns) * LINE_BYTES
        room = target.shared_per_block - BARRIERS_ROOM - turns * rows * RESULT_ROW
        together = [(*found, 0) for found in _clusters((rows, columns), consumers, splits, depth, target)]
        if run := _run(problem, (rows, columns), steps, target):
            together.append((1, 1, run))
        for cluster, split, run in together:
            if turns > 1 and (split > 1 or run):
                continue  # a block that shares k has one tile, or parts of different length
            most = _steps_of_block(problem, (rows, columns), -(-steps // split), cluster * split, target)
            yield Schedule(
                (rows, columns, depth),
                (consumers, 1),
                f"m64n{columns}k{32 // problem.element_bytes}.{kind}",
                stages=min(MOST_STAGES, room // stage_bytes, max(LEAST_STAGES, most)),
                producers=CONSUMER_GROUP,
                resident=target.multiprocessors,
                cluster=cluster,
                split=split,
                turns=turns,
                run=run,
            )


def _clusters(
    tile: tuple[int, int], consumers: int, splits: list[int], depth: int, target: Target
) -> Iterator[tuple[int, int]]:
    """What a cluster may be used for with that tile: (blocks that share the right operand, blocks that share k).

    A cluster either shares the right operand or k. Every block gets as many steps as the others, two at least (ptxas
    serialises where a loop disappears); a tile whose columns are a power of two divides among the blocks, down to a sum
    for each thread.
    """
    yield 1, 1
    rows, columns = tile
    if not target.cluster:
        return
    for cluster in CLUSTERS[1:]:
        if columns % (cluster * depth) == 0:
            yield cluster, 1
    for split in splits:
        if columns & (columns - 1) == 0 and rows * columns >= split * consumers * 32:
            yield 1, split


def _steps_of_block(problem: Problem, tile: tuple[int, int], steps: int, together: int, target: Target) -> int:
    """Steps of all tiles of a block, in a launch of clusters of so many blocks; many where sizes are not known. A ring
    of more stages would keep the blocks of the next kernel out, which begin with their weights.
    """
    sizes = [size.as_constant() for size in (problem.batch, problem.rows, problem.columns)]
    if None in sizes:
        return MOST_STAGES
    batch, height, width = (size or 0 for size in sizes)
    tiles = batch * -(-height // tile[0]) * -(-width // tile[1])
    return steps * -(-tiles // (target.multiprocessors // together))


def _run(problem: Problem, tile: tuple[int, int], steps: int, target: Target) -> int:
    """Steps of each block's part, where the last wave's tiles are shared by all blocks: 0 where that shortens nothing,
    or the number of tiles is not known.
    """
    sizes = [size.as_constant() for size in (problem.batch, problem.rows, problem.columns)]
    batch, height, width = (size or 0 for size in sizes)
    rest = batch * -(-height // tile[0]) * -(-width // tile[1]) % target.multiprocessors
    run = max(LEAST_RUN, -(-rest * steps // target.multiprocessors))
    return run if rest and run < steps else 0


def _cycles(problem: Problem, schedule: Schedule, target: Target, stored: Stored) -> float:
    """Waves of tiles, each of which takes its steps and its epilogue; the first boxes are waited for once."""
    rows, columns, depth = schedule.block
    batch, height, width, length = map(size_guess, (problem.batch, problem.rows, problem.columns, problem.depth))
    clusters = batch * -(-height // (rows * schedule.cluster)) * -(-width // columns)
    strip = stored.strip if stored.suits(schedule) else 0
    if schedule.run:
        return _shared_cycles(schedule, target, clusters, -(-length // depth), strip)
    waves = -(-clusters // (target.multiprocessors // schedule.together))
    steps = -(-length // (depth * schedule.split))
    sums = rows * columns
    stores = sums / schedule.split * _RESULT_BYTES / _MEMORY
    products = steps * _step_cycles(schedule, waves * steps)
    if strip:
        # The boxes of one tile leave during the next one.
        exchange = (1 + stored.beside) * sums * _RESULT_BYTES / _SHARED + columns / strip * _STEP
        if schedule.turns > 1:
            return _LATENCY + waves * max(products, (products + exchange) / 2, stores) + exchange + stores
        return _LATENCY + waves * max(products + exchange, stores) + stores
    if schedule.split == 1:
        epilogue = stores + 2 * sums * 4 / _SHARED  # through shared memory, to neighbours in one thread
    else:
        epilogue = stores + sums * 4 / _SHARED + sums * 4 / _REMOTE + 2 * _CLUSTER_BARRIER + waves * _LATENCY
    if stored.beside:  # read by the threads, who wait for it
        epilogue += _LATENCY + sums * _RESULT_BYTES / _SECOND_LEVEL
    if schedule.turns > 1:  # the epilogue of one tile goes on during the products of the next
        return _LATENCY + waves * max(products, (products + epilogue) / 2) + epilogue
    return _LATENCY + waves * (products + epilogue)


def _shared_cycles(schedule: Schedule, target: Target, tiles: int, steps: int, strip: int) -> float:
    """Whole waves, and a run of steps in each block; sums go to the second-level cache and come back from there."""
    rows, columns, _ = schedule.block
    sums, waves = rows * columns, tiles // target.multiprocessors
    others = -(-steps // schedule.run)  # blocks whose sums the last one of a tile collects
    handover = _HANDOVER + (1 + others) * sums * 4 / _SECOND_LEVEL
    stores = sums * _RESULT_BYTES / _MEMORY
    epilogue = sums * _RESULT_BYTES / _SHARED + columns / strip * _STEP if strip else stores + 2 * sums * 4 / _SHARED
    total = waves * steps + schedule.run
    products = total * _step_cycles(schedule, total)
    return _RUN_MARGIN * (_LATENCY + products + handover + (1 + waves) * epilogue + stores)


def _step_cycles(schedule: Schedule, total: int) -> float:
    """One of `total` steps of k on one multiprocessor: its products, the boxes it reads, or the latency of a ring that
    is filled again.
    """
    rows, columns, _ = schedule.block
    instructions = rows // 64 * 4
    products = max(columns / 2, (64 + columns) * 32 / _SHARED)
    boxes = (rows + columns / schedule.cluster) * LINE_BYTES / _SECOND_LEVEL
    waiting = _LATENCY / schedule.stages if total > schedule.stages else 0.0
    return max(instructions * products + _STEP, boxes, waiting) + _CONTENTION * boxes
