"""The program of kernels around one contraction, with prologue and epilogue: matmul and both convolutions.

In: a kernel function of kind ``dot``. Out: a tile program: a block per tile of the result, a loop over k that
brings tiles of both operands to shared memory and multiplies them into an accumulator, and one map that runs
the epilogue and stores. pipeline.py overlaps it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from mlir import ir
from mlir.dialects import arith, scf

from ...dialects.tensors import element_of, scalar_type, shape_of
from ...runtime.errors import UnsupportedError
from ...runtime.symbolic import ONE, Expression, expression
from ..lower.context import byte_width
from ..lower.dot_layouts import FmaLayout, MmaLayout, WarpgroupLayout
from ..target import Target
from ..unit import KernelProgram
from .boxes import Boxes, find_boxes
from .builder import TileBuilder
from .contraction import Contraction, Place, contraction_of, find_contraction
from .elements import ElementEmitter
from .forward import forward_position
from .programs import Request, finished, tile_program
from .results import store_results
from .schedule import (
    Problem,
    Schedule,
    choose_schedule,
    size_guess,
    value_guess,
)
from .schedule_wgmma import wgmma_candidates
from .shared_operand import Operand, allocate, emit_transfer, plan_operand, shared_layout
from .skinny import Skinny, plan_skinny
from .tile_types import ACCESS_BYTES, element, full, i64, map_, program_id, tile_of
from .warp_specialized import EXCHANGE_COLUMNS, Position, WarpSpecialized

_INSTRUCTIONS = {"f16": "m16n8k16.f16", "bf16": "m16n8k16.bf16"}
LEAST_WGMMA = 64  # rows, columns and k: smaller problems leave most of a wgmma empty
_INTEGERS = ("i8", "ui8", "i16", "ui16", "i32", "ui32")


@dataclass(frozen=True)
class Arithmetic:
    """What a contraction computes in: dtype of the operands in shared memory, of the accumulator, and the
    instruction.
    """

    operand: str
    accumulator: str
    instruction: str


def arithmetic_of(operation: ir.Operation) -> Arithmetic:
    """The arithmetic that the operand types and the `precision` attribute ask for. Raises
    UnsupportedError.
    """
    left, right = (element_of(operand) for operand in operation.operands)
    if left == right and left in _INSTRUCTIONS:
        return Arithmetic(left, "f32", _INSTRUCTIONS[left])
    kinds = {left, right}
    if kinds <= {*_INTEGERS}:
        return Arithmetic("i32", "i32", "fma")
    if kinds <= {*_INTEGERS, "i64", "ui64"}:
        return Arithmetic("i64", "i64", "fma")
    if "f64" in kinds and kinds <= {"f16", "bf16", "f32", "f64"}:
        return Arithmetic("f64", "f64", "fma")
    if kinds <= {"f16", "bf16", "f32"}:
        tf32 = "precision" in operation.attributes and ir.StringAttr(operation.attributes["precision"]).value == "tf32"
        return Arithmetic("f32", "f32", "m16n8k8.tf32" if tf32 else "fma")
    raise UnsupportedError(
        f"a contraction of {left} with {right}\n  supported: floats with floats, integers with integers"
    )


@dataclass
class _Plan:
    """Everything decided before the first operation is emitted."""

    view: Contraction
    arithmetic: Arithmetic
    schedule: Schedule
    left: Operand
    right: Operand
    returned: list[ir.Value]
    boxes: tuple[Boxes, Boxes] | None = None  # operands of the warp-specialised program

    @property
    def result_value(self) -> ir.Value:
        return self.view.operation.results[0]

    @property
    def tile_shape(self) -> tuple[int, int]:
        return self.schedule.block[0], self.schedule.block[1]

    @property
    def finished_shape(self) -> tuple[int, int]:
        """Rows and columns of which one block runs the epilogue."""
        return self.schedule.block[0] // self.schedule.split, self.schedule.block[1]

    @property
    def blocks(self) -> tuple[Expression, Expression]:
        """Blocks (or clusters of them, which stand one below the other) along rows and along columns."""
        rows, columns = self.tile_shape
        return self.view.rows.ceil_divide(rows * self.schedule.cluster), self.view.columns.ceil_divide(columns)

    @property
    def count(self) -> Expression:
        """Tiles of the result."""
        return self.view.batch * self.blocks[0] * self.blocks[1]

    @property
    def width(self) -> int:
        """Neighbouring columns that one thread stores together; a vector must not straddle the end."""
        width = 2
        if self.schedule.producers:
            stored = min(byte_width(scalar_type(element_of(value))) for value in self.returned)
            rows, columns = self.finished_shape
            width = min(max(2, ACCESS_BYTES // stored), rows * columns // self.schedule.consumers)
        elif self.arithmetic.instruction == "fma":
            width = self.vector[1]
        while not self.view.columns.divisible_by(width):
            width //= 2
        return width

    @property
    def vector(self) -> tuple[int, int]:
        """Neighbours in a thread's part of an fma tile: what one access reads where an operand is not
        contiguous along k.
        """
        access = 16 // byte_width(scalar_type(self.arithmetic.operand))
        rows, columns = self.schedule.each
        down = access if self.left.fast == 0 and rows % access == 0 else 1
        across = access if self.right.fast == 1 and columns % access == 0 else 1
        return down, across

    @property
    def layout(self) -> str:
        """Layout text of the accumulator."""
        rows, columns = self.tile_shape
        warps = self.schedule.warps
        if self.schedule.producers:
            return str(WarpgroupLayout(rows, columns, warps[0] // 4))
        if self.arithmetic.instruction == "fma":
            lanes = self.schedule.lanes
            return str(FmaLayout(rows, columns, *warps, lanes, self.vector, self.width, self.schedule.warp_depth))
        return str(MmaLayout(rows, columns, *warps, self.width, self.schedule.warp_depth))

    @property
    def result_layout(self) -> str:
        """Layout text of the sums as the epilogue sees them: the accumulator's own, or neighbours in one thread where
        they went through shared memory.
        """
        if self.schedule.producers:
            strip = EXCHANGE_COLUMNS if self.schedule.split == 1 else self.tile_shape[1]
            across = min(strip // self.width, self.schedule.consumers)
            return f"blocked<{self.schedule.consumers // across}x{across}, vector={self.width}>"
        if self.schedule.warp_depth == 1:
            return self.layout
        across = min(self.tile_shape[1] // self.width, self.schedule.threads)
        return f"blocked<{self.schedule.threads // across}x{across}, vector={self.width}>"


@tile_program("dot")
def dot_program(request: Request) -> KernelProgram:
    """
    before: a function around one contraction: C = epilogue(A x B)
    after:  accumulator = scf.for k { tile.copy A; tile.copy B; tile.barrier; tile.dot; tile.barrier };
    tile.map { epilogue; tile.store }
    """
    builder = TileBuilder(request.function, request.name)
    module = builder.declare()
    with ir.InsertionPoint(builder.block):
        builder.set_attribute("tile.minimum_blocks", ir.IntegerAttr.get(ir.IntegerType.get_signless(32), 1))
        skinny = _skinny(builder, request)
        if skinny is not None:
            skinny.emit()
            builder.finish(skinny.schedule.count)
            return finished(request, builder, module, "dot", (skinny.grid, ONE, ONE), skinny.schedule.count)
        plan = _make_plan(builder, request)
        builder.set_attribute("tile.schedule", plan.schedule.attribute())
        if plan.boxes is not None:
            grid = _specialized(builder, plan, plan.boxes)
        else:
            grid = plan.count
            batch, row, column = _position(builder, plan, builder.variable(program_id(0), "block", grid))
            accumulator = _main_loop(builder, plan, batch, row, column)
            _epilogue(builder, plan, batch, (builder.index(row), builder.index(column)), accumulator)
        builder.finish(plan.schedule.threads)
    return finished(request, builder, module, "dot", (grid, ONE, ONE), plan.schedule.threads)


# Decisions --------------------------------------------------------------------------------------------------
def _skinny(builder: TileBuilder, request: Request) -> Skinny | None:
    """The program for few rows, where that suits the contraction."""
    operation = find_contraction(request.function)
    view = contraction_of(builder, operation)
    return plan_skinny(builder, view, arithmetic_of(operation).accumulator, request.returned, request.target)


def _make_plan(builder: TileBuilder, request: Request) -> _Plan:
    operation = find_contraction(request.function)
    arithmetic = arithmetic_of(operation)
    returned = request.returned
    view = contraction_of(builder, operation)
    if _prefers_swapped(builder, view, returned[0]):
        view = view.swapped()
    batch = _stand_in(builder, "%probe_batch", view.batch)
    emitter = ElementEmitter(builder)

    def left_place(row: Expression, depth: Expression) -> Place:
        return view.left(batch, row, depth)

    def right_place(depth: Expression, column: Expression) -> Place:
        return view.right(batch, depth, column)

    left = plan_operand(builder, emitter, left_place, (view.rows, view.depth), 0, arithmetic.operand)
    right = plan_operand(builder, emitter, right_place, (view.depth, view.columns), 1, arithmetic.operand)
    size = byte_width(scalar_type(arithmetic.operand))
    problem = Problem(view.batch, view.rows, view.columns, view.depth, size)
    boxes = _boxes(builder, view, arithmetic, request.target)
    if boxes is not None:
        schedule = wgmma_candidates(problem, arithmetic.operand, request.target)[0].schedule
        arithmetic = replace(arithmetic, instruction=schedule.instruction)
    else:
        schedule = choose_schedule(problem, arithmetic.instruction, request.target)
    rows, columns, depth = schedule.block
    return _Plan(
        view,
        arithmetic,
        schedule,
        left.with_block((rows, depth)),
        right.with_block((depth, columns)),
        returned,
        boxes,
    )


def _boxes(
    builder: TileBuilder, view: Contraction, arithmetic: Arithmetic, target: Target
) -> tuple[Boxes, Boxes] | None:
    """Both operands in boxes, where the target has wgmma and the problem is large enough for it."""
    depth = view.depth.as_constant() or 0
    if not target.wgmma or arithmetic.instruction == "fma" or not depth:
        return None
    if min(size_guess(view.rows), size_guess(view.columns), depth) < LEAST_WGMMA:
        return None
    return find_boxes(builder, view, arithmetic.operand)


def _stand_in(builder: TileBuilder, name: str, extent: Expression) -> Expression:
    """A symbol without a value, to study index functions before anything is emitted."""
    if extent == 1:
        return Expression.constant(0)
    builder.extents[name] = extent
    return Expression.symbol(name)


def _prefers_swapped(builder: TileBuilder, view: Contraction, returned: ir.Value) -> bool:
    """True when neighbouring rows, not columns, of the view are neighbours in the result's memory."""
    names = ["%probe_batch", "%probe_row", "%probe_column"]
    position = [
        _stand_in(builder, name, extent)
        for name, extent in zip(names, (view.batch, view.rows, view.columns), strict=True)
    ]
    indices = forward_position(builder, view.operation.results[0], view.result(*position), returned)
    offset = builder.linearize(indices, shape_of(returned))
    values = {name: 1 if name.startswith("%") else size_guess(Expression.symbol(name)) for name in offset.symbols}

    def neighbours(name: str, extent: Expression) -> int:
        steps = min(8, size_guess(extent))
        if name not in offset.symbols:
            return 0
        offsets = [value_guess(offset, {**values, name: step}) for step in range(steps)]
        return sum(after - before == 1 for before, after in itertools.pairwise(offsets))

    return neighbours("%probe_row", view.rows) > neighbours("%probe_column", view.columns)


