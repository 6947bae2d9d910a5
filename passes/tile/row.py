"""The program of reductions with what stands before and after them: softmax, normalisations, means, pooling over
everything.

In: a kernel function of kind ``row``: maps and reductions over one set of axes of one shape. Out: a two-dimensional
program, kept positions x reduced positions, with one phase per reduction and a last phase that stores. A short line
stays in registers between the phases; a long or dynamic one is read again, or shared by blocks of a cluster. Where the
innermost dimension is kept, the tile is turned round so that threads still read neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlir import ir
from mlir.dialects import arith, scf

from ...dialects.tensors import Shape, element_of, scalar_type, shape_of
from ...runtime.errors import InternalError
from ...runtime.symbolic import ONE, ZERO, Expression, minimum, product
from ...runtime.tuning import describe
from ..unit import KernelProgram
from .builder import Argument, TileBuilder
from .elements import ElementEmitter, Indices, load_rules
from .forward import forward_position
from .programs import Request, finished, tile_program
from .row_clusters import meet, over_blocks
from .row_schedule import RowProblem, Schedule, row_schedules
from .scalars import accumulator, combine, convert, neutral, reduce_kind
from .tile_types import element, full, i64, map_, program_id, reduce, store, tile_of


@dataclass
class _Row:
    """One program under construction."""

    request: Request
    builder: TileBuilder
    shape: Shape  # of the unreduced values
    axes: tuple[int, ...]
    schedule: Schedule
    emitter: ElementEmitter
    origin: Expression  # first line of the block
    start: Expression  # first place of the block: lines may be shared
    reduced: dict[ir.Value, ir.Value]  # graph value -> reduced tile
    whole: dict[ir.Value, ir.Value]  # graph value -> tile of the whole line

    @property
    def kept(self) -> list[int]:
        return [axis for axis in range(len(self.shape)) if axis not in self.axes]

    @property
    def lines(self) -> Expression:
        return product([self.shape[axis] for axis in self.kept])

    @property
    def length(self) -> Expression:
        return product([self.shape[axis] for axis in self.axes])

    def position(self, line: Expression, place: Expression | None) -> Indices:
        """Indices of the unreduced values; a reduced position (place None) has 0 on the axes."""
        kept = self.builder.delinearize(line, [self.shape[axis] for axis in self.kept])
        along = [ZERO] * len(self.axes)
        if place is not None:
            along = list(self.builder.delinearize(place, [self.shape[axis] for axis in self.axes]))
        indices = [ZERO] * len(self.shape)
        for axis, index in zip(self.kept, kept, strict=True):
            indices[axis] = index
        for axis, index in zip(self.axes, along, strict=True):
            indices[axis] = index
        return tuple(indices)

    def map(
        self,
        chunk_origin: Expression | None,
        body: Callable[[ElementEmitter, Indices, Expression], ir.Value | None],
        element_type: ir.Type | None = None,
        fill: ir.Attribute | None = None,
    ) -> ir.Value | None:
        """A tile.map over the lines and one chunk of places, or over the lines alone (chunk_origin None)."""
        schedule, builder = self.schedule, self.builder
        per_line = chunk_origin is None
        places = ONE if chunk_origin is None else self.length
        start = ZERO if chunk_origin is None else chunk_origin
        shape, layout = schedule.shape, schedule.layout
        if per_line:
            # One thread of each line acts: a chunk as narrow as the threads, cut off after the first place.
            shape = (
                (schedule.lines, schedule.thread_chunk) if schedule.across else (schedule.thread_chunk, schedule.lines)
            )
            if schedule.across:
                layout = f"blocked<{schedule.thread_lines}x{schedule.thread_chunk}, vector=1>"
        ordered = (self.origin, start) if schedule.across else (start, self.origin)
        limits = (self.lines, places) if schedule.across else (places, self.lines)
        tile_extent = schedule.chunk
        full_dimensions = self._full(per_line, tile_extent)

        def emit(i: ir.Value, j: ir.Value) -> ir.Value | None:
            line_value, place_value = (i, j) if schedule.across else (j, i)
            line = builder.variable(line_value, "line", self.lines)
            place = None if per_line else builder.variable(place_value, "place", self.length)
            fast = line if not schedule.across else place
            width = schedule.vector if fast is not None else 1
            if width > 1:
                builder.varying.add(j)
            chosen = fast if fast is not None else line
            with builder.vectorised(chosen, width):
                indices = self.position(line, place)
                at = self._bound(indices)
                return body(at, indices, line)

        return map_(
            builder,
            tuple(builder.index(value) for value in ordered),
            tuple(builder.index(value) for value in limits),
            shape,
            layout,
            emit,
            element_type,
            fill,
            full_dimensions,
        )

    def _full(self, per_line: bool, extent: int) -> list[str]:
        schedule = self.schedule
        names = ("rows", "columns") if schedule.across else ("columns", "rows")
        result = [names[0]] if self.lines.divisible_by(schedule.lines) else []
        shared = schedule.split if schedule.whole else 1  # parts that stay in registers may end past the line
        if not per_line and self.length != 0 and self.length.divisible_by(extent * shared):
            result.append(names[1])
        return result

    @property
    def end(self) -> Expression:
        """The end of the block's places."""
        return minimum(self.start + self.schedule.part(self.length), self.length)

    def _bound(self, indices: Indices) -> ElementEmitter:
        """An emitter for one body at `indices` that reads the tiles computed so far."""
        at = self.emitter.fresh()
        builder = self.builder
        cut = tuple(ZERO if axis in self.axes else index for axis, index in enumerate(indices))
        for value, tile in self.reduced.items():
            type_ = scalar_type(element_of(value))
            at.bind(value, _reader(builder, tile, type_, cut, vector_lines=not self.schedule.across))
        for value, tile in self.whole.items():
            at.bind(value, _reader(builder, tile, scalar_type(element_of(value)), indices, vector_lines=True))
        return at


