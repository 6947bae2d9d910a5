"""Shared tiles and what fills them: tile.allocate, tile.copy, tile.fill, tile.commit, tile.wait.

In: copies of a whole tile with a body that says where each element comes from. Out: what one thread copies:
cp.async of 4, 8 or 16 bytes with zero-fill, or loads and stores through registers where elements are smaller
than that. Threads run along the tile's lines.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlir import ir
from mlir.dialects import arith, llvm, nvvm, scf

from ...runtime.errors import InternalError
from .bodies import BodyEmitter, Lanes, load_vector, memory_element, store_vector
from .context import LoweringContext, Memory, RegisterTile, SharedTile, byte_width, lowering, tile_type
from .dot_fma import stage_offset
from .dot_layouts import parse_shared
from .layouts import Group, Reduced

ASYNCHRONOUS_BYTES = (4, 8, 16)  # sizes that cp.async knows
SWIZZLE_ALIGNMENT = 1024  # bytes: the pattern of a 128-byte swizzle repeats after eight lines


@lowering("tile.allocate")
def _allocate(context: LoweringContext, operation: ir.Operation) -> None:
    result = operation.results[0]
    tile = tile_type(result.type)
    stages = ir.IntegerAttr(operation.attributes["stages"]).value
    layout = parse_shared(tile.layout)
    alignment = SWIZZLE_ALIGNMENT if layout.swizzle else 16
    stage_bytes = layout.elements(tile.rows, tile.columns) * byte_width(tile.element)
    stage_bytes = -(-stage_bytes // alignment) * alignment
    if operation.operands:
        place = context.get(operation.operands[0])
        assert isinstance(place, SharedTile)
        offset = place.offset
        context.shared_bytes = max(context.shared_bytes, offset + stage_bytes * stages)
    else:
        offset = context.allocate_shared(stage_bytes * stages, max(alignment, 128))
    context.set(
        result, SharedTile(offset, tile.rows, tile.columns, tile.element, tile.layout, stages, stage_bytes)
    )


@dataclass(frozen=True)
class Piece:
    """What one thread handles in one step: its first row and column in the tile, and whether it has any
    (None: surely).
    """

    row: ir.Value
    column: ir.Value
    active: ir.Value | None


def _pieces(context: LoweringContext, tile: SharedTile, vector: int) -> list[Piece]:
    """The pieces of `vector` elements along the fast dimension that this thread handles."""
    fast = parse_shared(tile.layout).fast
    length, lines = (tile.columns, tile.rows) if fast == 1 else (tile.rows, tile.columns)
    if length % vector:
        raise InternalError(f"a copy of {vector} elements does not divide lines of {length}")
    per_line = length // vector
    total, threads = per_line * lines, context.threads
    pieces = []
    for start in range(0, total, threads):
        number = context.add(context.thread, start)
        active = None if start + threads <= total else context.less(number, total)
        if threads % per_line == 0:  # the place in the line is the same in every step
            place = context.remainder(context.thread, per_line)
            line = context.add(context.divide(context.thread, per_line), start // per_line)
        else:
            place, line = context.remainder(number, per_line), context.divide(number, per_line)
        along = context.multiply(place, vector)
        pieces.append(Piece(line, along, active) if fast == 1 else Piece(along, line, active))
    return pieces


def _run_body(
    context: LoweringContext,
    operation: ir.Operation,
    piece: Piece,
    origin: tuple[ir.Value, ir.Value],
    fast: int = 0,
    vector: int = 1,
) -> list[Lanes]:
    """What the body yields for `vector` elements of a piece, neighbours along the dimension `fast`."""
    body = operation.regions[0].blocks[0]
    emitter = BodyEmitter(context, Group(0, 0, vector), None)
    for axis, own in enumerate((piece.row, piece.column)):
        position = context.add(own, origin[axis])
        lanes = [context.add(position, lane) for lane in range(vector)]
        emitter.values[body.arguments[axis]] = lanes if vector > 1 and axis == fast else position
    yielded = emitter.run(body)
    if emitter.stores:
        raise InternalError(f"the body of '{operation.name}' must store nothing")
    return yielded


def _place(context: LoweringContext, tile: SharedTile, stage: ir.Value, piece: Piece) -> ir.Value:
    """Pointer into shared memory to the first element of a piece."""
    row_stride, column_stride = parse_shared(tile.layout).strides
    size = byte_width(memory_element(context, tile.element))
    offset = context.add(
        context.multiply(piece.row, row_stride * size), context.multiply(piece.column, column_stride * size)
    )
    return context.shared_pointer(context.add(stage_offset(context, tile, stage), offset))


@lowering("tile.copy")
def _copy(context: LoweringContext, operation: ir.Operation) -> None:
    target, stage, memory = (context.get(operand) for operand in list(operation.operands)[:3])
    row, column = (context.scalar(operand) for operand in list(operation.operands)[3:5])
    assert isinstance(target, SharedTile) and isinstance(memory, Memory)
    vector = ir.IntegerAttr(operation.attributes["vector"]).value
    stored = memory_element(context, memory.element)
    asynchronous = context.target.cp_async and vector * byte_width(stored) in ASYNCHRONOUS_BYTES
    waiting = []
    for piece in _pieces(context, target, vector):
        body = _run_body(context, operation, piece, (row, column))
        yielded = [value for value in body if isinstance(value, ir.Value)]
        offset, predicate = yielded[0], yielded[1] if len(yielded) > 1 else None
        place = _place(context, target, stage, piece)
        if asynchronous:
            _copy_asynchronously(context, memory, offset, predicate, place, vector, piece.active)
            continue
        values = _load_or_zero(context, memory, offset, predicate, vector)
        waiting.append((values, place, piece.active))
    for values, place, active in waiting:
        _store_shared(context, place, values, active)


def _copy_asynchronously(
    context: LoweringContext,
    memory: Memory,
    offset: ir.Value,
    predicate: ir.Value | None,
    place: ir.Value,
    vector: int,
    active: ir.Value | None,
) -> None:
    stored = memory_element(context, memory.element)
    size = vector * byte_width(stored)
    # Only whole 16-byte copies may pass the first-level cache by.
    modifier = nvvm.LoadCacheModifierKind.CG if size == 16 else nvvm.LoadCacheModifierKind.CA

    def emit() -> None:
        wanted = None
        where = offset
        if predicate is not None:
            wanted = arith.select(predicate, context.integer(size), context.integer(0))
            where = arith.select(predicate, offset, context.integer(0))
        source = context.offset_pointer(memory.pointer, where, stored)
        nvvm.cp_async_shared_global(place, source, size, modifier, cp_size=wanted)

    _guard(active, emit)


def _load_or_zero(
    context: LoweringContext, memory: Memory, offset: ir.Value, predicate: ir.Value | None, vector: int
) -> list[ir.Value]:
    """`vector` elements through registers, zero where the predicate is false (the first element of memory is
    then read instead).
    """
    stored = memory_element(context, memory.element)
    where = offset if predicate is None else arith.select(predicate, offset, context.integer(0))
    if vector > 1:
        values = load_vector(context, memory.pointer, where, stored, vector)
    else:
        pointer = context.offset_pointer(memory.pointer, where, stored)
        values = [llvm.load(stored, pointer, alignment=byte_width(stored))]
    if predicate is None:
        return values
    zero = arith.constant(stored, 0 if isinstance(stored, ir.IntegerType) else 0.0)
    return [arith.select(predicate, value, zero) for value in values]


def _store_shared(
    context: LoweringContext, place: ir.Value, values: list[ir.Value], active: ir.Value | None
) -> None:
    def emit() -> None:
        if len(values) > 1:
            store_vector(context, place, context.integer(0), values)
        else:
            llvm.store(values[0], place, alignment=byte_width(values[0].type))

    _guard(active, emit)


def _guard(active: ir.Value | None, emit: object) -> None:
    assert callable(emit)
    if active is None:
        emit()
        return
    branch = scf.IfOp(active)
    with ir.InsertionPoint(branch.then_block):
        emit()
        scf.yield_([])


@lowering("tile.fill")
def _fill(context: LoweringContext, operation: ir.Operation) -> None:
    target, stage, row, column = (context.get(operand) for operand in operation.operands)
    assert isinstance(target, SharedTile)
    fast = parse_shared(target.layout).fast
    vector = ir.IntegerAttr(operation.attributes["vector"]).value if "vector" in operation.attributes else 1
    waiting = []
    for piece in _pieces(context, target, vector):
        # Threads past the end of the tile still compute: their coordinates are clamped, the store is guarded.
        inside = _clamped(context, piece)
        found = _run_body(context, operation, inside, (row, column), fast, vector)[0]
        values = found if isinstance(found, list) else [found] * vector
        waiting.append((values, _place(context, target, stage, piece), piece.active))
    for values, place, active in waiting:
        _store_shared(context, place, values, active)


def _clamped(context: LoweringContext, piece: Piece) -> Piece:
    if piece.active is None:
        return piece
    zero = context.integer(0)
    return Piece(
        arith.select(piece.active, piece.row, zero),
        arith.select(piece.active, piece.column, zero),
        piece.active,
    )


@lowering("tile.commit")
def _commit(context: LoweringContext, operation: ir.Operation) -> None:
    nvvm.cp_async_commit_group()


@lowering("tile.wait")
def _wait(context: LoweringContext, operation: ir.Operation) -> None:
    nvvm.cp_async_wait_group(ir.IntegerAttr(operation.attributes["pending"]).value)


@lowering("tile.put")
def _put(context: LoweringContext, operation: ir.Operation) -> None:
    """Registers to shared memory, in the element type of the shared tile; what several threads hold, by one of them."""
    target, stage, tile = (context.get(operand) for operand in operation.operands)
    assert isinstance(target, SharedTile) and isinstance(tile, RegisterTile)
    active = _holds_first(context, tile.layout) if isinstance(tile.layout, Reduced) else None
    row_stride, column_stride = parse_shared(target.layout).strides
    size = byte_width(target.element)
    start = 0
    for group in tile.layout.groups():
        row = tile.layout.row(context, group.row_slot)
        column = tile.layout.column(context, group.column_slot)
        offset = context.add(
            context.multiply(row, row_stride * size), context.multiply(column, column_stride * size)
        )
        place = context.shared_pointer(context.add(stage_offset(context, target, stage), offset))
        values = [_narrowed(value, target.element) for value in tile.values[start : start + group.width]]
        start += group.width
        if column_stride == 1:
            _store_shared(context, place, values, active)
            continue
        for lane, value in enumerate(values):
            _store_shared(
                context, context.offset_pointer(place, lane * column_stride, target.element), [value], active
            )


def _holds_first(context: LoweringContext, layout: Reduced) -> ir.Value:
    """Whether this thread held the first element of its lines before they were reduced."""
    place = layout.parent.column(context, 0) if layout.axis == 1 else layout.parent.row(context, 0)
    return arith.cmpi(arith.CmpIPredicate.eq, place, context.integer(0))


def _narrowed(value: ir.Value, element: ir.Type) -> ir.Value:
    return value if value.type == element else arith.truncf(element, value)