# Emission ---------------------------------------------------------------------------------------------------
def _specialized(builder: TileBuilder, plan: _Plan, boxes: tuple[Boxes, Boxes]) -> Expression:
    """The program with a producer and consumers; returns its grid."""
    program = WarpSpecialized(
        builder,
        plan.view,
        plan.schedule,
        boxes,
        (plan.layout, plan.result_layout),
        plan.count,
        lambda number: _position(builder, plan, number),
    )

    def epilogue(position: Position, accumulator: ir.Value) -> None:
        batch, row, column = position
        _epilogue(builder, plan, batch, (builder.index(row), builder.index(column)), accumulator)

    program.emit(epilogue)
    if plan.schedule.together > 1:
        builder.set_attribute("tile.cluster", i64(plan.schedule.together))
    return program.grid


def _strip(across: Expression) -> int:
    """Tiles of a strip of columns: with a multiprocessor for each of some hundred tiles, about as many as rows."""
    return next((width for width in (8, 6, 4) if across.divisible_by(width) and across != width), 1)


def _position(builder: TileBuilder, plan: _Plan, block: Expression) -> Position:
    """(batch, first row, first column) of a tile of the result, by its number.

    The blocks which run at the same time should share what they read: columns run in strips of a few tiles, or, where
    they do not divide, the one of rows and columns with fewer tiles runs fastest.
    """
    down, across = plan.blocks
    strip = _strip(across) if plan.schedule.producers else 1
    if strip > 1:
        batch, outer, row, inner = builder.delinearize(
            block, (plan.view.batch, across.exact_divide(strip) or across, down, expression(strip))
        )
        column = outer * strip + inner
    elif size_guess(down) <= size_guess(across):
        batch, column, row = builder.delinearize(block, (plan.view.batch, across, down))
    else:
        batch, row, column = builder.delinearize(block, (plan.view.batch, down, across))
    rows, columns = plan.tile_shape
    rows *= plan.schedule.cluster
    if plan.view.batch != 1:
        batch = builder.variable(builder.index(batch), "batch", plan.view.batch)
    return batch, row * rows, column * columns