def _reader(
    builder: TileBuilder, tile: ir.Value, type_: ir.Type, where: Indices, vector_lines: bool
) -> Callable[[Indices], ir.Value | None]:
    def read(indices: Indices) -> ir.Value | None:
        if indices != where:
            return None
        value = element(tile, type_)
        if vector_lines and builder.vector is not None and builder.vector.width > 1:
            builder.varying.add(value)
        return value

    return read


@tile_program("row")
def row_program(request: Request) -> KernelProgram:
    """
    before: reductions over one set of axes with maps around them
    after:  per reduction a tile.map and a tile.reduce (in an scf.for over chunks for long lines); a last tile.map
    that stores
    """
    load_rules()
    reductions = [operation for operation in request.operations if operation.name == "graph.reduce"]
    if not reductions:
        raise InternalError(f"kernel {request.name}: a row kernel has a reduction")
    shape = shape_of(reductions[0].operands[0])
    axes = _axes(reductions[0], shape)
    for operation in reductions:
        if shape_of(operation.operands[0]) != shape or _axes(operation, shape) != axes:
            raise InternalError(f"kernel {request.name}: the reductions of a row kernel share axes and shape")
    builder = TileBuilder(request.function, request.name)
    module = builder.declare()
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    lines, length = product([shape[a] for a in kept]), product([shape[a] for a in axes])
    real = [axis for axis in range(len(shape)) if shape[axis] != 1]
    kept_inner = bool(real) and real[-1] not in axes
    inner = _contiguous_extent(shape, axes, kept_inner)
    problem = RowProblem(lines, length, inner, kept_inner, _widest(builder, product(list(shape))))
    kinds = "+".join(ir.StringAttr(operation.attributes["kind"]).value for operation in reductions)
    schedule = request.choose("row", f"{describe(problem)} {kinds}", row_schedules(problem, request.target))
    with ir.InsertionPoint(builder.block):
        count = lines.ceil_divide(schedule.lines) * schedule.split
        block = builder.variable(program_id(0), "block", count)
        group, rank = builder.divide(block, schedule.split), builder.remainder(block, schedule.split)
        origin, start = group * schedule.lines, rank * schedule.part(length)
        row = _Row(request, builder, shape, axes, schedule, ElementEmitter(builder), origin, start, {}, {})
        for operation in reductions:
            _phase(row, operation)
        _store_all(row)
        if schedule.split > 1:
            builder.set_attribute("tile.cluster", i64(schedule.split))
            meet()  # what a block has left in shared memory is read until here
        builder.finish(schedule.threads)
    return finished(request, builder, module, "row", (count, ONE, ONE), schedule.threads)


def _widest(builder: TileBuilder, size: Expression) -> int:
    """Bytes of the widest element of a whole line: stored, for inputs may take several accesses; else read."""
    for arguments in (builder.outputs, builder.inputs):
        found = [argument.bytes for argument in arguments if product(list(argument.shape)) == size]
        if found:
            return max(found)
    return max(argument.bytes for argument in builder.outputs)


def _axes(operation: ir.Operation, shape: Shape) -> tuple[int, ...]:
    """The reduced axes; those of size 1 do not matter and are left out where others remain."""
    axes = sorted(ir.DenseI64ArrayAttr(operation.attributes["axes"]))
    real = tuple(axis for axis in axes if shape[axis] != 1)
    return real or tuple(axes)


def _contiguous_extent(shape: Shape, axes: tuple[int, ...], kept_inner: bool) -> Expression:
    """Elements that lie next to each other along the dimension that the threads run over."""
    extent = ONE
    for axis in range(len(shape) - 1, -1, -1):
        if shape[axis] != 1 and (axis in axes) == kept_inner:
            break
        extent = extent * shape[axis]
    return extent


