"""tile.halves: the even and the odd columns (or rows) of a register tile whose threads hold both of a pair.

In: a tile, such as the sums of a product whose weights stand in turn. Out: two tiles of half the size in the layout
`Half` of it. Registers change their names, nothing is computed.
"""

from __future__ import annotations

from mlir import ir

from ...runtime.errors import InternalError
from .context import LoweringContext, RegisterTile, lowering
from .layouts import Half


@lowering("tile.halves")
def _halves(context: LoweringContext, operation: ir.Operation) -> None:
    tile = context.get(operation.operands[0])
    layout = context.layout(operation.results[0].type)
    assert isinstance(tile, RegisterTile)
    if not isinstance(layout, Half) or layout.parent != tile.layout:
        raise InternalError(f"tile.halves gives half of {tile.layout}, not {layout}")
    parts: tuple[list[ir.Value], list[ir.Value]] = ([], [])
    start = 0
    for group in tile.layout.groups():
        lanes = tile.values[start : start + group.width]
        start += group.width
        if layout.axis == 0:
            parts[group.row_slot % 2].extend(lanes)
        else:
            parts[0].extend(lanes[0::2])
            parts[1].extend(lanes[1::2])
    for result, values in zip(operation.results, parts, strict=True):
        context.set(result, RegisterTile(layout, tuple(values)))