def _main_loop(builder: TileBuilder, plan: _Plan, batch: Expression, row: Expression, column: Expression) -> ir.Value:
    """The loop over k; returns the accumulator."""
    rows, columns = plan.tile_shape
    accumulator_type = scalar_type(plan.arithmetic.accumulator)
    zero = arith.constant(accumulator_type, 0.0 if isinstance(accumulator_type, ir.FloatType) else 0)
    start = full(rows, columns, plan.layout, zero)
    size = byte_width(scalar_type(plan.arithmetic.operand))
    view, instruction = plan.view, plan.arithmetic.instruction
    left = plan.left.at(lambda own, depth: view.left(batch, own, depth))
    right = plan.right.at(lambda depth, own: view.right(batch, depth, own))
    left_tile = allocate(left, shared_layout(left, instruction, size), 1)
    right_tile = allocate(right, shared_layout(right, instruction, size), 1)
    stage, first_row, first_column = builder.index(0), builder.index(row), builder.index(column)
    emitter = ElementEmitter(builder)
    loop = scf.ForOp(stage, builder.index(view.depth), builder.index(plan.schedule.block[2]), [start])
    with ir.InsertionPoint(loop.body), builder.region():
        depth = loop.induction_variable
        emit_transfer(builder, emitter, left, left_tile, stage, (first_row, depth))
        emit_transfer(builder, emitter, right, right_tile, stage, (depth, first_column))
        ir.Operation.create("tile.commit")
        ir.Operation.create("tile.wait", attributes={"pending": i64(0)})
        ir.Operation.create("tile.barrier")
        product = ir.Operation.create(
            "tile.dot",
            results=[tile_of(rows, columns, accumulator_type, plan.layout)],
            operands=[left_tile, right_tile, loop.inner_iter_args[0], stage],
            attributes=_dot_attributes(plan),
        ).result
        ir.Operation.create("tile.barrier")
        scf.yield_([product])
    if plan.schedule.warp_depth == 1:
        return loop.results[0]
    return ir.Operation.create(
        "tile.combine",
        results=[tile_of(rows, columns, accumulator_type, plan.result_layout)],
        operands=[loop.results[0], left_tile],
    ).result


