"""The program of attention: two contractions with a softmax between them, without the scores ever reaching memory.

In: a kernel function of kind ``attention``: scores = Q x K^T, maps over them (scale, mask), softmax over the last
axis, x V, epilogue. Out: a block per tile of query rows that goes over the keys once, keeping the running maximum and
sum of each row (online softmax: Milakov and Gimelshein 2018, Dao et al. 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

from mlir import ir
from mlir.dialects import arith, math, scf

from ...dialects.tensors import element_of, scalar_type
from ...runtime.errors import InternalError
from ...runtime.symbolic import ONE, Expression
from ..lower.context import byte_width
from ..lower.dot_layouts import FmaLayout, MmaLayout, SharedLayout
from ..lower.layouts import reduced_text
from ..unit import KernelProgram
from .builder import TileBuilder
from .contraction import Contraction, contraction_of
from .dot import Arithmetic, arithmetic_of
from .elements import ElementEmitter, load_rules
from .forward import forward_position
from .loop import store
from .programs import Request, finished, tile_program
from .scalars import convert
from .schedule import size_guess
from .shared_operand import Operand, allocate, emit_transfer, plan_operand, shared_layout
from .tile_types import element, full, i64, map_, program_id, reduce, tile_of

MAX_HEAD = 256  # the accumulator of a head must fit in registers


@dataclass(frozen=True)
class Parts:
    """The operations of an attention kernel."""

    scores: ir.Operation  # matmul Q x K^T
    maximum: ir.Operation  # reduce max of what the softmax sees
    exponential: ir.Operation  # map exp(x - maximum)
    total: ir.Operation  # reduce sum
    output: ir.Operation  # matmul P x V
    guard: str  # what makes a quotient zero, for rows without a valid key: "" nothing, "nan", or "empty": a sum of zero


def find_parts(operations: list[ir.Operation]) -> Parts:
    """Name the parts of a kernel function. Raises InternalError when it is not an attention."""
    matmuls = [operation for operation in operations if operation.name == "graph.matmul"]
    reductions = [operation for operation in operations if operation.name == "graph.reduce"]
    if len(matmuls) != 2 or len(reductions) != 2:
        raise InternalError("an attention kernel has two matmuls and two reductions")
    exponential = reductions[1].operands[0].owner
    between = operations[operations.index(reductions[1]) : operations.index(matmuls[1])]
    guard = next((found for found in map(_guard, between) if found), "")
    return Parts(matmuls[0], reductions[0], exponential, reductions[1], matmuls[1], guard)


def _guard(operation: ir.Operation) -> str:
    """What a map between the softmax and the second contraction compares: passes/graph/attention_rules.py admits only
    the test for NaN and that of the sum.
    """
    inner = [view.operation for region in operation.regions for view in region.blocks[0].operations]
    tests = [own for own in inner if own.name == "arith.cmpf"] if operation.name == "graph.map" else []
    if not tests:
        return ""
    unordered = ir.IntegerAttr(tests[0].attributes["predicate"]).value == arith.CmpFPredicate.UNO
    return "nan" if unordered or tests[0].operands[0] == tests[0].operands[1] else "empty"


@dataclass(frozen=True)
class Schedule:
    """Tile of `rows` queries x `keys` keys; `warps` along the rows, so that a row's lanes are in one warp."""

    rows: int
    keys: int
    warps: int
    head: int  # depth of the first contraction, padded
    width: int  # columns of the second, padded

    @property
    def threads(self) -> int:
        return self.warps * 32


