"""tile.turn: a register tile is transposed on its way through shared memory.

In: a square whose threads hold neighbours along its columns, and some rows of them. Out: its transpose, whose threads
hold neighbours along that one's columns. Rows of a thread are written as one word; pieces of 16 bytes change places in
their line, so that neither writes nor reads of a warp meet in a bank.
"""

from __future__ import annotations

from mlir import ir
from mlir.dialects import arith

from ...runtime.errors import InternalError
from .bodies import VECTOR_BYTES, store_vector
from .context import LoweringContext, RegisterTile, SharedTile, byte_width, lowering
from .dot_fma import load_shared_vector
from .layouts import Blocked


@lowering("tile.turn")
def _turn(context: LoweringContext, operation: ir.Operation) -> None:
    tile, scratch = (context.get(operand) for operand in operation.operands)
    assert isinstance(tile, RegisterTile) and isinstance(scratch, SharedTile)
    source, target = tile.layout, context.layout(operation.results[0].type)
    if not isinstance(source, Blocked) or not isinstance(target, Blocked):
        raise InternalError(f"tile.turn takes a blocked layout to another, not {source} to {target}")
    lines = _Lines(context, scratch)
    values = _by_place(tile)
    for first in range(0, source.rows // source.thread_rows, source.down):
        for slot in range(source.columns // (source.thread_columns * source.vector)):
            row, column = source.row(context, first), source.column(context, slot)
            for lane in range(source.vector):
                word = [values[first + below, slot][lane] for below in range(source.down)]
                store_vector(context, lines.place(context.add(column, lane), row), context.integer(0), word)
    context.barrier()
    found: list[ir.Value] = []
    for group in target.groups():
        row, column = target.row(context, group.row_slot), target.column(context, group.column_slot)
        for first in range(0, group.width, lines.piece):  # a narrow result may take several pieces at once
            place = lines.place(row, context.add(column, first))
            found += load_shared_vector(context, place, scratch.element, min(group.width, lines.piece))
    context.set(operation.results[0], RegisterTile(target, tuple(found)))


def _by_place(tile: RegisterTile) -> dict[tuple[int, int], tuple[ir.Value, ...]]:
    """The registers of each group by its row and column slot."""
    found, start = {}, 0
    for group in tile.layout.groups():
        found[group.row_slot, group.column_slot] = tile.values[start : start + group.width]
        start += group.width
    return found


class _Lines:
    """The shared tile: a line for each row of the result."""

    def __init__(self, context: LoweringContext, scratch: SharedTile) -> None:
        self.context, self.scratch = context, scratch
        self.size = byte_width(scratch.element)
        self.piece = VECTOR_BYTES // self.size  # elements that stay together
        self.pieces = scratch.columns // self.piece

    def place(self, line: ir.Value, inside: ir.Value) -> ir.Value:
        """Where the element `inside` a line lies. Lines a piece apart have their pieces in another order."""
        context = self.context
        turn = context.remainder(context.divide(line, self.piece), self.pieces)
        piece = arith.xori(context.divide(inside, self.piece), turn)
        column = context.add(context.multiply(piece, self.piece), context.remainder(inside, self.piece))
        offset = context.multiply(context.add(context.multiply(line, self.scratch.columns), column), self.size)
        return context.shared_pointer(context.add(offset, self.scratch.offset))