def _dot_attributes(plan: _Plan) -> dict[str, ir.Attribute]:
    """`pinned` when the loop has one step at most: see passes/lower/dot.py."""
    attributes: dict[str, ir.Attribute] = {"instruction": ir.StringAttr.get(plan.arithmetic.instruction)}
    depth = plan.view.depth.as_constant()
    if depth is not None and depth <= plan.schedule.block[2]:
        attributes["pinned"] = ir.UnitAttr.get()
    return attributes


def _epilogue(
    builder: TileBuilder,
    plan: _Plan,
    batch: Expression,
    origin: tuple[ir.Value, ir.Value],
    accumulator: ir.Value,
) -> None:
    """One map over the accumulator: convert, run the rest of the kernel, store."""
    view, arithmetic = plan.view, plan.arithmetic
    width = plan.width

    def body(i: ir.Value, j: ir.Value) -> None:
        row = builder.variable(i, "row", view.rows)
        column = builder.variable(j, "column", view.columns)
        with builder.vectorised(column, width):
            if width > 1:
                builder.varying.add(j)
            own = element(accumulator, scalar_type(arithmetic.accumulator))
            store_results(builder, view, plan.returned, (own, arithmetic.accumulator), (batch, row, column))

    rows, columns = plan.tile_shape
    complete = [
        name
        for name, extent, block in (
            ("rows", view.rows, rows * plan.schedule.cluster),
            ("columns", view.columns, columns),
        )
        if extent.divisible_by(block)
    ]
    limits = (builder.index(view.rows), builder.index(view.columns))
    map_(builder, origin, limits, plan.finished_shape, plan.result_layout, body, full_dimensions=complete)
