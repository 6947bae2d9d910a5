"""tile.scan: running combinations along the columns of a register tile.

In: a tile in a `blocked` layout whose threads hold one run of columns each, and what came before each line. Out: the
same tile scanned, and the totals. Registers first, then the lanes of a warp in log2 steps of shuffles, then, where a
line spans warps, one exchange through shared memory.
"""

from __future__ import annotations

from mlir import ir
from mlir.dialects import arith, nvvm

from ...runtime.errors import InternalError
from .context import LoweringContext, RegisterTile, byte_width, lowering
from .layouts import Blocked
from .reduce import Combine, combiner, load_shared, shuffle, store_shared

WARP = 32


@lowering("tile.scan")
def _scan(context: LoweringContext, operation: ir.Operation) -> None:
    tile, carry = (context.get(operand) for operand in operation.operands)
    layout = tile.layout
    if not isinstance(layout, Blocked) or layout.columns != layout.thread_columns * layout.vector:
        raise InternalError(f"tile.scan takes a blocked layout with one run of columns a thread, not {layout}")
    combine = combiner(ir.StringAttr(operation.attributes["kind"]).value, tile.values[0].type)
    exclusive = ir.IntegerAttr(operation.attributes["exclusive"]).value != 0
    runs = [list(tile.values[start : start + layout.vector]) for start in range(0, layout.registers, layout.vector)]
    scanned, totals = _Scan(context, layout, combine).lines(runs, list(carry.values), exclusive)
    context.set(operation.results[0], RegisterTile(layout, tuple(scanned)))
    context.set(operation.results[1], RegisterTile(carry.layout, tuple(totals)))


class _Scan:
    """Scans of the lines of one layout."""

    def __init__(self, context: LoweringContext, layout: Blocked, combine: Combine) -> None:
        self.context, self.layout, self.combine = context, layout, combine
        self.group = min(layout.thread_columns, WARP)  # neighbouring lanes that share a line
        self.lane = context.remainder(context.thread, self.group)

    def lines(
        self, runs: list[list[ir.Value]], carry: list[ir.Value], exclusive: bool
    ) -> tuple[list[ir.Value], list[ir.Value]]:
        """(every element scanned, the total of every line), both with what came before."""
        prefixes = [self._within_run(run) for run in runs]
        through = [self._within_warp(prefix[-1]) for prefix in prefixes]
        if self.layout.thread_columns > WARP:
            before, totals = self._across_warps(through, carry)
        else:
            last = [shuffle(self.context, value, self._last_lane(), nvvm.ShflKind.idx) for value in through]
            before, totals = carry, [self.combine(own, total) for own, total in zip(carry, last, strict=True)]
        scanned: list[ir.Value] = []
        for prefix, value, start in zip(prefixes, through, before, strict=True):
            left = shuffle(self.context, value, self.context.integer(1), nvvm.ShflKind.up)
            start = self._where(self._at_least(1), self.combine(start, left), start)
            inclusive = [self.combine(start, own) for own in prefix]
            scanned += [start, *inclusive[:-1]] if exclusive else inclusive
        return scanned, totals

    def _within_run(self, run: list[ir.Value]) -> list[ir.Value]:
        prefix = run[:1]
        for value in run[1:]:
            prefix.append(self.combine(prefix[-1], value))
        return prefix

    def _within_warp(self, value: ir.Value) -> ir.Value:
        """The combination of this lane's value and those of the lanes before it in its line."""
        offset = 1
        while offset < self.group:
            left = shuffle(self.context, value, self.context.integer(offset), nvvm.ShflKind.up)
            value = self._where(self._at_least(offset), self.combine(left, value), value)
            offset *= 2
        return value

    def _across_warps(self, through: list[ir.Value], carry: list[ir.Value]) -> tuple[list[ir.Value], list[ir.Value]]:
        """(what stands before each warp's part of a line, the lines' totals): the last lanes tell the others."""
        context = self.context
        parts, owners = self.layout.thread_columns // WARP, self.layout.thread_rows
        warp = context.divide(context.thread, WARP)
        owner, part = context.divide(warp, parts), context.remainder(warp, parts)
        size = byte_width(through[0].type)
        base = context.allocate_shared(owners * parts * len(through) * size, max(size, 16))
        for index, value in enumerate(through):  # all lanes of a warp write its total, which the last one knows
            total = shuffle(context, value, self._last_lane(), nvvm.ShflKind.idx)
            place = context.add(context.multiply(part, owners), index * owners * parts)
            store_shared(context, total, base, owner, place, size)
        context.barrier()
        before, totals = [], []
        for index, start in enumerate(carry):
            own = total = start
            for number in range(parts):
                place = index * owners * parts + number * owners
                value = load_shared(context, start.type, base, owner, place, size)
                total = self.combine(total, value)
                if number + 1 < parts:
                    later = arith.cmpi(arith.CmpIPredicate.sgt, part, context.integer(number))
                    own = self._where(later, total, own)
            before.append(own)
            totals.append(total)
        context.barrier()
        return before, totals

    def _last_lane(self) -> ir.Value:
        """The number in the warp of the last lane of this lane's line."""
        lane = self.context.remainder(self.context.thread, WARP)
        return arith.ori(lane, self.context.integer(self.group - 1))

    def _at_least(self, offset: int) -> ir.Value:
        return arith.cmpi(arith.CmpIPredicate.sge, self.lane, self.context.integer(offset))

    def _where(self, condition: ir.Value, value: ir.Value, other: ir.Value) -> ir.Value:
        return arith.select(condition, value, other)
