"""The program of kernels around one contraction, with prologue and epilogue: matmul and both convolutions.

In: a kernel function of kind ``dot``. Out: the first program that suits it: that of few rows (skinny.py), that of
Hopper's roles (warp_plan.py), or the one written here for all the rest: a block per tile of the result, a loop over k
that brings tiles of both operands to shared memory and multiplies them into an accumulator, and one map that runs the
epilogue and stores. pipeline.py overlaps it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from mlir import ir
from mlir.dialects import arith, scf

from ...dialects.tensors import element_of, scalar_type, shape_of
from ...runtime.errors import UnsupportedError
from ...runtime.symbolic import ONE, Expression, minimum
from ...runtime.tuning import describe
from ..graph.rewriting import mentioned_symbols
from ..lower.context import byte_width
from ..lower.dot_layouts import FmaLayout, MmaLayout
from ..target import Target
from ..unit import KernelProgram
from .builder import TileBuilder
from .contraction import Contraction, Place, contraction_of, find_contraction
from .elements import ElementEmitter
from .epilogue import Position, Rest, ResultTile
from .forward import forward_position
from .paired_results import takes_pairs
from .programs import Request, finished, tile_program
from .results import emit_epilogue
from .schedule import (
    Problem,
    Schedule,
    has_hints,
    size_guess,
    tiled_candidates,
    value_guess,
    without_hints,
)
from .shared_operand import Operand, allocate, emit_transfer, plan_operand, shared_layout
from .skinny import Skinny, few_rows, plan_few_rows, plan_skinny
from .skinny_packed import plan_few_packed, plan_packed
from .tile_order import tile_count, tile_position
from .tile_types import full, i64, program_id, tile_of
from .warp_plan import Fitting, find_fitting, plan_warp_specialized

_INSTRUCTIONS = {"f16": "m16n8k16.f16", "bf16": "m16n8k16.bf16"}
_BYTES = {"i8": "s8", "ui8": "u8"}  # as PTX calls them
_SMALL_FLOATS = {"f8E4M3FN": "e4m3", "f8E5M2": "e5m2"}
LEAST_RUN = 4  # neighbours along k that one access must bring for tensor cores to pay on bytes
_INTEGERS = ("i8", "ui8", "i16", "ui16", "i32", "ui32")


@dataclass(frozen=True)
class Arithmetic:
    """What a contraction computes in: dtype of the operands in shared memory, of the accumulator, and the
    instruction. `right` is the right operand's dtype where it is not the left one's.
    """

    operand: str
    accumulator: str
    instruction: str
    right: str = ""

    @property
    def operands(self) -> tuple[str, str]:
        """Dtypes of the left and the right operand in shared memory; both are equally wide."""
        return self.operand, self.right or self.operand

    @property
    def along_depth(self) -> bool:
        """The instruction reads only operands that are contiguous along k."""
        return self.operand in _BYTES or self.operand in _SMALL_FLOATS

    @property
    def wider(self) -> Arithmetic:
        """What computes the same where bytes do not run along k."""
        return WIDE_INTEGERS if self.operand in _BYTES else WIDER_FLOATS


WIDE_INTEGERS = Arithmetic("i32", "i32", "fma")
WIDER_FLOATS = Arithmetic("f16", "f32", _INSTRUCTIONS["f16"])  # every 8-bit float is a half


def arithmetic_of(operation: ir.Operation, is_swapped: bool = False, target: Target | None = None) -> Arithmetic:
    """The arithmetic that the operand types and the `precision` attribute ask for; `is_swapped`: of the problem whose
    left operand is the operation's right one. 8-bit floats are multiplied themselves on a `target` that can; without
    one, as halves. Raises UnsupportedError.
    """
    left, right = (element_of(operand) for operand in operation.operands)
    if is_swapped:
        left, right = right, left
    if left == right and left in _INSTRUCTIONS:
        return Arithmetic(left, "f32", _INSTRUCTIONS[left])
    kinds = {left, right}
    if kinds <= _SMALL_FLOATS.keys():
        if target is None or "f8" not in target.mma:
            return WIDER_FLOATS
        return Arithmetic(left, "f32", f"m16n8k32.{_SMALL_FLOATS[left]}.{_SMALL_FLOATS[right]}", right)
    if kinds <= _BYTES.keys():
        return Arithmetic(left, "i32", f"m16n8k32.{_BYTES[left]}.{_BYTES[right]}", right)
    if kinds <= {*_INTEGERS}:
        return WIDE_INTEGERS
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


class DotProgram(Protocol):
    """What is emitted for one contraction."""

    @property
    def grid(self) -> Expression:
        """Blocks of a launch."""

    @property
    def threads(self) -> int:
        """Threads of a block."""

    def emit(self) -> None:
        """Emit everything at the current insertion point."""


Planner = Callable[[TileBuilder, Contraction, Arithmetic, Request], "DotProgram | None"]


@tile_program("dot")
def dot_program(request: Request) -> KernelProgram:
    """
    before: a function around one contraction: C = epilogue(A x B)
    after:  accumulator = scf.for k { tile.copy A; tile.copy B; tile.barrier; tile.dot; tile.barrier };
    tile.map { epilogue; tile.store }

    Where rows are not known but typically few, a second kernel is for those, and one of both has an empty grid.
    """
    few, found = None, None
    if has_hints(mentioned_symbols(request.function)):
        few, view = _emitted(replace(request, name=f"{request.name}_few"), _plan_few)
        found = few_rows(view)
    if few is None or found is None:
        program, _ = _emitted(request, _plan_suited)
        assert program is not None
        return program
    turned, most = found
    many = minimum(turned.rows // (most + 1), 1)
    few = replace(few, grid=(few.grid[0] * (minimum(turned.rows, 1) - many), *few.grid[1:]))
    with without_hints(turned.rows.symbols):  # more rows than are typical
        program, _ = _emitted(request, _plan_suited)
    assert program is not None
    return replace(program, grid=(program.grid[0] * many, *program.grid[1:]), alternatives=[few])


def _plan_suited(builder: TileBuilder, view: Contraction, arithmetic: Arithmetic, request: Request) -> DotProgram:
    return (
        _plan_skinny(builder, view, arithmetic, request)
        or plan_warp_specialized(builder, view, arithmetic.instruction != "fma", request)
        or _plan_tiled(builder, view, arithmetic, request)
    )


def _plan_skinny(
    builder: TileBuilder, view: Contraction, arithmetic: Arithmetic, request: Request
) -> DotProgram | None:
    own = builder, view, arithmetic.accumulator, request
    return plan_packed(*own) or plan_skinny(*own)


def _plan_few(builder: TileBuilder, view: Contraction, arithmetic: Arithmetic, request: Request) -> DotProgram | None:
    own = builder, view, arithmetic.accumulator, request
    return plan_few_packed(*own) or plan_few_rows(*own)


def study(request: Request) -> Fitting | None:
    """What the warp-specialised program of a kernel would be chosen from; None where it has, or may have at run time,
    another program, or another side of the product in front. Emits nothing that is kept.
    """

    def plan(builder: TileBuilder, view: Contraction, arithmetic: Arithmetic, request: Request) -> DotProgram | None:
        may_be_few = has_hints(mentioned_symbols(request.function)) and few_rows(view) is not None
        if not may_be_few and _plan_skinny(builder, view, arithmetic, request) is None:
            found.append(find_fitting(builder, view, arithmetic.instruction != "fma", request))
        return None

    found: list[Fitting | None] = []
    _emitted(request, plan)
    fitting = found[0] if found else None
    return None if fitting is None or fitting.view.is_swapped else fitting


def few_rows_program(request: Request) -> Skinny | None:
    """The program of few rows that a kernel has, its rows on the left of the product as in the model; None where it
    has, or may have at run time, another. Emits nothing that is kept.
    """

    def plan(builder: TileBuilder, view: Contraction, arithmetic: Arithmetic, request: Request) -> DotProgram | None:
        found.append(plan_skinny(builder, view, arithmetic.accumulator, request))
        return None

    found: list[Skinny | None] = []
    _emitted(request, plan)
    return None if not found or found[0] is None or found[0].view.is_swapped else found[0]


def _emitted(request: Request, plan: Planner) -> tuple[KernelProgram | None, Contraction]:
    """The kernel that `plan` finds, if it does, and the view of the contraction."""
    builder = TileBuilder(request.function, request.name)
    module = builder.declare()
    with ir.InsertionPoint(builder.block):
        operation = find_contraction(request.function)
        view = contraction_of(builder, operation)
        if takes_pairs(operation):
            view = replace(view, pairs=1)
        elif _prefers_swapped(builder, view, request.returned[0]):
            view = view.swapped()
        arithmetic = arithmetic_of(operation, view.is_swapped, request.target)
        program = plan(builder, view, arithmetic, request)
        if program is None:
            return None, view
        builder.set_attribute("tile.minimum_blocks", ir.IntegerAttr.get(ir.IntegerType.get_signless(32), 1))
        program.emit()
        builder.finish(program.threads)
    return finished(request, builder, module, "dot", (program.grid, ONE, ONE), program.threads), view


@dataclass
class Tiled:
    """The program of a block per tile, and everything that is decided before its first operation is emitted."""

    builder: TileBuilder
    view: Contraction
    arithmetic: Arithmetic
    schedule: Schedule
    left: Operand
    right: Operand
    returned: list[ir.Value]

    @property
    def grid(self) -> Expression:
        return tile_count(self.view, self.tile_shape)

    @property
    def threads(self) -> int:
        return self.schedule.threads

    def emit(self) -> None:
        """A tile of the result: its loop over k and its epilogue."""
        builder, shape = self.builder, self.tile_shape
        builder.set_attribute("tile.schedule", self.schedule.attribute())
        number = builder.variable(program_id(0), "block", self.grid)
        position = tile_position(builder, self.view, number, shape, strips=False)
        sums = _main_loop(self, position)
        tile = ResultTile(shape, self.result_layout, self.width, self.arithmetic.accumulator, shape)
        emit_epilogue(Rest(builder, self.view, self.returned), tile, position, sums)

    @property
    def tile_shape(self) -> tuple[int, int]:
        return self.schedule.block[0], self.schedule.block[1]

    @property
    def width(self) -> int:
        """Neighbouring columns that one thread stores together; a vector must not straddle the end."""
        width = self.vector[1] if self.arithmetic.instruction == "fma" else 2
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
        if self.arithmetic.instruction == "fma":
            lanes = self.schedule.lanes
            return str(FmaLayout(rows, columns, *warps, lanes, self.vector, self.width, self.schedule.warp_depth))
        return str(MmaLayout(rows, columns, *warps, self.width, self.schedule.warp_depth))

    @property
    def result_layout(self) -> str:
        """Layout text of the sums as the epilogue sees them: the accumulator's own, or neighbours in one thread where
        groups of warps have shared k.
        """
        if self.schedule.warp_depth == 1:
            return self.layout
        across = min(self.tile_shape[1] // self.width, self.schedule.threads)
        return f"blocked<{self.schedule.threads // across}x{across}, vector={self.width}>"


# Decisions --------------------------------------------------------------------------------------------------
def _plan_tiled(builder: TileBuilder, view: Contraction, arithmetic: Arithmetic, request: Request) -> Tiled:
    batch = _stand_in(builder, "%probe_batch", view.batch)
    emitter = ElementEmitter(builder)

    def left_place(row: Expression, depth: Expression) -> Place:
        return view.left(batch, row, depth)

    def right_place(depth: Expression, column: Expression) -> Place:
        return view.right(batch, depth, column)

    dtypes, along_depth = arithmetic.operands, arithmetic.along_depth
    left = plan_operand(builder, emitter, left_place, (view.rows, view.depth), 0, dtypes[0], along_depth)
    right = plan_operand(builder, emitter, right_place, (view.depth, view.columns), 1, dtypes[1], along_depth)
    if along_depth and min(left.vector, right.vector) < LEAST_RUN:
        return _plan_tiled(builder, view, arithmetic.wider, request)
    size = byte_width(scalar_type(arithmetic.operand))
    problem = Problem(view.batch, view.rows, view.columns, view.depth, size)
    candidates = tiled_candidates(problem, arithmetic.instruction, request.target)
    reads = f"{arithmetic.instruction} left={left.fast} right={right.fast}"
    schedule = request.choose("tiled", f"{describe(problem)} {reads}", candidates)
    rows, columns, depth = schedule.block
    staged = left.with_block((rows, depth)), right.with_block((depth, columns))
    return Tiled(builder, view, arithmetic, schedule, *staged, request.returned)


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
def _main_loop(plan: Tiled, position: Position) -> ir.Value:
    """The loop over k; returns the accumulator."""
    builder, (batch, row, column) = plan.builder, position
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


def _dot_attributes(plan: Tiled) -> dict[str, ir.Attribute]:
    """`pinned` when the loop has one step at most: see passes/lower/dot.py."""
    attributes: dict[str, ir.Attribute] = {"instruction": ir.StringAttr.get(plan.arithmetic.instruction)}
    depth = plan.view.depth.as_constant()
    if depth is not None and depth <= plan.schedule.block[2]:
        attributes["pinned"] = ir.UnitAttr.get()
    return attributes
