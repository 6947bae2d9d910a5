"""tile.exchange: a register tile changes its layout on the way through shared memory.

In: an accumulator of wgmma, whose threads hold pairs of columns. Out: the same tile, or the transposed one, in a
`blocked` layout, whose threads hold neighbours enough for accesses of 16 bytes. A strip of columns at a time: little
shared memory is needed.
"""

from __future__ import annotations

from mlir import ir

from ...runtime.errors import InternalError
from .bodies import VECTOR_BYTES, store_vector
from .context import LoweringContext, RegisterTile, SharedTile, byte_width, lowering
from .dot_fma import load_shared_vector, stage_offset
from .dot_layouts import WarpgroupLayout, parse_shared
from .layouts import Blocked, Group, Layout


@lowering("tile.exchange")
def _exchange(context: LoweringContext, operation: ir.Operation) -> None:
    tile, scratch = (context.get(operand) for operand in list(operation.operands)[:2])
    assert isinstance(tile, RegisterTile) and isinstance(scratch, SharedTile)
    source, target = tile.layout, context.layout(operation.results[0].type)
    if not isinstance(source, WarpgroupLayout) or not isinstance(target, Blocked):
        raise InternalError(f"tile.exchange takes a wgmma layout to a blocked one, not {source} to {target}")
    strip = scratch.columns
    turned = "turned" in operation.attributes
    if (source.columns if turned else target.thread_columns * target.vector) != strip:
        raise InternalError(f"{target} does not take {strip} columns at a time")
    stage = context.scalar(operation.operands[2]) if len(operation.operands) > 2 else context.integer(0)
    exchange = _Exchange(context, scratch, stage)
    starts, registers = _registers(source), _registers(target)
    results: list[ir.Value | None] = [None] * target.registers
    for number in range(source.columns // strip):
        context.barrier()  # the strip before has been read
        for group, start in zip(source.groups(), starts, strict=True):
            if group.column_slot * 8 // strip == number:
                exchange.write(source, group, number * strip, list(tile.values[start : start + group.width]))
        context.barrier()
        for group, start in zip(target.groups(), registers, strict=True):
            if turned:
                results[start : start + group.width] = exchange.read_turned(target, group)
            elif group.column_slot == number:
                results[start : start + group.width] = exchange.read(target, group, number * strip)
    context.set(operation.results[0], RegisterTile(target, tuple(value for value in results if value is not None)))


def _registers(layout: Layout) -> list[int]:
    """The first register of every group."""
    starts, position = [], 0
    for group in layout.groups():
        starts.append(position)
        position += group.width
    return starts


class _Exchange:
    """The strip in shared memory; columns count from the first of the tile."""

    def __init__(self, context: LoweringContext, scratch: SharedTile, stage: ir.Value) -> None:
        self.context, self.element = context, scratch.element
        self.line = parse_shared(scratch.layout).line
        self.base = context.shared_pointer(stage_offset(context, scratch, stage))

    def _place(self, layout: Layout, group: Group, first: int) -> ir.Value:
        context = self.context
        row = context.multiply(layout.row(context, group.row_slot), self.line)
        column = context.add(layout.column(context, group.column_slot), -first)
        return context.offset_pointer(self.base, context.add(row, column), self.element)

    def write(self, layout: Layout, group: Group, first: int, values: list[ir.Value]) -> None:
        """Put a group of the source there."""
        store_vector(self.context, self._place(layout, group, first), self.context.integer(0), values)

    def read(self, layout: Layout, group: Group, first: int) -> list[ir.Value]:
        """A group of the target, in accesses of 16 bytes at most."""
        place = self._place(layout, group, first)
        step = min(group.width, VECTOR_BYTES // byte_width(self.element))
        values: list[ir.Value] = []
        for lane in range(0, group.width, step):
            pointer = self.context.offset_pointer(place, lane, self.element)
            values += load_shared_vector(self.context, pointer, self.element, step)
        return values

    def read_turned(self, layout: Layout, group: Group) -> list[ir.Value]:
        """A group of the target from neighbouring rows of a column."""
        context, size = self.context, byte_width(self.element)
        row = context.multiply(layout.column(context, group.column_slot), self.line)
        first = context.offset_pointer(
            self.base, context.add(row, layout.row(context, group.row_slot)), self.element
        )
        places = [context.offset_pointer(first, lane * self.line, self.element) for lane in range(group.width)]
        return [context.load(place, self.element, size) for place in places]
