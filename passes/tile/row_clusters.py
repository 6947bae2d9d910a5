"""Lines that blocks of a cluster share: partial results become those of the whole line.

In: a reduced tile of every block. Out: the same tile over all blocks, in every one of them, by way of each other's
shared memory. Combined in the order of the blocks from the asking one on, so results are the same in every run.
"""

from __future__ import annotations

from mlir import ir
from mlir.dialects import arith

from ..lower.dot_layouts import SharedLayout
from .row_schedule import Schedule
from .tile_types import i64, tile_of


def meet() -> None:
    """Wait for all threads of all blocks of the cluster."""
    ir.Operation.create("tile.cluster_barrier")


def over_blocks(total: ir.Value, type_: ir.Type, element: ir.Type, schedule: Schedule, kind: str) -> ir.Value:
    """The tile `total` of `type_`, combined over the cluster. Every call has shared memory of its own, so that a block
    may go on to the next one while others still read.
    """
    rows, columns = schedule.reduced_shape
    shared = ir.Operation.create(
        "tile.allocate",
        results=[tile_of(rows, columns, element, str(SharedLayout("rows", columns)))],
        attributes={"stages": i64(1)},
    ).result
    zero = arith.constant(ir.IndexType.get(), 0)
    ir.Operation.create("tile.put", operands=[shared, zero, total])
    meet()
    attributes = {"blocks": i64(schedule.split), "kind": ir.StringAttr.get(kind)}
    return ir.Operation.create(
        "tile.combine_blocks", results=[type_], operands=[shared, zero], attributes=attributes
    ).result
