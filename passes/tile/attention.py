"""The program of attention: two contractions with a softmax between them, without the scores ever reaching memory.

In: a kernel function of kind ``attention``: scores = Q x K^T, maps over them (scale, mask), softmax over the last
axis, x V, epilogue. Out: a block per tile of queries that goes over the keys once. Here is the program for every
target, its operands copied to shared memory; attention_wgmma.py has that of Hopper, for operands that come in boxes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from mlir import ir
from mlir.dialects import arith, scf

from ...dialects.tensors import element_of, scalar_type
from ...runtime.errors import InternalError
from ...runtime.symbolic import ONE, ZERO, Expression, maximum, minimum
from ...runtime.tuning import describe
from ..graph.rewriting import inner_operations
from ..lower.context import byte_width
from ..lower.dot_layouts import FmaLayout, FragmentLayout, MmaLayout, SharedLayout
from ..target import Target
from ..unit import KernelProgram
from .attention_parts import Parts, find_parts
from .attention_schedule import HALVES, Schedule, attention_schedules
from .attention_scores import key_range, read_scores
from .attention_softmax import Softmax
from .attention_wgmma import HopperAttention, accumulators, hopper_schedules
from .attention_wgmma import Schedule as HopperSchedule
from .builder import TileBuilder
from .contraction import Contraction, Place, PlaceFunction, contraction_of
from .dot import Arithmetic, arithmetic_of
from .elements import ElementEmitter, load_rules
from .grouped_queries import group_heads
from .heads import Heads, find_heads, unscaled_source
from .programs import Request, finished, tile_program
from .schedule import size_guess
from .shared_operand import Operand, allocate, emit_transfer, plan_operand, shared_layout
from .tile_types import i64, program_id, tile_of


@dataclass
class _Problem:
    """An attention before it is decided how to compute it."""

    request: Request
    builder: TileBuilder
    parts: Parts
    first: Contraction
    second: Contraction

    def position(self, blocks: Expression, rows: int, split: int = 1) -> tuple[Expression, Expression, Expression]:
        """(batch, first query, number among the blocks that share its keys) of this block. Later queries come first:
        under a causal mask they see more keys, and what ends last should be short.
        """
        builder, batch = self.builder, self.first.batch
        block = builder.variable(program_id(0), "block", batch * blocks * split)
        entry, row, rank = builder.delinearize(block, (batch, blocks, Expression.constant(split)))
        if split > 1:
            rank = builder.variable(builder.index(rank), "rank", split)
        if batch != 1:
            entry = builder.variable(builder.index(entry), "batch", batch)
        if blocks != 1:
            row = builder.variable(builder.index(blocks - 1 - row), "row", blocks)
        return entry, row * rows, rank

    def heads(self, batch: Expression) -> tuple[Heads, Heads, Heads] | None:
        """Queries, keys and values in boxes, if all of them are to be had so."""
        first, second = self.first, self.second
        query = find_heads(self.builder, first.left, batch, first.rows, first.depth, turned=False)
        key = find_heads(self.builder, first.right, batch, first.columns, first.depth, turned=True)
        value = find_heads(self.builder, second.right, batch, second.depth, second.columns, turned=False)
        if query is None or key is None or value is None or value.scale != 1 or query.scale * key.scale <= 0:
            return None
        element = arithmetic_of(self.parts.scores).operand
        return (query, key, value) if {query.element, key.element, value.element} == {element} else None


@tile_program("attention")
def attention_program(request: Request) -> KernelProgram:
    """
    before: scores = Q x K^T; maps; softmax; x V; maps
    after:  scf.for over keys { S = dot Q, K; map; m' = max(m, rows of S); P = exp(S - m'); l = l*a + rows of P; O =
    O*a + dot P, V }; store O / l
    """
    load_rules()
    builder = TileBuilder(request.function, request.name)
    module = builder.declare()
    with ir.InsertionPoint(builder.block):
        parts = find_parts(request.operations)
        first, second = contraction_of(builder, parts.scores), contraction_of(builder, parts.output)
        if (first.batch, first.rows, first.columns) != (second.batch, second.rows, second.depth):
            raise InternalError(f"kernel {request.name}: the contractions of an attention do not match")
        first, second = group_heads(builder, request.operations, first, second)
        problem = _Problem(request, builder, parts, first, second)
        hopper = _hopper_schedule(problem, request.target)
        blocks, threads = _general(problem) if hopper is None else _specialized(problem, hopper)
        builder.set_attribute("tile.minimum_blocks", ir.IntegerAttr.get(ir.IntegerType.get_signless(32), 1))
        builder.finish(threads)
    return finished(request, builder, module, "attention", (first.batch * blocks, ONE, ONE), threads)


def _note_schedule(builder: TileBuilder, **values: int) -> None:
    builder.set_attribute("tile.schedule", ir.DictAttr.get({name: i64(value) for name, value in values.items()}))


# On Hopper ------------------------------------------------------------------------------------------------------
def _hopper_schedule(problem: _Problem, target: Target) -> HopperSchedule | None:
    element = arithmetic_of(problem.parts.scores).operand
    scores = read_scores(problem.builder, problem.first, ZERO, problem.parts.maximum.operands[0], loads=False)
    plain = scores.is_plain and not scores.bounds
    schedules = hopper_schedules(problem.first, problem.second, element, target, plain)
    if not schedules or _rounds_scores(problem.request.operations, problem.parts):
        return None
    batch = Expression.constant(0)
    if problem.first.batch != 1:
        problem.builder.extents["%probe_batch"] = problem.first.batch
        batch = Expression.symbol("%probe_batch")
    if problem.heads(batch) is None:
        return None
    return problem.request.choose("attention_wgmma", _describe(problem), schedules)


def _rounds_scores(operations: list[ir.Operation], parts: Parts) -> bool:
    """Whether scores pass through 16 bits on their way to the softmax, as in models that are exported in f16.

    ptxas moves these conversions to where the second product still runs, and then lets one wgmma wait for the other.
    """
    maps = operations[operations.index(parts.scores) : operations.index(parts.maximum)]
    narrow = element_of(parts.scores.results[0]) in HALVES
    return narrow or any(inner.name == "arith.truncf" for own in maps for inner in inner_operations(own))


def _specialized(problem: _Problem, schedule: HopperSchedule) -> tuple[Expression, int]:
    """The program with a producer and consumers; returns blocks of queries and threads."""
    builder = problem.builder
    blocks = problem.first.rows.ceil_divide(schedule.rows)
    batch, row, rank = problem.position(blocks, schedule.rows, schedule.split)
    operands = problem.heads(batch)
    assert operands is not None
    vector = 2 if problem.first.columns.divisible_by(2) else 1
    softmax = Softmax(
        problem.request,
        builder,
        problem.parts,
        problem.first,
        problem.second,
        (schedule.rows, schedule.keys, schedule.width),
        accumulators(schedule, vector),
        vector,
        batch,
        row,
        approximate=True,
        scale=operands[0].scale * operands[1].scale,
        may_pass_end=schedule.split > 1,
    )
    _note_schedule(builder, rows=schedule.rows, keys=schedule.keys, groups=schedule.groups, stages=schedule.stages)
    HopperAttention(builder, softmax, schedule, operands, rank).emit()
    if schedule.split > 1:
        builder.set_attribute("tile.cluster", i64(schedule.split))
    return blocks * schedule.split, schedule.threads


# Everywhere -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Sizes:
    """What a tuning knows an attention by."""

    batch: Expression
    queries: Expression
    keys: Expression
    head: Expression
    width: Expression
    element: str


def _describe(problem: _Problem) -> str:
    first, second = problem.first, problem.second
    element = arithmetic_of(problem.parts.scores).operand
    sizes = _Sizes(first.batch, first.rows, first.columns, first.depth, second.columns, element)
    bounds = len(read_scores(problem.builder, first, ZERO, problem.parts.maximum.operands[0], loads=False).bounds)
    return f"{describe(sizes)} bounds={bounds}"


def _width(arithmetic: Arithmetic, columns: Expression) -> int:
    """Neighbouring columns that one thread holds together; a vector must not straddle the end."""
    width = 4 if arithmetic.instruction == "fma" else 2
    while not columns.divisible_by(width):
        width //= 2
    return width


def _layout(schedule: Schedule, columns: int, arithmetic: Arithmetic, width: int) -> str:
    """Accumulator layout of a tile of `columns`; its rows lie alike for every number of columns."""
    if arithmetic.instruction == "fma":
        return str(FmaLayout(schedule.rows, columns, schedule.warps, 1, (4, 8), (1, 4), width))
    return str(MmaLayout(schedule.rows, columns, schedule.warps, 1, width))


def _general(problem: _Problem) -> tuple[Expression, int]:
    """The program in which all warps copy and multiply; returns blocks of queries and threads."""
    builder, first, second = problem.builder, problem.first, problem.second
    arithmetics = (arithmetic_of(problem.parts.scores), arithmetic_of(problem.parts.output))
    head, width = first.depth.as_constant(), second.columns.as_constant()
    if head is None or width is None:
        raise InternalError("the head size of an attention kernel is a constant")
    candidates = attention_schedules((head, width), size_guess(first.rows), arithmetics[0], problem.request.target)
    schedule = problem.request.choose("attention", _describe(problem), candidates)
    operands, places, scale = _operands(problem, schedule, arithmetics)
    blocks = first.rows.ceil_divide(schedule.rows)
    batch, row, _ = problem.position(blocks, schedule.rows)
    vectors = (_width(arithmetics[0], first.columns), _width(arithmetics[1], second.columns))
    layouts = (
        _layout(schedule, schedule.keys, arithmetics[0], vectors[0]),
        _layout(schedule, schedule.width, arithmetics[1], vectors[1]),
    )
    softmax = Softmax(
        problem.request,
        builder,
        problem.parts,
        first,
        second,
        (schedule.rows, schedule.keys, schedule.width),
        layouts,
        vectors[0],
        batch,
        row,
        approximate=arithmetics[0].operand in HALVES,
        scale=scale,
    )
    output = _General(softmax, schedule, arithmetics, operands, places).emit()
    softmax.store(output, layouts[1], vectors[1])
    _note_schedule(builder, rows=schedule.rows, keys=schedule.keys, warps=schedule.warps, stages=1)
    return blocks, schedule.threads


def _operands(
    problem: _Problem, schedule: Schedule, arithmetics: tuple[Arithmetic, Arithmetic]
) -> tuple[tuple[Operand, Operand, Operand], tuple[PlaceFunction, ...], float]:
    """How queries, keys and values reach shared memory, where their elements lie, and the scale of the scores that is
    left out of them.
    """
    builder, first, second = problem.builder, problem.first, problem.second
    batch = Expression.symbol("%probe_batch") if first.batch != 1 else Expression.constant(0)
    builder.extents["%probe_batch"] = first.batch
    emitter = ElementEmitter(builder)
    elements = (arithmetics[0].operand, arithmetics[0].operand, arithmetics[1].operand)
    bare = [
        _bare(builder, place, element)
        for place, element in zip((first.left, first.right, second.right), elements, strict=True)
    ]
    places = bare[0][0], bare[1][0], bare[2][0] if bare[2][1] == 1 else second.right
    extents = ((first.rows, first.depth), (first.depth, first.columns), (second.depth, second.columns))
    blocks = ((schedule.rows, schedule.head), (schedule.head, schedule.keys), (schedule.keys, schedule.width))

    def plan(number: int, dimension: int, element: str) -> Operand:
        place = places[number]
        operand = plan_operand(
            builder, emitter, lambda row, column: place(batch, row, column), extents[number], dimension, element
        )
        return operand.with_block(blocks[number])

    planned = [plan(number, min(number, 1), element) for number, element in enumerate(elements)]
    return (planned[0], planned[1], planned[2]), places, bare[0][1] * bare[1][1]


def _bare(builder: TileBuilder, place: PlaceFunction, element: str) -> tuple[PlaceFunction, float]:
    """An operand as it lies in memory, which copies can bring, and the constant factor that it lacks then."""
    source, _, scale = unscaled_source(builder, place(ZERO, ZERO, ZERO))
    if source is None or element_of(source) != element or scale <= 0:
        return place, 1.0

    def bare(batch: Expression, first: Expression, second: Expression) -> Place:
        found = place(batch, first, second)
        tensor, indices, _ = unscaled_source(builder, found)
        return found if tensor is None else replace(found, tensor=tensor, indices=indices)

    return bare, scale


@dataclass
class _General:
    """The main loop under construction."""

    softmax: Softmax
    schedule: Schedule
    arithmetics: tuple[Arithmetic, Arithmetic]
    operands: tuple[Operand, Operand, Operand]
    places: tuple[PlaceFunction, ...]

    def emit(self) -> ir.Value:
        """The loop over the keys that some query of the block sees; returns the quotients.

        Values arrive during the first product and keys of the next tile during the softmax and the second: the wait in
        front of either product is also the one for those who still read what the next copy replaces.
        """
        softmax, schedule = self.softmax, self.schedule
        builder, first = softmax.builder, softmax.first
        query, key, value = self._at_batch()
        query_tile, key_tile, value_tile = self._allocate((query, key, value))
        weights_tile = None if schedule.held else self._allocate_weights()
        zero, first_row = builder.index(0), builder.index(softmax.row)
        emitter = ElementEmitter(builder)
        last = minimum(softmax.row + schedule.rows, first.rows) - 1
        seen = key_range(softmax.scores, softmax.row, last, first.columns)
        begin = builder.index(builder.divide(maximum(seen.begin, 0), schedule.keys) * schedule.keys)
        end, step = builder.index(seen.end), builder.index(schedule.keys)
        emit_transfer(builder, emitter, query, query_tile, zero, (first_row, zero))
        ir.Operation.create("tile.commit")
        if schedule.held_queries:
            _arrive()
            query_tile = self._fragments(query_tile)
        self._copy_keys(key, key_tile, begin, end)
        output = softmax.zeros(schedule.width, softmax.layouts[1])
        loop = scf.ForOp(begin, end, step, [*softmax.start(), output])
        with ir.InsertionPoint(loop.body), builder.region():
            column = loop.induction_variable
            peak, total, output = loop.inner_iter_args
            _arrive()
            emit_transfer(builder, emitter, value, value_tile, zero, (column, zero))
            ir.Operation.create("tile.commit")
            scores = self._dot(0, query_tile, key_tile, softmax.zeros(schedule.keys, softmax.layouts[0]))
            online = softmax.step(softmax.seen(scores, column), peak, total)
            weights = self._weights(online.weights, weights_tile)
            scaled = softmax.rescaled(output, online.scale)
            _arrive()
            self._copy_keys(key, key_tile, arith.addi(column, step), end)
            scf.yield_([online.maximum, online.total, self._dot(1, weights, value_tile, scaled)])
        return softmax.quotient(loop.results[2], loop.results[1])

    def _copy_keys(self, key: Operand, tile: ir.Value, column: ir.Value, end: ir.Value) -> None:
        """Start the copy of the keys from `column` on, where there are any more."""
        builder = self.softmax.builder
        branch = scf.IfOp(arith.cmpi(arith.CmpIPredicate.slt, column, end))
        with ir.InsertionPoint(branch.then_block), builder.region():
            zero = builder.index(0)
            emit_transfer(builder, ElementEmitter(builder), key, tile, zero, (zero, column))
            scf.yield_([])
        ir.Operation.create("tile.commit")

    def _fragments(self, tile: ir.Value) -> ir.Value:
        """A left operand of the first product in registers."""
        schedule = self.schedule
        layout = FragmentLayout(schedule.rows, schedule.head, schedule.warps)
        type_ = tile_of(schedule.rows, schedule.head, scalar_type(self.arithmetics[0].operand), str(layout))
        zero = self.softmax.builder.index(0)
        return ir.Operation.create("tile.fragments", results=[type_], operands=[tile, zero]).result

    def _weights(self, weights: ir.Value, tile: ir.Value | None) -> ir.Value:
        """The left operand of the second product: in registers, or by way of shared memory."""
        if tile is not None:
            ir.Operation.create("tile.put", operands=[tile, self.softmax.builder.index(0), weights])
            return tile
        rows, keys = self.schedule.rows, self.schedule.keys
        layout = FragmentLayout(rows, keys, self.schedule.warps)
        type_ = tile_of(rows, keys, scalar_type(self.arithmetics[1].operand), str(layout))
        return ir.Operation.create("tile.pack", results=[type_], operands=[weights]).result

    def _at_batch(self) -> tuple[Operand, Operand, Operand]:
        """The operands of this block's batch."""
        batch = self.softmax.batch
        query, key, value = (
            operand.at(partial(place, batch)) for operand, place in zip(self.operands, self.places, strict=True)
        )
        return query, key, value

    def _allocate(self, operands: tuple[Operand, Operand, Operand]) -> list[ir.Value]:
        arithmetics = (self.arithmetics[0], *self.arithmetics)
        return [
            allocate(operand, shared_layout(operand, own.instruction, byte_width(scalar_type(own.operand))), 1)
            for operand, own in zip(operands, arithmetics, strict=True)
        ]

    def _allocate_weights(self) -> ir.Value:
        """The shared tile through which the softmax's weights become the left operand of the second contraction."""
        element = scalar_type(self.arithmetics[1].operand)
        access = 16 // byte_width(element)
        pieces = self.schedule.keys // access
        layout = SharedLayout("rows", (pieces + 1 - pieces % 2) * access)
        type_ = tile_of(self.schedule.rows, self.schedule.keys, element, str(layout))
        return ir.Operation.create("tile.allocate", results=[type_], attributes={"stages": i64(1)}).result

    def _dot(self, number: int, left: ir.Value, right: ir.Value, start: ir.Value) -> ir.Value:
        """The first or second product, added to `start`."""
        return ir.Operation.create(
            "tile.dot",
            results=[start.type],
            operands=[left, right, start, self.softmax.builder.index(0)],
            attributes={"instruction": ir.StringAttr.get(self.arithmetics[number].instruction)},
        ).result


def _arrive() -> None:
    """Copies are complete and visible to the whole block, which has read what it wanted of other tiles."""
    ir.Operation.create("tile.wait", attributes={"pending": i64(0)})
    ir.Operation.create("tile.barrier")
