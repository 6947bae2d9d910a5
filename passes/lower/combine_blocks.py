"""tile.combine_blocks: the end of a contraction whose k was split among the blocks of a cluster.

In: a shared tile of partial sums in every block of the cluster. Out: the sums of some of its rows, in registers, or of
these transposed. Blocks read each other's shared memory; every element is combined in an order that never changes, of
the block that asks.
"""

from __future__ import annotations

import functools

from mlir import ir
from mlir.dialects import nvvm

from .bodies import load_vector
from .context import LoweringContext, RegisterTile, SharedTile, lowering
from .dot_layouts import parse_shared
from .reduce import combiner


@lowering("tile.combine_blocks")
def _combine_blocks(context: LoweringContext, operation: ir.Operation) -> None:
    partial = context.get(operation.operands[0])
    assert isinstance(partial, SharedTile)
    first = context.scalar(operation.operands[1])
    blocks = ir.IntegerAttr(operation.attributes["blocks"]).value
    layout = context.layout(operation.results[0].type)
    line = parse_shared(partial.layout).line
    turned = "turned" in operation.attributes
    places = []  # (elements that are neighbours there, the first)
    for group in layout.groups():
        row, column = layout.row(context, group.row_slot), layout.column(context, group.column_slot)
        if turned:
            lanes = [context.add(context.add(column, lane), first) for lane in range(group.width)]
            places += [(1, context.add(context.multiply(lane, line), row)) for lane in lanes]
        else:
            places.append((group.width, context.add(context.multiply(context.add(row, first), line), column)))
    kind = ir.StringAttr(operation.attributes["kind"]).value if "kind" in operation.attributes else "sum"
    combine = combiner(kind, partial.element)
    bases = _everywhere(context, partial, blocks)
    totals: list[ir.Value] = []
    for width, offset in places:
        parts = [load_vector(context, base, offset, partial.element, width) for base in bases]
        totals += [functools.reduce(combine, lane) for lane in zip(*parts, strict=True)]
    context.set(operation.results[0], RegisterTile(layout, tuple(totals)))


def _everywhere(context: LoweringContext, tile: SharedTile, blocks: int) -> list[ir.Value]:
    """Where the tile begins in each block: this one first, then the next ones around, so that all of them are read at
    any time.
    """
    own = nvvm.read_ptx_sreg_cluster_ctarank(context.i32)
    base = context.shared_pointer(tile.offset)
    remote = ir.Type.parse("!llvm.ptr<7>")
    ranks = [context.remainder(context.add(own, step), blocks) for step in range(blocks)]
    return [nvvm.mapa(remote, base, rank) for rank in ranks]
