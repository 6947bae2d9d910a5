"""tile.combine: the end of a contraction whose k was split among groups of warps.

In: an accumulator of which every group of warps holds a partial sum. Out: the sums, spread over all threads
of the block in a `blocked` layout. One exchange through the shared memory that the main loop no longer needs.
"""

from __future__ import annotations

from mlir import ir
from mlir.dialects import arith

from .bodies import store_vector
from .context import LoweringContext, RegisterTile, SharedTile, byte_width, lowering
from .dot_fma import load_shared_vector
from .dot_layouts import WarpGrid
from .layouts import Layout


@lowering("tile.combine")
def _combine(context: LoweringContext, operation: ir.Operation) -> None:
    tile, scratch = (context.get(operand) for operand in operation.operands)
    assert isinstance(tile, RegisterTile) and isinstance(scratch, SharedTile)
    source, target = tile.layout, context.layout(operation.results[0].type)
    assert isinstance(source, WarpGrid)
    element = tile.values[0].type
    elements = source.rows * source.columns
    context.shared_bytes = max(
        context.shared_bytes, scratch.offset + elements * source.warp_depth * byte_width(element)
    )
    base = context.shared_pointer(scratch.offset)
    context.barrier()  # every warp has read its last operands
    own = context.multiply(source.depth_group(context), elements)
    register = 0
    for group, offset in _places(context, source):
        place = context.offset_pointer(base, context.add(offset, own), element)
        store_vector(context, place, context.integer(0), tile.values[register : register + group])
        register += group
    context.barrier()
    totals: list[ir.Value] = []
    for group, offset in _places(context, target):
        start = context.offset_pointer(base, offset, element)
        starts = [
            context.offset_pointer(start, elements * part, element) for part in range(source.warp_depth)
        ]
        parts = [load_shared_vector(context, pointer, element, group) for pointer in starts]
        totals += [sum_of(list(lane)) for lane in zip(*parts, strict=True)]
    context.set(operation.results[0], RegisterTile(target, tuple(totals)))


def _places(context: LoweringContext, layout: Layout) -> list[tuple[int, ir.Value]]:
    """(width, offset in a row-major tile) of every group of this thread."""
    places = []
    for group in layout.groups():
        row = context.multiply(layout.row(context, group.row_slot), layout.columns)
        places.append((group.width, arith.addi(row, layout.column(context, group.column_slot))))
    return places


def sum_of(parts: list[ir.Value]) -> ir.Value:
    """The sum of the parts, in their order."""
    total = parts[0]
    for part in parts[1:]:
        total = arith.addf(total, part) if isinstance(part.type, ir.FloatType) else arith.addi(total, part)
    return total
