"""Decisions on the warp-specialised program of a contraction: whether it suits, its schedule and its layouts.

In: the view of a contraction, its instruction elsewhere, the target. Out: a plan that emits the program
(warp_specialized.py) with the contraction's epilogue, or None: then another program has to do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from mlir import ir

from ...dialects.tensors import element_of, scalar_type
from ...runtime.symbolic import Expression, expression
from ...runtime.tuning import describe
from ..graph.tabulate_bytes import COSTS
from ..lower.context import byte_width
from ..lower.dot_layouts import WarpgroupLayout
from .block_work import BlockWork
from .boxes import Operands, find_boxes
from .builder import TileBuilder
from .contraction import Contraction
from .epilogue import Position, Rest, ResultTile
from .line_values import with_lines
from .part_sums import PartSums, epilogue_with_sums, find_part_sums, main_result
from .programs import Request
from .result_boxes import ResultBox, find_result_box
from .results import emit_epilogue, epilogue_tile, store_tile
from .schedule import Problem, Schedule, size_guess
from .schedule_wgmma import CONSUMER_GROUP, Candidate, Stored, wgmma_candidates
from .tile_order import tile_count, tile_position
from .tile_types import ACCESS_BYTES, i64
from .warp_specialized import EXCHANGE_COLUMNS, WarpSpecialized

LEAST = 64  # rows and k: smaller problems leave most of a wgmma empty
NARROWEST = 16  # columns of a tile whose columns are contiguous: 32 bytes, the least that a swizzle moves
KINDS = {  # dtypes as wgmma names them
    "f16": "f16", "bf16": "bf16", "f32": "tf32", "i8": "s8", "ui8": "u8", "f8E4M3FN": "e4m3", "f8E5M2": "e5m2",
}  # fmt: skip
LONG = 30  # instructions of an epilogue for an element: it is then run on a strip at a time
MIXED = (("i8", "ui8"), ("f8E4M3FN", "f8E5M2"))  # of which each operand may have its own


@dataclass
class WarpPlan:
    """Everything decided before the first operation is emitted."""

    builder: TileBuilder
    view: Contraction
    operands: Operands
    schedule: Schedule
    accumulator: str
    returned: list[ir.Value]
    box: ResultBox | None = None  # the result, where the schedule stores it in boxes
    weights: int | None = None  # the operand that no kernel writes, where there is just one
    parts: PartSums | None = None  # whose sums are stored as well

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.schedule.threads

    @property
    def grid(self) -> Expression:
        """Blocks of a launch."""
        return self.program.work.grid

    @property
    def together(self) -> tuple[int, int]:
        """Rows and columns of the tiles of a cluster, which stand one below the other."""
        return self.schedule.block[0] * self.schedule.cluster, self.schedule.block[1]

    @cached_property
    def result(self) -> ResultTile:
        """The sums of a block as its epilogue gets them: as they are, where boxes are stored; else with neighbours in
        one thread, for accesses of 16 bytes.
        """
        schedule, stored = self.schedule, self.stored
        if self.box is not None:
            return ResultTile(schedule.block[:2], self.sums, 2, self.accumulator, self.together)
        rows, columns = schedule.block[0] // schedule.split, schedule.block[1]
        strip = min(EXCHANGE_COLUMNS, columns) if schedule.split == 1 else columns
        steps = self.together
        if self.is_turned:
            rows, columns, strip, steps = columns, rows, rows, steps[::-1]
        least = min(byte_width(scalar_type(element_of(value))) for value in main_result(self.returned))
        down, pair = (2 if stored.pairs == axis else 1 for axis in (0, 1))
        width = min(max(2, ACCESS_BYTES // least) * pair, rows * columns // schedule.consumers // down)
        while not stored.columns.divisible_by(width):
            width //= 2
        across = min(strip // width, schedule.consumers)
        pairs = f", down={down}" if down > 1 else ""
        layout = f"blocked<{schedule.consumers // across}x{across}, vector={width}{pairs}>"
        return ResultTile((rows, columns), layout, width, self.accumulator, steps)

    @property
    def is_turned(self) -> bool:
        """Whether sums of a turned problem turn back on their way to the epilogue: lines of the result are columns of
        the tile. One that is wider than a strip of the exchange stays.
        """
        fits = self.schedule.split > 1 or self.schedule.block[1] <= EXCHANGE_COLUMNS
        return self.view.is_swapped and self.box is None and self.parts is None and fits

    @property
    def strip(self) -> int:
        """Columns of which the epilogue is run and stored before the next; 0 where it is run on all of the tile, which
        reads what it reads for all columns at once. Where it is long, or something has arrived beside the sums,
        registers would not hold all that is under way. Sums of lines want all of them.
        """
        if self.box is None or self.parts is not None or self.box.strip == self.schedule.block[1]:
            return 0
        return self.box.strip if self.box.beside is not None or _length(self.builder) > LONG else 0

    @property
    def stored(self) -> Contraction:
        """The problem as the epilogue sees it."""
        return self.view.swapped() if self.is_turned else self.view

    @property
    def sums(self) -> str:
        """The layout of the accumulator."""
        rows, columns, _ = self.schedule.block
        return str(WarpgroupLayout(rows, columns, self.schedule.warps[0] // CONSUMER_GROUP))

    @cached_property
    def program(self) -> WarpSpecialized:
        """The program around the epilogue."""
        return WarpSpecialized(
            self.builder,
            self.schedule,
            self.operands,
            self._work(),
            self.accumulator,
            (self.sums, self.result.layout),
            self.box,
            self.weights,
            strip=self.strip,
            is_turned=self.is_turned,
        )

    def _work(self) -> BlockWork:
        def position(number: Expression) -> Position:
            return tile_position(self.builder, self.view, number, self.together, strips=True)

        count = tile_count(self.view, self.together)
        return BlockWork(self.builder, self.schedule, self.operands.depth, count, position)

    def emit(self) -> None:
        """Both roles, with the epilogue of the contraction."""
        self.builder.set_attribute("tile.schedule", self.schedule.attribute())
        if self.schedule.together > 1:
            self.builder.set_attribute("tile.cluster", i64(self.schedule.together))

        self.program.emit(self._epilogue)

    def _epilogue(self, position: Position, sums: ir.Value, arrived: ir.Value | None) -> ir.Value | None:
        """That of one tile, or of a strip of it, with what has arrived beside its sums; returns what boxes store."""
        tile = self.result
        if self.strip:
            tile = replace(tile, shape=(tile.shape[0], self.strip))
        if self.is_turned:
            batch, row, column = position
            position = (batch, column, row)
        rest = Rest(self.builder, self.stored, main_result(self.returned))
        rest = with_lines(rest, tile, position)
        beside = None
        if self.box is not None and self.box.beside is not None and arrived is not None:
            number = self.box.beside.source[1]
            beside = (self.builder.function.regions[0].blocks[0].arguments[number], arrived)
        if self.parts is not None:
            made = epilogue_with_sums(rest, self.parts, tile, position, sums, beside)
        elif self.box is not None:
            made = epilogue_tile(rest, tile, position, sums, beside)
        else:
            emit_epilogue(replace(rest, returned=self.returned), tile, position, sums)
            return None
        if self.box is None:
            store_tile(rest, tile, position, made)
            return None
        return made


@dataclass(frozen=True)
class Fitting:
    """A contraction that wgmma suits: its operands in boxes, and every schedule with its predicted time, best first."""

    view: Contraction
    operands: Operands
    problem: Problem
    kind: str  # the end of the instruction's name
    accumulator: str
    box: ResultBox | None
    stored: Stored
    candidates: list[Candidate]


def find_fitting(builder: TileBuilder, view: Contraction, tensor_cores: bool, request: Request) -> Fitting | None:
    """What is known before a schedule is chosen, where the target has wgmma, the problem is large enough for it and
    both operands come in boxes.

    Products in f32 are exact unless `tensor_cores` are allowed, which round operands to tf32.
    """
    if not request.target.wgmma or (view.depth.as_constant() or 0) < LEAST:
        return None
    if not tensor_cores and "f32" in [element_of(operand) for operand in view.operation.operands]:
        return None
    ways = sorted((view, view.swapped()), key=lambda own: size_guess(own.rows) < LEAST)
    found = next(filter(None, (_boxed(builder, own) for own in ways)), None)
    if found is None:
        return None
    view, operands = found
    elements = tuple(box.element for box in operands.both)
    mixed = any(set(elements) <= set(kinds) for kinds in MIXED)
    if not mixed and (elements[0] != elements[1] or (elements[0] == "f32" and not tensor_cores)):
        return None
    size = byte_width(scalar_type(elements[0]))
    kind = ".".join(KINDS[element] for element in (elements if mixed else elements[:1]))
    problem = Problem(view.batch, view.rows, view.columns, expression(operands.depth), size)
    # Where k is not contiguous, a tile of the right operand consists of whole lines along the columns.
    least = 0 if operands.right.depth_contiguous else NARROWEST
    box = find_result_box(builder, view, main_result(request.returned))
    stored = Stored() if box is None else Stored(box.strip, box.widest, box.beside is not None)
    candidates = wgmma_candidates(problem, kind, request.target, operands.zero_past_depth, stored)
    candidates = [own for own in candidates if own.schedule.block[1] >= least]
    accumulator = "i32" if elements[0] in MIXED[0] else "f32"
    return Fitting(view, operands, problem, kind, accumulator, box, stored, candidates)


def plan_warp_specialized(
    builder: TileBuilder, view: Contraction, tensor_cores: bool, request: Request
) -> WarpPlan | None:
    """The plan for a contraction that wgmma suits, else None."""
    fitting = find_fitting(builder, view, tensor_cores, request)
    if fitting is None:
        return None
    view, operands, box = fitting.view, fitting.operands, fitting.box
    schedules = [replace(own.schedule, cycles=own.cycles) for own in fitting.candidates]
    if view.pairs is not None:  # a thread has both of a pair
        schedules = [own for own in schedules if own.block[0] * own.block[1] >= 2 * own.split * own.consumers]
    reads = f"{fitting.kind} left={operands.left.depth_contiguous} right={operands.right.depth_contiguous}"
    parts = find_part_sums(request.returned)
    if parts is not None:
        schedules = [own for own in schedules if own.block[1] == parts.width and own.run == 0]
        reads = f"{reads} sums={parts.width}"
    schedule = request.choose("wgmma", f"{describe(fitting.problem)} {reads}", schedules)
    if box is not None:
        box = box.narrowed(schedule.block[1]) if fitting.stored.suits(schedule) else None
    operands = operands.narrowed(schedule.block[1])
    constant = [own for own in operands.both if own.source in request.constants]
    weights = constant[0].dimension if len(constant) == 1 and request.target.dependent_launch else None
    accumulator, returned = fitting.accumulator, request.returned
    return WarpPlan(builder, view, operands, schedule, accumulator, returned, box, weights, parts)


def _boxed(builder: TileBuilder, view: Contraction) -> tuple[Contraction, Operands] | None:
    """The view with its boxes, when it has rows enough: a wgmma has 64, half of them may be empty."""
    operands = find_boxes(builder, view) if size_guess(view.rows) >= LEAST // 2 else None
    return None if operands is None else (view, operands)


def _length(builder: TileBuilder) -> int:
    """Instructions of all maps of the kernel for an element, about."""
    operations = [own.operation for own in builder.function.regions[0].blocks[0].operations]
    maps = [own for own in operations if own.name == "graph.map"]
    names = [inner.operation.name for own in maps for inner in own.regions[0].blocks[0].operations]
    computed = [name for name in names if name.startswith(("arith.", "math.")) and name != "arith.constant"]
    return sum(COSTS.get(name, 1) for name in computed)