def _schedule(first: Contraction, second: Contraction, arithmetic: Arithmetic) -> Schedule:
    queries = size_guess(first.rows)
    warps = 1 if queries <= 16 else 2 if queries <= 32 else 4
    head, width = first.depth.as_constant(), second.columns.as_constant()
    if head is None or width is None:
        raise InternalError("the head size of an attention kernel is a constant")
    if arithmetic.instruction == "fma":
        return Schedule(warps * 16, 32, warps, -(-head // 4) * 4, -(-width // 32) * 32)
    return Schedule(
        warps * 16, 64 if arithmetic.operand != "f32" else 32, warps, -(-head // 16) * 16, -(-width // 8) * 8
    )


def _width(arithmetic: Arithmetic, columns: Expression) -> int:
    """Neighbouring columns that one thread holds together; a vector must not straddle the end."""
    width = 4 if arithmetic.instruction == "fma" else 2
    while not columns.divisible_by(width):
        width //= 2
    return width


@dataclass
class _Attention:
    """One program under construction."""

    request: Request
    builder: TileBuilder
    parts: Parts
    first: Contraction
    second: Contraction
    first_arithmetic: Arithmetic
    second_arithmetic: Arithmetic
    schedule: Schedule
    query: Operand
    key: Operand
    value: Operand
    batch: Expression = ONE
    row: Expression = ONE

    def layout(self, columns: int, arithmetic: Arithmetic, stored: bool) -> str:
        """Accumulator layout of a tile of `columns`; its rows lie alike for every number of columns."""
        schedule = self.schedule
        limit = self.second.columns if stored else self.first.columns
        width = _width(arithmetic, limit)
        if arithmetic.instruction == "fma":
            return str(FmaLayout(schedule.rows, columns, schedule.warps, 1, (4, 8), (1, 4), width))
        return str(MmaLayout(schedule.rows, columns, schedule.warps, 1, width))

    @property
    def score_layout(self) -> str:
        return self.layout(self.schedule.keys, self.first_arithmetic, stored=False)

    @property
    def output_layout(self) -> str:
        return self.layout(self.schedule.width, self.second_arithmetic, stored=True)

    @property
    def line_type(self) -> ir.Type:
        """The type of one number per row."""
        rows, keys = self.schedule.rows, self.schedule.keys
        return tile_of(rows, 1, ir.F32Type.get(), reduced_text(1, self.score_layout, rows, keys))


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
        work = _prepare(builder, request)
        blocks = work.first.rows.ceil_divide(work.schedule.rows)
        grid = work.first.batch * blocks
        block = builder.variable(program_id(0), "block", grid)
        batch, row = builder.delinearize(block, (work.first.batch, blocks))
        if work.first.batch != 1:
            batch = builder.variable(builder.index(batch), "batch", work.first.batch)
        work.batch, work.row = batch, row * work.schedule.rows
        output, total = _loop_over_keys(work)
        _store(work, output, total)
        _note_schedule(builder, work)
        builder.finish(work.schedule.threads)
    return finished(request, builder, module, "attention", (grid, ONE, ONE), work.schedule.threads)


def _note_schedule(builder: TileBuilder, work: _Attention) -> None:
    schedule = work.schedule
    values = {"rows": schedule.rows, "keys": schedule.keys, "warps": schedule.warps, "stages": 1}
    builder.set_attribute("tile.minimum_blocks", ir.IntegerAttr.get(ir.IntegerType.get_signless(32), 1))
    builder.set_attribute("tile.schedule", ir.DictAttr.get({name: i64(value) for name, value in values.items()}))


def _prepare(builder: TileBuilder, request: Request) -> _Attention:
    parts = find_parts(request.operations)
    first, second = contraction_of(builder, parts.scores), contraction_of(builder, parts.output)
    if (first.batch, first.rows, first.columns) != (second.batch, second.rows, second.depth):
        raise InternalError(f"kernel {request.name}: the contractions of an attention do not match")
    first_arithmetic, second_arithmetic = arithmetic_of(parts.scores), arithmetic_of(parts.output)
    schedule = _schedule(first, second, first_arithmetic)
    batch = Expression.symbol("%probe_batch") if first.batch != 1 else Expression.constant(0)
    builder.extents["%probe_batch"] = first.batch
    emitter = ElementEmitter(builder)
    query = plan_operand(
        builder,
        emitter,
        lambda row, k: first.left(batch, row, k),
        (first.rows, first.depth),
        0,
        first_arithmetic.operand,
    )
    key = plan_operand(
        builder,
        emitter,
        lambda k, col: first.right(batch, k, col),
        (first.depth, first.columns),
        1,
        first_arithmetic.operand,
    )
    value = plan_operand(
        builder,
        emitter,
        lambda k, col: second.right(batch, k, col),
        (second.depth, second.columns),
        1,
        second_arithmetic.operand,
    )
    return _Attention(
        request,
        builder,
        parts,
        first,
        second,
        first_arithmetic,
        second_arithmetic,
        schedule,
        query.with_block((schedule.rows, schedule.head)),
        key.with_block((schedule.head, schedule.keys)),
        value.with_block((schedule.keys, schedule.width)),
    )


def _loop_over_keys(work: _Attention) -> tuple[ir.Value, ir.Value]:
    """(accumulated output, sum of each row)."""
    builder, schedule, first, second = work.builder, work.schedule, work.first, work.second
    f32 = ir.F32Type.get()
    size = byte_width(scalar_type(work.first_arithmetic.operand))
    query = work.query.at(lambda row, k: first.left(work.batch, row, k))
    key = work.key.at(lambda k, column: first.right(work.batch, k, column))
    value = work.value.at(lambda k, column: second.right(work.batch, k, column))
    instruction = work.first_arithmetic.instruction
    query_tile = allocate(query, shared_layout(query, instruction, size), 1)
    key_tile = allocate(key, shared_layout(key, instruction, size), 1)
    value_size = byte_width(scalar_type(work.second_arithmetic.operand))
    value_tile = allocate(value, shared_layout(value, work.second_arithmetic.instruction, value_size), 1)
    weights_tile = _allocate_weights(work, value_size)
    zero = builder.index(0)
    first_row = builder.index(work.row)
    emitter = ElementEmitter(builder)
    emit_transfer(builder, emitter, query, query_tile, zero, (first_row, zero))
    lines = full_line(work, arith.constant(f32, ir.FloatAttr.get(f32, float("-inf"))))
    sums = full_line(work, arith.constant(f32, 0.0))
    start = full(schedule.rows, schedule.width, work.output_layout, arith.constant(f32, 0.0))
    loop = scf.ForOp(zero, builder.index(first.columns), builder.index(schedule.keys), [lines, sums, start])
    with ir.InsertionPoint(loop.body), builder.region():
        column = loop.induction_variable
        maximum, total, output = loop.inner_iter_args
        emit_transfer(builder, emitter, key, key_tile, zero, (zero, column))
        emit_transfer(builder, emitter, value, value_tile, zero, (column, zero))
        _arrive()
        scores = _dot(work, query_tile, key_tile, _zeros(work), work.first_arithmetic, schedule.keys, work.score_layout)
        scores = _seen(work, scores, column)
        online = _online_softmax(work, scores, maximum, total)
        ir.Operation.create("tile.put", operands=[weights_tile, zero, online.weights])
        scaled = _tile(
            work,
            schedule.width,
            work.output_layout,
            lambda: arith.mulf(element(output, f32), element(online.scale, f32)),
        )
        ir.Operation.create("tile.barrier")
        output_now = _dot(
            work, weights_tile, value_tile, scaled, work.second_arithmetic, schedule.width, work.output_layout
        )
        ir.Operation.create("tile.barrier")
        scf.yield_([online.maximum, online.total, output_now])
    return loop.results[2], loop.results[1]


@dataclass(frozen=True)
class _Online:
    """One step of the online softmax: new running values, the weights, and the factor for what was summed before."""

    maximum: ir.Value
    total: ir.Value
    weights: ir.Value
    scale: ir.Value


def _online_softmax(work: _Attention, scores: ir.Value, maximum: ir.Value, total: ir.Value) -> _Online:
    """Take a tile of scores into the running maximum and sum of each row."""
    f32 = ir.F32Type.get()
    peak = reduce(scores, "max", 1, work.line_type)
    maximum_now = _line(work, lambda: arith.maximumf(element(maximum, f32), element(peak, f32)))
    # A row without any finite score so far keeps the maximum -inf; subtracting it must not give NaN.
    shift = _line(work, lambda: _finite(element(maximum_now, f32)))
    scale = _line(work, lambda: math.exp(arith.subf(element(maximum, f32), element(shift, f32))))
    weights = _tile(
        work,
        work.schedule.keys,
        work.score_layout,
        lambda: math.exp(arith.subf(element(scores, f32), element(shift, f32))),
    )
    part = reduce(weights, "sum", 1, work.line_type)
    total_now = _line(
        work, lambda: arith.addf(arith.mulf(element(total, f32), element(scale, f32)), element(part, f32))
    )
    return _Online(maximum_now, total_now, weights, scale)


def _arrive() -> None:
    """Copies are complete and visible to the whole block."""
    ir.Operation.create("tile.commit")
    ir.Operation.create("tile.wait", attributes={"pending": i64(0)})
    ir.Operation.create("tile.barrier")


def _allocate_weights(work: _Attention, size: int) -> ir.Value:
    """The shared tile through which the softmax's weights become the left operand of the second contraction."""
    schedule = work.schedule
    access = 16 // size
    pieces = schedule.keys // access
    layout = SharedLayout("rows", (pieces + 1 - pieces % 2) * access)
    type_ = tile_of(schedule.rows, schedule.keys, scalar_type(work.second_arithmetic.operand), str(layout))
    return ir.Operation.create("tile.allocate", results=[type_], attributes={"stages": i64(1)}).result


def _zeros(work: _Attention) -> ir.Value:
    f32 = ir.F32Type.get()
    return full(work.schedule.rows, work.schedule.keys, work.score_layout, arith.constant(f32, 0.0))


def full_line(work: _Attention, value: ir.Value) -> ir.Value:
    """One value for every row."""
    return ir.Operation.create("tile.full", results=[work.line_type], operands=[value]).result


def _dot(
    work: _Attention,
    left: ir.Value,
    right: ir.Value,
    start: ir.Value,
    arithmetic: Arithmetic,
    columns: int,
    layout: str,
) -> ir.Value:
    return ir.Operation.create(
        "tile.dot",
        results=[tile_of(work.schedule.rows, columns, ir.F32Type.get(), layout)],
        operands=[left, right, start, work.builder.index(0)],
        attributes={"instruction": ir.StringAttr.get(arithmetic.instruction)},
    ).result


def _finite(value: ir.Value) -> ir.Value:
    lowest = arith.constant(value.type, ir.FloatAttr.get(value.type, float("-inf")))
    same = arith.cmpf(arith.CmpFPredicate.OEQ, value, lowest)
    return arith.select(same, arith.constant(value.type, 0.0), value)


def _line(work: _Attention, body: object) -> ir.Value:
    """A map over one value a row."""
    rows, keys = work.schedule.rows, work.schedule.keys
    return _map(work, (rows, 1), reduced_text(1, work.score_layout, rows, keys), body)


def _tile(work: _Attention, columns: int, layout: str, body: object) -> ir.Value:
    """A map over a whole tile."""
    return _map(work, (work.schedule.rows, columns), layout, body)


def _map(work: _Attention, shape: tuple[int, int], layout: str, body: object) -> ir.Value:
    assert callable(body)
    zero, limit = work.builder.index(0), work.builder.index(1 << 30)
    made = map_(
        work.builder,
        (zero, zero),
        (limit, limit),
        shape,
        layout,
        lambda i, j: body(),
        ir.F32Type.get(),
        full_dimensions=["rows", "columns"],
    )
    assert made is not None
    return made


def _seen(work: _Attention, scores: ir.Value, column: ir.Value) -> ir.Value:
    """What the softmax sees: the maps between the first contraction and the maximum, -inf past the last key."""
    builder, first, schedule = work.builder, work.first, work.schedule
    f32 = ir.F32Type.get()
    result, wanted = work.parts.scores.results[0], work.parts.maximum.operands[0]

    def body(i: ir.Value, j: ir.Value) -> ir.Value:
        row, key = builder.variable(i, "row", first.rows), builder.variable(j, "key", first.columns)
        own = element(scores, f32)
        width = _width(work.first_arithmetic, first.columns)
        with builder.vectorised(key, width):
            if width > 1:
                builder.varying.update((j, own))
            value = convert(own, "f32", element_of(result))
            emitter = ElementEmitter(builder)
            emitter.track(value, own)
            emitter.bind(result, lambda _: value)
            position = first.result(work.batch, row, key)
            found = emitter.element(wanted, forward_position(builder, result, position, wanted))
            return convert(found, element_of(wanted), "f32")

    full_dimensions = ["rows"] if first.rows.divisible_by(schedule.rows) else []
    full_dimensions += ["columns"] if first.columns.divisible_by(schedule.keys) else []
    made = map_(
        builder,
        (builder.index(work.row), column),
        (builder.index(first.rows), builder.index(first.columns)),
        (schedule.rows, schedule.keys),
        work.score_layout,
        body,
        f32,
        ir.FloatAttr.get(f32, float("-inf")),
        full_dimensions,
    )
    assert made is not None
    return made


def _quotient(guard: str, output: ir.Value, total: ir.Value) -> ir.Value:
    """What the weights make of the values; zero where there are none, if the model says so."""
    value, zero = arith.divf(output, total), arith.constant(output.type, 0.0)
    if not guard:
        return value
    test = (arith.CmpFPredicate.UNO, value, value) if guard == "nan" else (arith.CmpFPredicate.OEQ, total, zero)
    return arith.select(arith.cmpf(*test), zero, value)


def _store(work: _Attention, output: ir.Value, total: ir.Value) -> None:
    """Divide by the sums, run the epilogue, store."""
    builder, second, schedule = work.builder, work.second, work.schedule
    f32 = ir.F32Type.get()
    result = work.parts.output.results[0]
    width = _width(work.second_arithmetic, second.columns)

    def body(i: ir.Value, j: ir.Value) -> None:
        row, column = builder.variable(i, "row", second.rows), builder.variable(j, "column", second.columns)
        with builder.vectorised(column, width):
            own = element(output, f32)
            if width > 1:
                builder.varying.update((j, own))
            emitter = ElementEmitter(builder)
            value = emitter.track(_quotient(work.parts.guard, own, element(total, f32)), own)
            value = emitter.track(convert(value, "f32", element_of(result)), value)
            emitter.bind(result, lambda _: value)
            position = second.result(work.batch, row, column)
            for argument, returned in zip(builder.outputs, work.request.returned, strict=True):
                indices = forward_position(builder, result, position, returned)
                offset = builder.linearize(indices, argument.shape)
                store(builder, emitter.element(returned, indices), argument.memory, offset, argument.element)

    complete = ["rows"] if second.rows.divisible_by(schedule.rows) else []
    complete += ["columns"] if second.columns.divisible_by(schedule.width) else []
    zero = builder.index(0)
    map_(
        builder,
        (builder.index(work.row), zero),
        (builder.index(second.rows), builder.index(second.columns)),
        (schedule.rows, schedule.width),
        work.output_layout,
        body,
        full_dimensions=complete,
    )
