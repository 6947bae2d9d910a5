"""tile.reduce: combine the lines of a register tile across registers, lanes and warps.

In: a tile in a `blocked` layout. Out: a `reduced` tile that every thread of the line holds. Registers first, then a
butterfly of shuffles inside the warp, then, where a line spans warps, one exchange through shared memory.
"""

from __future__ import annotations

from collections.abc import Callable

from mlir import ir
from mlir.dialects import arith, nvvm

from ...runtime.errors import InternalError
from .context import LoweringContext, RegisterTile, byte_width, lowering
from .layouts import Blocked, Layout

Combine = Callable[[ir.Value, ir.Value], ir.Value]

_FLOAT: dict[str, Combine] = {
    "sum": lambda a, b: arith.addf(a, b),
    "product": lambda a, b: arith.mulf(a, b),
    "max": lambda a, b: arith.maximumf(a, b),
    "min": lambda a, b: arith.minimumf(a, b),
}
_INTEGER: dict[str, Combine] = {
    "sum": lambda a, b: arith.addi(a, b),
    "product": lambda a, b: arith.muli(a, b),
    "max": lambda a, b: arith.maxsi(a, b),
    "min": lambda a, b: arith.minsi(a, b),
    "umax": lambda a, b: arith.maxui(a, b),
    "umin": lambda a, b: arith.minui(a, b),
}


def combiner(kind: str, element: ir.Type) -> Combine:
    """The scalar operation of a reduction kind."""
    table = _FLOAT if isinstance(element, ir.FloatType) else _INTEGER
    return table[kind]


@lowering("tile.reduce")
def _reduce(context: LoweringContext, operation: ir.Operation) -> None:
    tile = context.get(operation.operands[0])
    layout = tile.layout
    combine = combiner(ir.StringAttr(operation.attributes["kind"]).value, tile.values[0].type)
    axis = ir.IntegerAttr(operation.attributes["axis"]).value
    try:
        low, high = layout.butterfly(axis)
    except ValueError as error:
        raise InternalError(f"tile.reduce: {error}") from None
    lines = _within_thread(tile, layout, axis, combine)
    lines = [_within_warp(context, value, low, min(high, 32), combine) for value in lines]
    if high > 32 and high > low:
        if not isinstance(layout, Blocked):
            raise InternalError(f"tile.reduce: a line of layout {layout} spans warps")
        lines = _across_warps(context, lines, layout, axis, combine)
    context.set(operation.results[0], RegisterTile(context.layout(operation.results[0].type), tuple(lines)))


def _within_thread(tile: RegisterTile, layout: Layout, axis: int, combine: Combine) -> list[ir.Value]:
    lines: dict[tuple[int, int], ir.Value] = {}
    register = 0
    for group in layout.groups():
        for lane in range(group.width):
            key = (group.row_slot, 0) if axis == 1 else (group.column_slot, lane)
            value = tile.values[register]
            lines[key] = combine(lines[key], value) if key in lines else value
            register += 1
    return list(lines.values())


def _within_warp(context: LoweringContext, value: ir.Value, low: int, high: int, combine: Combine) -> ir.Value:
    offset = high // 2
    while offset >= low:
        value = combine(value, shuffle(context, value, context.integer(offset), nvvm.ShflKind.bfly))
        offset //= 2
    return value


def shuffle(context: LoweringContext, value: ir.Value, lane: ir.Value, kind: nvvm.ShflKind) -> ir.Value:
    """The value of another lane, of any type of up to 64 bits: the one of that number (idx), as many below (up), or
    whose number differs in those bits (bfly).
    """
    bits = byte_width(value.type) * 8
    if isinstance(value.type, ir.F32Type) or (bits == 32 and not isinstance(value.type, ir.FloatType)):
        return _shuffle_word(context, value, lane, kind)
    integer = ir.IntegerType.get_signless(bits)
    raw = value if value.type == integer else arith.bitcast(integer, value)
    if bits < 32:
        moved = arith.trunci(integer, _shuffle_word(context, arith.extui(context.i32, raw), lane, kind))
    else:
        low = _shuffle_word(context, arith.trunci(context.i32, raw), lane, kind)
        shift = arith.constant(integer, 32)
        high = _shuffle_word(context, arith.trunci(context.i32, arith.shrui(raw, shift)), lane, kind)
        moved = arith.ori(arith.extui(integer, low), arith.shli(arith.extui(integer, high), shift))
    return moved if value.type == integer else arith.bitcast(value.type, moved)


def _shuffle_word(context: LoweringContext, value: ir.Value, lane: ir.Value, kind: nvvm.ShflKind) -> ir.Value:
    clamp = context.integer(0 if kind == nvvm.ShflKind.up else 31)
    return nvvm.shfl_sync(value.type, context.integer(-1), value, lane, clamp, kind)


def _across_warps(
    context: LoweringContext, lines: list[ir.Value], layout: Blocked, axis: int, combine: Combine
) -> list[ir.Value]:
    """Each warp has reduced its part of every line; exchange the parts through shared memory."""
    warp = context.divide(context.thread, 32)
    lane = context.remainder(context.thread, 32)
    if axis == 1:
        # thread_columns is a multiple of 32: `parts` warps share the lines of one thread row.
        parts = layout.thread_columns // 32
        owner, part, owners = context.divide(warp, parts), context.remainder(warp, parts), layout.thread_rows
    else:
        # Lanes below thread_columns hold distinct columns; every warp (or thread row) holds one part of each.
        owners = min(layout.thread_columns, 32)
        if layout.thread_columns >= 32:
            owners = layout.thread_columns
            parts = layout.thread_rows
            owner = context.remainder(context.thread, layout.thread_columns)
            part = context.divide(context.thread, layout.thread_columns)
        else:
            parts = layout.threads // 32
            owner, part = context.remainder(lane, layout.thread_columns), warp
    size = byte_width(lines[0].type)
    base = context.allocate_shared(owners * parts * len(lines) * size, max(size, 16))
    # Address of (owner, part, line): line-major so that the lanes of a warp touch neighbouring words.
    for index, value in enumerate(lines):
        place = context.add(context.multiply(part, owners), index * owners * parts)
        store_shared(context, value, base, context.add(owner, 0), place, size)
    context.barrier()
    combined = []
    for index in range(len(lines)):
        total = None
        for number in range(parts):
            value = load_shared(context, lines[0].type, base, owner, index * owners * parts + number * owners, size)
            total = value if total is None else combine(total, value)
        combined.append(total)
    context.barrier()
    return combined


def store_shared(
    context: LoweringContext, value: ir.Value, base: int, owner: ir.Value, place: ir.Value, size: int
) -> None:
    """Write element `owner` + `place` of the shared array at byte `base`."""
    offset = context.add(context.multiply(arith.addi(owner, place), size), base)
    context.store(value, context.shared_pointer(offset), size)


def load_shared(
    context: LoweringContext, type_: ir.Type, base: int, owner: ir.Value, place: int, size: int
) -> ir.Value:
    """Read element `owner` + `place` of the shared array at byte `base`."""
    offset = context.add(context.multiply(context.add(owner, place), size), base)
    return context.load(context.shared_pointer(offset), type_, size)
