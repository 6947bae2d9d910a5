"""The program of loops that read across their results: transposes, with what stands before and after them.

In: a kernel function of kind ``loop`` some of whose values are transposes which bring another dimension to the end.
Out: blocks of a square of elements each: read along the dimension that is contiguous in the operand, turned in shared
memory, stored along that of the result, 16 bytes an access on both sides; or None where ordinary loops do as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlir import ir

from ...dialects.tensors import Shape, element_of, scalar_type, shape_of
from ...runtime.symbolic import ONE, Expression, product
from ..graph.rewriting import integers
from ..lower.dot_layouts import SharedLayout
from ..unit import KernelProgram
from .builder import TileBuilder, bytes_of
from .contraction import Place
from .elements import MOVEMENT_RULES, ElementEmitter, Indices
from .programs import Request, finished
from .schedule import size_guess
from .shared_operand import plan_operand
from .tile_types import ACCESS_BYTES, element, i64, map_, program_id, store, tile_of

LINE_BYTES = 128  # of a line of the square: what a warp reads of it should be whole lines of the cache
WORD_BYTES = 4  # of one write to shared memory: a thread packs so many rows
LEAST_ACCESS = 4  # bytes, of what is read along the operand
THREADS = 256


@dataclass(frozen=True)
class Axes:
    """The result's dimensions in three runs: outer ones, then those up to `middle` along which operands are contiguous,
    then the rest, along which the result is.
    """

    begin: int
    middle: int

    def cut(self, shape: Shape) -> tuple[Shape, Shape, Shape]:
        """A shape in these runs."""
        return shape[: self.begin], shape[self.begin : self.middle], shape[self.middle :]


@dataclass(frozen=True)
class Square:
    """A block's part of the result: `side` x `side`, with `packed` rows of a thread in one word."""

    side: int
    packed: int
    reading: int  # neighbours in one access to the operands
    writing: int  # and to the result

    def layout(self, vector: int, down: int = 1) -> str:
        """A grid of threads over the square."""
        across = self.side // vector
        rows = min(self.threads // across, self.side // down)
        return f"blocked<{rows}x{across}, vector={vector}{f', down={down}' if down > 1 else ''}>"

    @property
    def threads(self) -> int:
        """No more than have something to read, and something to write: a result may be narrower than what is turned."""
        return min(THREADS, self.side * self.side // max(self.packed * self.reading, self.writing))


@dataclass
class _Turned:
    """One program under construction: the values that are turned, and the result's position in three numbers."""

    builder: TileBuilder
    shape: Shape
    axes: Axes
    square: Square
    values: list[ir.Value]
    outer: Expression

    def indices(self, middle: Expression, last: Expression) -> Indices:
        """The position in the result."""
        return position(self.builder, self.axes.cut(self.shape), (self.outer, middle, last))


def position(builder: TileBuilder, runs: tuple[Shape, Shape, Shape], numbers: tuple[Expression, ...]) -> Indices:
    """Indices from a number in each run of dimensions."""
    found: list[Expression] = []
    for number, run in zip(numbers, runs, strict=True):
        found += builder.delinearize(number, run) if run else ()
    return tuple(found)


def turned_program(request: Request) -> KernelProgram | None:
    """
    before: a loop over maps of transposes
    after:  tile.map along the operands; tile.turn; tile.map along the result, which stores
    """
    shape = shape_of(request.returned[0])
    found = [(operation.results[0], _axes(operation, shape)) for operation in request.operations]
    axes = next((axes for _, axes in found if axes is not None), None)
    if axes is None:
        return None
    values = [value for value, own in found if own == axes]
    builder = TileBuilder(request.function, request.name)
    module = builder.declare()
    with ir.InsertionPoint(builder.block):
        square = _square(builder, request, shape, axes, values)
        if square is None:
            return None
        outer, middle, last = (product(list(run)) for run in axes.cut(shape))
        counts = (outer, middle.ceil_divide(square.side), last.ceil_divide(square.side))
        count = product(list(counts))
        block = builder.variable(program_id(0), "block", count)
        number, *places = builder.delinearize(block, counts)
        if outer != 1:
            number = builder.variable(builder.index(number), "outer", outer)
        _emit(request, _Turned(builder, shape, axes, square, values, number), (places[0], places[1]), (middle, last))
        builder.finish(square.threads)
    return finished(request, builder, module, "loop", (count, ONE, ONE), square.threads)


# Decisions ------------------------------------------------------------------------------------------------------
def _axes(operation: ir.Operation, shape: Shape) -> Axes | None:
    """How the result of a transpose divides, when its last dimension is not the operand's, and both are long enough."""
    if operation.name != "graph.transpose" or shape_of(operation.results[0]) != shape:
        return None
    order = integers(operation, "permutation")
    real = [axis for axis in range(len(shape)) if shape[axis] != 1]
    if not real:
        return None
    inner = max(order[axis] for axis in real)
    begin = order.index(inner)
    middle = begin + 1
    if begin == real[-1]:
        return None
    while begin > 0 and order[begin - 1] == order[begin] - 1:
        begin -= 1
    _, along, across = Axes(begin, middle).cut(shape)
    side = LINE_BYTES // bytes_of(element_of(operation.results[0]))
    short = min(size_guess(product(list(along))), size_guess(product(list(across)))) < side // 2
    return None if short or element_of(operation.results[0]) == "i1" else Axes(begin, middle)


def _square(
    builder: TileBuilder, request: Request, shape: Shape, axes: Axes, values: list[ir.Value]
) -> Square | None:
    """How wide accesses are; None where the operands are no better read along than across."""
    runs = axes.cut(shape)
    numbers = [product(list(run)) for run in runs]
    builder.extents["%probe_outer"] = numbers[0]
    outer = Expression.symbol("%probe_outer") if numbers[0] != 1 else Expression.constant(0)
    widths, emitter = [], ElementEmitter(builder)
    for value in values:

        def place(last: Expression, middle: Expression, value: ir.Value = value) -> Place:
            return _moved_from(builder, value, position(builder, runs, (outer, middle, last)))

        operand = plan_operand(builder, emitter, place, (numbers[2], numbers[1]), 0, element_of(value))
        if operand.fast != 1 or operand.vector * bytes_of(operand.element) < LEAST_ACCESS:
            return None
        widths.append(operand.vector)
    size = max(bytes_of(element_of(value)) for value in values)
    writing = ACCESS_BYTES // max(bytes_of(element_of(value)) for value in request.returned)
    while not numbers[2].divisible_by(writing):
        writing //= 2
    return Square(LINE_BYTES // size, max(1, WORD_BYTES // size), min(widths), writing)


def _moved_from(builder: TileBuilder, value: ir.Value, indices: Indices) -> Place:
    """The element in front of all data movement."""
    while not isinstance(value.owner, ir.Block) and value.owner.name in MOVEMENT_RULES:
        indices = MOVEMENT_RULES[value.owner.name](builder, value.owner, indices)
        value = value.owner.operands[0]
    return Place(value, indices)


# Emission -------------------------------------------------------------------------------------------------------
def _emit(
    request: Request, turned: _Turned, places: tuple[Expression, Expression], extents: tuple[Expression, Expression]
) -> None:
    builder, square = turned.builder, turned.square
    middle, last = (place * square.side for place in places)
    whole = [extent.divisible_by(square.side) for extent in extents]
    tiles = {value: _turned_tile(turned, value, (middle, last), extents, whole) for value in turned.values}
    emitter = ElementEmitter(builder)

    def body(i: ir.Value, j: ir.Value) -> None:
        row, column = builder.variable(i, "middle", extents[0]), builder.variable(j, "last", extents[1])
        with builder.vectorised(column, square.writing):
            if square.writing > 1:
                builder.varying.add(j)
            indices = turned.indices(row, column)
            inside = emitter.fresh()
            for value, tile in tiles.items():
                _bind(builder, inside, value, tile, indices)
            for argument, value in zip(builder.outputs, request.returned, strict=True):
                offset = builder.offset(argument, indices)
                store(builder, inside.element(value, indices), argument.memory, offset, argument.element)

    map_(
        builder,
        (builder.index(middle), builder.index(last)),
        (builder.index(extents[0]), builder.index(extents[1])),
        (square.side, square.side),
        square.layout(square.writing),
        body,
        full_dimensions=[name for name, full in zip(("rows", "columns"), whole, strict=True) if full],
    )


def _bind(builder: TileBuilder, emitter: ElementEmitter, value: ir.Value, tile: ir.Value, where: Indices) -> None:
    """Let the emitter take the value at that position from a tile."""

    def read(indices: Indices) -> ir.Value | None:
        if indices != where:
            return None
        own = element(tile, scalar_type(element_of(value)))
        if builder.vector is not None and builder.vector.width > 1:
            builder.varying.add(own)
        return own

    emitter.bind(value, read)


def _turned_tile(
    turned: _Turned,
    value: ir.Value,
    origin: tuple[Expression, Expression],
    extents: tuple[Expression, Expression],
    whole: list[bool],
) -> ir.Value:
    """The square of a value: read with the operand's contiguous dimension along the columns, then turned."""
    builder, square = turned.builder, turned.square
    type_, side = scalar_type(element_of(value)), square.side

    def body(i: ir.Value, j: ir.Value) -> ir.Value:
        row, column = builder.variable(i, "last", extents[1]), builder.variable(j, "middle", extents[0])
        with builder.vectorised(column, square.reading):
            if square.reading > 1:
                builder.varying.add(j)
            return ElementEmitter(builder).element(value, turned.indices(column, row))

    read = map_(
        builder,
        (builder.index(origin[1]), builder.index(origin[0])),
        (builder.index(extents[1]), builder.index(extents[0])),
        (side, side),
        square.layout(square.reading, square.packed),
        body,
        type_,
        full_dimensions=[name for name, full in zip(("columns", "rows"), whole, strict=True) if full],
    )
    scratch = ir.Operation.create(
        "tile.allocate",
        results=[tile_of(side, side, type_, str(SharedLayout("rows", side)))],
        attributes={"stages": i64(1)},
    ).result
    result = tile_of(side, side, type_, square.layout(square.writing))
    return ir.Operation.create("tile.turn", results=[result], operands=[read, scratch]).result
