"""tile.map and tile.full: pointwise work on register tiles of any layout.

In: a map with its region. Out: for each group of the layout the body on this thread's rows and columns. Coordinates
outside the bounds are clamped to the last valid ones, so that loads need no branch; only the stores are guarded.
"""

from __future__ import annotations

from mlir import ir
from mlir.dialects import arith

from .bodies import BodyEmitter
from .context import LoweringContext, RegisterTile, lowering, tile_type
from .layouts import Group, parse_layout

IN_FLIGHT = 16  # elements whose loads may be under way before the first store: enough for the latency, few registers


@lowering("tile.full")
def _full(context: LoweringContext, operation: ir.Operation) -> None:
    result = operation.results[0]
    layout = context.layout(result.type)
    value = context.scalar(operation.operands[0])
    context.set(result, RegisterTile(layout, (value,) * layout.registers))


@lowering("tile.map")
def _map(context: LoweringContext, operation: ir.Operation) -> None:
    rows, columns = list(ir.DenseI64ArrayAttr(operation.attributes["shape"]))
    layout = parse_layout(ir.StringAttr(operation.attributes["layout"]).value, rows, columns)
    row, column, row_limit, column_limit = (context.scalar(operand) for operand in operation.operands)
    full = _full_dimensions(operation)
    body = operation.regions[0].blocks[0]
    row_arguments: dict[int, tuple[ir.Value, ir.Value | None]] = {}
    column_arguments: dict[tuple[int, int], tuple[ir.Value, ir.Value | None]] = {}
    registers: list[ir.Value] = []
    pending: list[BodyEmitter] = []
    for group in layout.groups():
        if group.row_slot not in row_arguments:
            position = context.add(layout.row(context, group.row_slot), row)
            row_arguments[group.row_slot] = _clamp(context, position, row_limit, 1, "rows" in full)
        key = (group.column_slot, group.width)
        if key not in column_arguments:
            position = context.add(layout.column(context, group.column_slot), column)
            column_arguments[key] = _clamp(context, position, column_limit, group.width, "columns" in full)
        emitter = _emitter(context, group, row_arguments[group.row_slot], column_arguments[key], body)
        yielded = emitter.run(body)
        pending.append(emitter)
        if len(operation.results):
            registers += _filled(operation, emitter, yielded[0], group)
        if sum(waiting.group.width for waiting in pending) >= IN_FLIGHT:
            _flush(pending)
    _flush(pending)
    if len(operation.results):
        context.set(operation.results[0], RegisterTile(layout, tuple(registers)))


def _flush(pending: list[BodyEmitter]) -> None:
    """Emit the stores that wait for their loads."""
    for emitter in pending:
        for store in emitter.stores:
            store()
    pending.clear()


def _full_dimensions(operation: ir.Operation) -> set[str]:
    """Dimensions in which the tile never crosses its bound (attribute `full`, set by who made the map)."""
    if "full" not in operation.attributes:
        return set()
    return {ir.StringAttr(item).value for item in ir.ArrayAttr(operation.attributes["full"])}


def _clamp(
    context: LoweringContext, position: ir.Value, limit: ir.Value, width: int, full: bool
) -> tuple[ir.Value, ir.Value | None]:
    """(position kept inside, whether it was inside). `limit` is a multiple of `width`, so a vector never straddles."""
    if full:
        return position, None
    inside = context.less(position, limit)
    last = arith.subi(limit, context.integer(width))
    return arith.select(inside, position, last), inside


def _emitter(
    context: LoweringContext,
    group: Group,
    row: tuple[ir.Value, ir.Value | None],
    column: tuple[ir.Value, ir.Value | None],
    body: ir.Block,
) -> BodyEmitter:
    conditions = [condition for condition in (row[1], column[1]) if condition is not None]
    active = conditions[0] if conditions else None
    if len(conditions) == 2:
        active = arith.andi(conditions[0], conditions[1])
    emitter = BodyEmitter(context, group, active)
    emitter.values[body.arguments[0]] = row[0]
    lanes = [context.add(column[0], lane) for lane in range(group.width)]
    emitter.values[body.arguments[1]] = lanes if group.width > 1 else lanes[0]
    return emitter


def _filled(
    operation: ir.Operation, emitter: BodyEmitter, value: ir.Value | list[ir.Value], group: Group
) -> list[ir.Value]:
    lanes = value if isinstance(value, list) else [value] * group.width
    if emitter.active is None or "fill" not in operation.attributes:
        return lanes
    fill = arith.constant(tile_type(operation.results[0].type).element, operation.attributes["fill"])
    return [arith.select(emitter.active, lane, fill) for lane in lanes]
