"""tile.fetch_boxes and tile.take_boxes: a tensor arrives beside the sums of wgmma, in bulk copies.

In: the shared tile through which results leave (store_boxes.py), and a tensor map. Out: copies that one thread of each
group of four warps starts, and later the pieces of every thread in the layout of the sums (ldmatrix where elements have
16 bits), as tile.store_boxes puts those of the result in their place.
"""

from __future__ import annotations

from mlir import ir
from mlir.dialects import llvm, nvvm, vector

from .context import LoweringContext, RegisterTile, SharedTile, byte_width, lowering
from .dot_layouts import WarpgroupLayout
from .roles import WARPGROUP, barrier_pointer
from .store_boxes import Slot, Strips, strips_layout


@lowering("tile.fetch_boxes")
def _fetch_boxes(context: LoweringContext, operation: ir.Operation) -> None:
    scratch = context.get(operation.operands[0])
    assert isinstance(scratch, SharedTile)
    stage, tensor_map = (context.scalar(operand) for operand in list(operation.operands)[1:3])
    coordinates = [context.scalar(operand) for operand in list(operation.operands)[4:]]
    groups = context.threads // WARPGROUP
    strips = Strips(context, scratch, WarpgroupLayout(scratch.rows, scratch.columns, groups))
    count = ir.IntegerAttr(operation.attributes["strips"]).value
    number = context.group if context.group is not None else strips.group
    barrier, alone = barrier_pointer(context, operation.operands[3], number), strips.alone()
    nvvm.cp_async_bulk_wait_group(0, read=True)
    nbytes = context.integer(count * scratch.rows // groups * strips.span)
    nvvm.mbarrier_arrive_expect_tx(None, barrier, nbytes, predicate=alone)
    for strip in range(count):
        for target, place in strips.boxes(strip, strips.slot(stage, strip), coordinates):
            cluster = llvm.addrspacecast(ir.Type.parse("!llvm.ptr<7>"), target)
            nvvm.cp_async_bulk_tensor_shared_cluster_global(
                cluster, tensor_map, place, barrier, [], mode=nvvm.TMALoadMode.TILE, predicate=alone
            )


@lowering("tile.take_boxes")
def _take_boxes(context: LoweringContext, operation: ir.Operation) -> None:
    scratch, stage = context.get(operation.operands[0]), context.scalar(operation.operands[1])
    assert isinstance(scratch, SharedTile)
    layout = strips_layout(context.layout(operation.results[0].type), scratch)
    strips, first = Strips(context, scratch, layout), ir.IntegerAttr(operation.attributes["strip"]).value
    found: dict[tuple[int, int], list[ir.Value]] = {}  # by row slot and piece of eight columns
    across, pieces = scratch.columns // 8, layout.columns // 8
    for strip in range(layout.columns // scratch.columns):
        slot = strips.slot(stage, first + strip)
        for block in range(layout.blocks):
            for piece in range(across):
                found.update(_pieces(strips, block, strip * across, piece, slot))
    values = [value for row in range(2 * layout.blocks) for piece in range(pieces) for value in found[row, piece]]
    context.set(operation.results[0], RegisterTile(layout, tuple(values)))


def _pieces(
    strips: Strips, block: int, first: int, piece: int, slot: Slot
) -> dict[tuple[int, int], list[ir.Value]]:
    """What this thread has of eight columns of a block, `first` and more in front of them; of sixteen with ldmatrix."""
    context, element = strips.context, strips.scratch.element
    pair = ir.VectorType.get([2], element)

    def scalars(packed: ir.Value) -> list[ir.Value]:
        return [vector.extract(packed, [], [lane]) for lane in (0, 1)]

    if byte_width(element) != 2:
        alignment = 2 * byte_width(element)
        return {
            (2 * block + half, first + piece): scalars(
                context.load(strips.pair(block, half, piece, slot), pair, alignment)
            )
            for half in (0, 1)
        }
    if piece % 2:
        return {}
    loaded = nvvm.ldmatrix(
        llvm.StructType.get_literal([context.i32] * 4),
        strips.matrices(block, piece, slot),
        4,
        nvvm.MMALayout.row,
        ir.Attribute.parse("#nvvm.ld_st_matrix_shape<m = 8, n = 8>"),
        nvvm.LdStMatrixEltType.B16,
    )
    words = [llvm.bitcast(pair, llvm.extractvalue(context.i32, loaded, [number])) for number in range(4)]
    return {
        (2 * block + half, first + piece + side): scalars(words[2 * side + half]) for side in (0, 1) for half in (0, 1)
    }
