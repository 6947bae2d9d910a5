"""tile.columns: some neighbouring columns of a register tile, such as the strip of which the epilogue is run next.

In: an accumulator of wgmma. Out: a tile of fewer columns in the same layout. Registers change their names, nothing is
computed.
"""

from __future__ import annotations

from mlir import ir

from ...runtime.errors import InternalError
from .context import LoweringContext, RegisterTile, lowering
from .dot_layouts import WarpgroupLayout


@lowering("tile.columns")
def _columns(context: LoweringContext, operation: ir.Operation) -> None:
    tile, part = context.get(operation.operands[0]), context.layout(operation.results[0].type)
    assert isinstance(tile, RegisterTile)
    source = tile.layout
    if not isinstance(source, WarpgroupLayout) or not isinstance(part, WarpgroupLayout) or source.width != part.width:
        raise InternalError(f"tile.columns takes part of a wgmma layout, not {part} of {source}")
    line, own = (layout.registers // (2 * layout.blocks) for layout in (source, part))  # registers of a row
    first = ir.IntegerAttr(operation.attributes["first"]).value * own // part.columns
    starts = [row * line + first for row in range(2 * part.blocks)]
    values = [value for start in starts for value in tile.values[start : start + own]]
    context.set(operation.results[0], RegisterTile(part, tuple(values)))