def _phase(row: _Row, operation: ir.Operation) -> None:
    """Compute one reduction of the block's lines and bind it."""
    builder, schedule = row.builder, row.schedule
    value, result = operation.operands[0], operation.results[0]
    kind = ir.StringAttr(operation.attributes["kind"]).value
    source = element_of(value)
    wide = accumulator(source)
    type_ = scalar_type(wide)
    fill = neutral(kind, wide)

    def body(at: ElementEmitter, indices: Indices, _: Expression) -> ir.Value:
        found = at.element(value, indices)
        return at.track(convert(found, source, wide), found)

    if schedule.whole:
        partial = row.map(row.start, body, type_, fill)
        if wide == source:
            row.whole[value] = partial
    else:
        partial = _chunks(row, body, kind, wide, fill)
    reduced_type = tile_of(*schedule.reduced_shape, type_, schedule.reduced_layout)
    total = reduce(partial, reduce_kind(kind, wide), schedule.across, reduced_type)
    if schedule.split > 1:
        total = over_blocks(total, reduced_type, type_, schedule, reduce_kind(kind, wide))
    target = element_of(result)
    if target != wide:
        total = _converted(row, total, wide, target)
    row.reduced[result] = total
    del builder


def _converted(row: _Row, tile: ir.Value, source: str, target: str) -> ir.Value:
    """The reduced tile in the result's own, narrower type."""
    builder, schedule = row.builder, row.schedule
    zero_index, limit = builder.index(0), builder.index(1 << 30)
    made = map_(
        builder,
        (zero_index, zero_index),
        (limit, limit),
        schedule.reduced_shape,
        schedule.reduced_layout,
        lambda i, j: convert(element(tile, scalar_type(source)), source, target),
        scalar_type(target),
        full_dimensions=["rows", "columns"],
    )
    assert made is not None
    return made


def _chunks(
    row: _Row, body: Callable[[ElementEmitter, Indices, Expression], ir.Value], kind: str, wide: str, fill: ir.Attribute
) -> ir.Value:
    """A partial tile accumulated over the chunks of a long line."""
    builder, schedule = row.builder, row.schedule
    type_ = scalar_type(wide)
    start = full(*schedule.shape, schedule.layout, arith.constant(type_, fill))
    loop = scf.ForOp(builder.index(row.start), builder.index(row.end), builder.index(schedule.chunk), [start])
    with ir.InsertionPoint(loop.body), builder.region():
        chunk = builder.variable(loop.induction_variable, "chunk")
        part = row.map(chunk, body, type_, fill)
        total = loop.inner_iter_args[0]
        zero_index, limit = builder.index(0), builder.index(1 << 30)
        summed = map_(
            builder,
            (zero_index, zero_index),
            (limit, limit),
            schedule.shape,
            schedule.layout,
            lambda i, j: combine(kind, wide, element(total, type_), element(part, type_)),
            type_,
            full_dimensions=["rows", "columns"],
        )
        scf.yield_([summed])
    return loop.results[0]


def _store_all(row: _Row) -> None:
    """The last phase: every returned value, those of one per line and those of the whole line."""
    returned = list(zip(row.builder.outputs, row.request.returned, strict=True))
    lengths = [(argument, value, _is_full(row, value)) for argument, value in returned]
    per_line = [(argument, value) for argument, value, is_full in lengths if not is_full]
    per_place = [(argument, value) for argument, value, is_full in lengths if is_full]
    anchor_full = next(op.operands[0] for op in row.request.operations if op.name == "graph.reduce")
    anchor_line = next(op.results[0] for op in row.request.operations if op.name == "graph.reduce")
    builder, schedule = row.builder, row.schedule

    def stores(outputs: list[tuple[Argument, ir.Value]], anchor: ir.Value) -> Callable[..., None]:
        def body(at: ElementEmitter, indices: Indices, _: Expression) -> None:
            for argument, value in outputs:
                position = _position_of(row, anchor, indices, value)
                offset = builder.offset(argument, position)
                store(builder, at.element(value, position), argument.memory, offset, argument.element)

        return body

    if per_line and schedule.split > 1:
        first = scf.IfOp(arith.cmpi(arith.CmpIPredicate.eq, builder.index(row.start), builder.index(0)))
        with ir.InsertionPoint(first.then_block), builder.region():
            row.map(None, stores(per_line, anchor_line))
            scf.yield_([])
    elif per_line:
        row.map(None, stores(per_line, anchor_line))
    if per_place and schedule.whole:
        row.map(row.start, stores(per_place, anchor_full))
    elif per_place:
        loop = scf.ForOp(builder.index(row.start), builder.index(row.end), builder.index(schedule.chunk))
        with ir.InsertionPoint(loop.body), builder.region():
            row.map(builder.variable(loop.induction_variable, "chunk"), stores(per_place, anchor_full))
            scf.yield_([])


def _is_full(row: _Row, value: ir.Value) -> bool:
    return product(list(shape_of(value))) == product(list(row.shape))


def _position_of(row: _Row, anchor: ir.Value, indices: Indices, value: ir.Value) -> Indices:
    """Where the element of the anchor at `indices` ends up in a returned value."""
    if shape_of(value) == shape_of(anchor):
        return indices
    return forward_position(row.builder, anchor, indices, value)
