"""The program of a contraction with few rows: a matrix-vector product, or some of them at a time.

In: a kernel function of kind ``dot`` whose result has few rows (or columns: it is turned then), or may have. Out: a
tile program without shared tiles: every thread reads its part of the weights once, 16 bytes at a time and several
accesses at once, multiplies it with all rows, and the partial sums of k are added up in the end. It exists because such
work is bound by the reading of the weights, which tiles for tensor cores do not speed up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from mlir import ir
from mlir.dialects import arith, math, scf

from ...dialects.tensors import element_of, scalar_type
from ...runtime.symbolic import ZERO, Expression
from ...runtime.tuning import describe
from ..lower.layouts import half_text, reduced_text
from .builder import TileBuilder, bytes_of
from .contraction import Contraction
from .elements import ElementEmitter, zero
from .epilogue import Rest
from .line_values import sums_of_line
from .paired_results import halved, halves, store_pair
from .programs import Request
from .results import store_results
from .scalars import convert, is_float
from .schedule import size_guess
from .shared_operand import below, plan_operand
from .skinny_schedule import SkinnySchedule, WeightsProblem, skinny_candidates
from .tile_types import element, full, map_, program_id, reduce, tile_of

MOST_ROWS = {4: 16, 2: 8, 1: 4}  # by the bytes of a weight: beyond, tensor cores or tiles do better
MOST_ROWS_BESIDE_WGMMA = {**MOST_ROWS, 2: 4}  # which takes 16 rows as well, fetched without any thread's help
LEAST_WEIGHTS = 1 << 16  # elements: smaller ones are not worth a program of their own
LEAST_ACCESS = 8  # bytes
_ANYWHERE = 1 << 30  # a bound that no position reaches


Body = Callable[[ElementEmitter, Expression, Expression], ir.Value]  # (emitter, k, column) -> element


@dataclass
class Skinny:
    """One program under construction; `view` has its few rows on the left, `rows` at most where they are not known."""

    builder: TileBuilder
    view: Contraction
    accumulator: str
    returned: list[ir.Value]
    schedule: SkinnySchedule
    rows: int

    @property
    def grid(self) -> Expression:
        """Blocks: one for some columns of a batch."""
        return self.view.batch * self.view.columns.ceil_divide(self.schedule.columns)

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.schedule.count

    @property
    def depth(self) -> Expression:
        """The length of a line of weights, in elements of a tile."""
        return self.view.depth

    @property
    def source(self) -> str:
        """The dtype of a tile of weights."""
        return element_of(self.view.right(ZERO, ZERO, ZERO).tensor)

    @property
    def layout(self) -> str:
        """Layout text of a tile of weights, and of the partial sums of one row."""
        down, across = self.schedule.threads
        pairs = ", down=2" if self.view.pairs is not None and self.schedule.depth_contiguous else ""
        return f"blocked<{down}x{across}, vector={self.schedule.vector}{pairs}>"

    def emit(self) -> None:
        """The whole program of a block."""
        builder, view = self.builder, self.view
        block = builder.variable(program_id(0), "block", self.grid)
        self.batch, number = builder.delinearize(block, (view.batch, view.columns.ceil_divide(self.schedule.columns)))
        if view.batch != 1:
            self.batch = builder.variable(builder.index(self.batch), "batch", view.batch)
        self.first = number * self.schedule.columns
        self.places = [self._row(row) for row in range(self.rows)]
        for row, partial in enumerate(self._sums()):
            self._finish(row, partial)

    def _row(self, row: int) -> Expression:
        """The row that is read as the `row`-th: where there are fewer, the last, whose sums then are not stored."""
        if row == 0 or self.view.rows.as_constant() is not None:
            return Expression.constant(row)
        last = arith.minui(self.builder.index(row), self.builder.index(self.view.rows - 1))
        return self.builder.variable(last, "row", self.view.rows)

    def _sums(self) -> list[ir.Value]:
        """The loop over k: a tile of partial sums for every row.

        All accesses of a step stand in front of the multiplications, so that they are under way together.
        """
        builder, schedule = self.builder, self.schedule
        type_ = scalar_type(self.accumulator)
        start = full(*schedule.shape, self.layout, zero(type_))
        step = schedule.depth * schedule.unroll
        bounds = (builder.index(value) for value in (0, self.depth, step))
        loop = scf.ForOp(*bounds, [start] * self.rows)
        with ir.InsertionPoint(loop.body), builder.region():
            depth = builder.variable(loop.induction_variable, "depth", self.depth)
            origins = [self._origin(depth + number * schedule.depth) for number in range(schedule.unroll)]
            tiles = [self._tile(origin, self.source, self._weight) for origin in origins]
            sums = list(loop.inner_iter_args)
            for origin, tile in zip(origins, tiles, strict=True):
                sums = [
                    self._tile(origin, self.accumulator, self._multiply(row, tile, total))
                    for row, total in enumerate(sums)
                ]
            scf.yield_(sums)
        return list(loop.results)

    def _origin(self, depth: Expression) -> tuple[ir.Value, ir.Value]:
        """Where a tile of weights begins."""
        place = (self.first, depth) if self.schedule.depth_contiguous else (depth, self.first)
        return self.builder.index(place[0]), self.builder.index(place[1])

    def _tile(self, origin: tuple[ir.Value, ir.Value], made: str, body: Body) -> ir.Value:
        """A map of dtype `made` over a tile of weights, in which loads from outside the weights give zero."""
        builder, schedule, view = self.builder, self.schedule, self.view
        blocks = ((self.depth, schedule.depth * schedule.unroll), (view.columns, schedule.columns))

        def element_at(i: ir.Value, j: ir.Value) -> ir.Value:
            depth, column = (j, i) if schedule.depth_contiguous else (i, j)
            place = (builder.variable(depth, "k", self.depth), builder.variable(column, "column", view.columns))
            with builder.vectorised(place[0 if schedule.depth_contiguous else 1], schedule.vector):
                builder.varying.add(j)
                checks = [
                    below(builder, position, extent)
                    for position, (extent, block) in zip(place, blocks, strict=True)
                    if not extent.divisible_by(block)
                ]
                value = body(ElementEmitter(builder).guarded(checks), *place)
                for check in checks if made != self.accumulator else ():
                    value = arith.select(check, value, zero(value.type))
                return value

        limits = (builder.index(_ANYWHERE), builder.index(_ANYWHERE))
        tile = map_(
            builder, origin, limits, schedule.shape, self.layout, element_at, scalar_type(made),
            full_dimensions=["rows", "columns"],
        )  # fmt: skip
        assert tile is not None
        return tile

    def _weight(self, emitter: ElementEmitter, depth: Expression, column: Expression) -> ir.Value:
        place = self.view.right(self.batch, depth, column)
        return emitter.element(place.tensor, place.indices)

    def _multiply(self, row: int, tile: ir.Value, total: ir.Value) -> Body:
        """total + weight * the element of this row at the weight's k."""

        def body(emitter: ElementEmitter, depth: Expression, column: Expression) -> ir.Value:
            place = self.view.left(self.batch, self.places[row], depth)
            own = emitter.element(place.tensor, place.indices)
            factors = (
                convert(own, element_of(place.tensor), self.accumulator),
                convert(element(tile, scalar_type(self.source)), self.source, self.accumulator),
            )
            before = element(total, scalar_type(self.accumulator))
            if is_float(self.accumulator):
                return math.fma(*factors, before)
            return arith.addi(arith.muli(*factors), before)

        return body

    def _finish(self, row: int, partial: ir.Value) -> None:
        """Add up the partial sums of one row, run the epilogue and store."""
        builder, schedule, view = self.builder, self.schedule, self.view
        lines = sums_of_line(builder, view, (self.batch, self.places[row]), self.threads)
        rest = Rest(builder, view, self.returned, lines)
        axis = 1 if schedule.depth_contiguous else 0
        shape = (schedule.shape[0], 1) if schedule.depth_contiguous else (1, schedule.shape[1])
        layout = reduced_text(axis, self.layout, *schedule.shape)
        type_ = scalar_type(self.accumulator)
        total = reduce(partial, "sum", axis, tile_of(*shape, type_, layout))
        parts: tuple[ir.Value, ...] = (total,)
        if view.pairs is not None:
            parts = halves(total, shape, layout, 1 - axis)
            layout = half_text(1 - axis, layout, *shape)
            shape = (shape[0] // 2, 1) if axis else (1, shape[1] // 2)
        each = len(parts)
        columns, first = (halved(value) if each == 2 else value for value in (view.columns, self.first))

        def body(i: ir.Value, j: ir.Value) -> None:
            own, width = (i, 1) if schedule.depth_contiguous else (j, schedule.vector // each)
            column = builder.variable(own, "column", columns)
            with builder.vectorised(column, width):
                if width > 1:
                    builder.varying.add(j)
                place = (self.batch, self.places[row], column)
                sums = [element(part, type_) for part in parts]
                if each == 2:
                    store_pair(rest, ((sums[0], sums[1]), self.accumulator), place)
                else:
                    store_results(rest, (sums[0], self.accumulator), place)

        zero_index, stored = builder.index(0), builder.index(1)
        full_dimensions = ["rows", "columns"] if view.columns.divisible_by(schedule.columns) else []
        if row > 0 and view.rows.as_constant() is None:
            there = arith.cmpi(arith.CmpIPredicate.ult, builder.index(row), builder.index(view.rows))
            stored, full_dimensions = arith.select(there, stored, zero_index), []
        begin, end = builder.index(first), builder.index(columns)
        origin, limits = ((begin, zero_index), (end, stored)) if axis else ((zero_index, begin), (stored, end))
        map_(builder, origin, limits, shape, layout, body, full_dimensions=full_dimensions)


def skinny_view(view: Contraction) -> Contraction | None:
    """The view with its few rows on the left, or None when neither side is known to be short."""
    most = max(MOST_ROWS.values())
    for candidate in (view, view.swapped()):
        rows = candidate.rows.as_constant()
        if rows is not None and 0 < rows <= most and size_guess(candidate.columns) > rows:
            return candidate
    return None


def few_rows(view: Contraction) -> tuple[Contraction, int] | None:
    """The view with rows on the left that are not known but typically few, and how many, rounded up to a power of two:
    a decoder's batch. None when neither side is so.
    """
    for candidate in (view, view.swapped()):
        rows = 1 << (size_guess(candidate.rows) - 1).bit_length()
        if candidate.rows.as_constant() is None and rows <= max(MOST_ROWS.values()):
            return candidate, rows
    return None


def plan_skinny(
    builder: TileBuilder, view: Contraction, accumulator: str, request: Request
) -> Skinny | None:
    """The program for this contraction, or None when another one suits it better."""
    turned = skinny_view(view)
    return None if turned is None else _plan(builder, turned, turned.rows.as_constant() or 1, accumulator, request)


def plan_few_rows(builder: TileBuilder, view: Contraction, accumulator: str, request: Request) -> Skinny | None:
    """The program for sizes at which `few_rows` is right, or None when there is no use for one."""
    found = few_rows(view)
    return None if found is None else _plan(builder, *found, accumulator, request)


def _plan(builder: TileBuilder, turned: Contraction, rows: int, accumulator: str, request: Request) -> Skinny | None:
    depth = turned.depth.as_constant()
    if depth is None or size_guess(turned.columns) * depth < LEAST_WEIGHTS:
        return None
    if turned.pairs == 0:
        return None  # the few columns are what is taken in pairs
    few, weights = turned.left(ZERO, ZERO, ZERO), turned.right(ZERO, ZERO, ZERO)
    if few.conditions or weights.conditions:
        return None
    builder.extents["%probe_batch"] = turned.batch
    batch = Expression.symbol("%probe_batch") if turned.batch != 1 else ZERO
    extents, source = (turned.depth, turned.columns), element_of(weights.tensor)
    operand = plan_operand(
        builder, ElementEmitter(builder), lambda k, own: turned.right(batch, k, own), extents, 1, source
    )
    if operand.fields is not None:
        return None  # skinny_packed.py takes those that it can
    size = bytes_of(source)
    most = MOST_ROWS_BESIDE_WGMMA if request.target.wgmma else MOST_ROWS
    if rows > most.get(size, 2) or operand.vector * size < LEAST_ACCESS:
        return None
    problem = WeightsProblem(*sizes_of(turned, rows, depth), size, operand.vector, operand.fast == 0)
    schedule = chosen_schedule(turned, problem, request)
    if schedule is None:
        return None
    return Skinny(builder, turned, accumulator, request.returned, schedule, rows)


def sizes_of(turned: Contraction, rows: int, depth: int) -> tuple[int, int, int, int]:
    """Batch, rows, columns and depth of a problem."""
    return size_guess(turned.batch), rows, size_guess(turned.columns), depth


def chosen_schedule(turned: Contraction, problem: WeightsProblem, request: Request) -> SkinnySchedule | None:
    """The schedule for a problem, or None when none suits it."""
    candidates = skinny_candidates(problem, request.target)
    schedules = [replace(found.schedule, cycles=found.cycles) for found in candidates]
    if turned.pairs is not None:  # a thread has both of a pair
        schedules = [own for own in schedules if (own.lines if own.depth_contiguous else own.vector) % 2 == 0]
    return request.choose("skinny", describe(problem), schedules) if schedules else None
