"""tile.store_boxes and tile.stores_wait: a register tile leaves through shared memory, in bulk copies.

In: a tile in the layout of a wgmma accumulator, in the type of the result. Out: for each strip of columns the pieces
of every thread in a swizzled shared tile (stmatrix where elements have 16 bits), a fence between the proxies, and one
thread that starts the copy. Groups of four warps go their own ways.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlir import ir
from mlir.dialects import arith, llvm, nvvm, vector

from ...runtime.errors import InternalError
from .context import LoweringContext, RegisterTile, SharedTile, byte_width, lowering
from .dot_fma import stage_offset
from .dot_layouts import WARP, WarpgroupLayout, parse_shared
from .layouts import Layout
from .roles import WARPGROUP, warpgroup_number

BOX_ROWS = 64  # of four warps
FIRST_BARRIER = 8  # of those that groups of four warps of one role have for themselves; roles count from 1
_CHUNK = 16  # bytes that the swizzle moves together
_BANKS = 128  # bytes of one row of banks: as many lines of a tile as fit there have their chunks turned alike


@lowering("tile.store_boxes")
def _store_boxes(context: LoweringContext, operation: ir.Operation) -> None:
    tile, scratch = (context.get(operand) for operand in list(operation.operands)[:2])
    stage, tensor_map, *coordinates = (context.scalar(operand) for operand in list(operation.operands)[2:])
    assert isinstance(tile, RegisterTile) and isinstance(scratch, SharedTile)
    layout = strips_layout(tile.layout, scratch)
    slots = ir.IntegerAttr(operation.attributes["slots"]).value
    strips = layout.columns // scratch.columns
    numbers: Sequence[int] = range(strips)
    if "strip" in operation.attributes:
        numbers = [ir.IntegerAttr(operation.attributes["strip"]).value]
    store = _Store(context, scratch, layout, tile)
    for own, strip in enumerate(numbers):
        # The slot was read by the store before the last, or by the last where the strips of a tile are odd in number.
        pending = 0 if strip == 0 and strips % slots else slots - 1
        nvvm.cp_async_bulk_wait_group(pending, read=True)
        store.meet()
        store.write(own, store.slot(stage, strip % slots))
        nvvm.fence_proxy(nvvm.ProxyKind.async_shared, space=nvvm.SharedSpace.shared_cta)
        store.meet()
        store.start(strip, store.slot(stage, strip % slots), tensor_map, coordinates)


def strips_layout(layout: Layout, scratch: SharedTile) -> WarpgroupLayout:
    """The layout, where tiles of it go by way of strips in that shared tile. Raises InternalError."""
    shared = parse_shared(scratch.layout)
    lines = shared.fast == 1 and shared.swizzle == shared.line * byte_width(scratch.element)
    if not isinstance(layout, WarpgroupLayout) or layout.width != 2 or not lines:
        raise InternalError(f"boxes hold wgmma sums by way of swizzled rows, not {layout} by {scratch.layout}")
    return layout


@lowering("tile.stores_wait")
def _stores_wait(context: LoweringContext, operation: ir.Operation) -> None:
    nvvm.cp_async_bulk_wait_group(0, read=True)


@dataclass(frozen=True)
class Slot:
    """A stage of a shared tile, `beyond` bytes behind the one that starts `start` bytes into shared memory. What is
    known stays apart: it becomes part of each access, where addresses of all slots would fill registers.
    """

    start: ir.Value
    beyond: int


@dataclass(frozen=True)
class Strips:
    """Strips of a register tile of that layout in the stages of the shared tile `scratch`."""

    context: LoweringContext
    scratch: SharedTile
    layout: WarpgroupLayout

    @property
    def span(self) -> int:
        """Bytes of a line of the shared tile."""
        return self.scratch.columns * byte_width(self.scratch.element)

    @property
    def group(self) -> ir.Value:
        """Which group of four warps this is, of those that share the tile."""
        return self.context.integer(0) if self.layout.warpgroups == 1 else warpgroup_number(self.context)

    def slot(self, first: ir.Value, strip: int) -> Slot:
        """The stage of a strip."""
        return Slot(stage_offset(self.context, self.scratch, first), strip * self.scratch.stage_bytes)

    def alone(self) -> ir.Value:
        """True for one thread of the group. A predicate, not a branch: the next wgmma wants the warp together."""
        thread = self.context.remainder(self.context.thread, WARPGROUP)
        return arith.cmpi(arith.CmpIPredicate.eq, thread, self.context.integer(0))

    def matrices(self, block: int, piece: int, slot: Slot) -> ir.Value:
        """Where this lane's row of four matrices of 8 x 8 lies: rows 0-7 and 8-15 of eight columns, then the next."""
        context = self.context
        lane = context.remainder(context.thread, WARP)
        row = context.add(self._first_row(), context.remainder(lane, 16))
        chunk = context.add(context.divide(lane, 16), piece)
        return self._pointer(slot, self._place(row, chunk), block)

    def pair(self, block: int, half: int, piece: int, slot: Slot) -> ir.Value:
        """Where two neighbours of any width lie that this thread has."""
        context, size = self.context, byte_width(self.scratch.element)
        lane = context.remainder(context.thread, WARP)
        row = context.add(self._first_row(), context.divide(lane, 4))
        offset = context.add(context.multiply(context.remainder(lane, 4), 2 * size), piece * 8 * size)
        inside = context.remainder(offset, _CHUNK)
        place = context.add(self._place(row, context.divide(offset, _CHUNK)), inside)
        return self._pointer(slot, place, block, 8 * half)

    def _pointer(self, slot: Slot, place: ir.Value, block: int, rows: int = 0) -> ir.Value:
        """`place` bytes into a slot, and some rows below: the swizzle repeats every eight."""
        context = self.context
        start = context.shared_pointer(context.add(slot.start, place))
        below = slot.beyond + (block * BOX_ROWS + rows) * self.span
        return context.offset_pointer(start, below, ir.IntegerType.get_signless(8))

    def _first_row(self) -> ir.Value:
        """Of the 16 rows of a warp in its group's first block."""
        context = self.context
        warp = context.divide(context.remainder(context.thread, WARPGROUP), WARP)
        return context.add(context.multiply(warp, 16), context.multiply(self.group, self.layout.blocks * BOX_ROWS))

    def _place(self, row: ir.Value, chunk: ir.Value) -> ir.Value:
        """Bytes from the first of the tile to 16 of a row, where the swizzle has put them."""
        context = self.context
        turn = context.remainder(context.divide(row, _BANKS // self.span), self.span // _CHUNK)
        moved = context.pure("xori", (chunk, turn), lambda: arith.xori(chunk, turn))
        return context.add(context.multiply(row, self.span), context.multiply(moved, _CHUNK))

    def boxes(
        self, strip: int, slot: Slot, coordinates: list[ir.Value]
    ) -> Iterator[tuple[ir.Value, list[ir.Value]]]:
        """(place in shared memory, coordinates in the tensor) of each box of 64 rows of the group."""
        context = self.context
        first = context.multiply(self.group, self.layout.blocks * BOX_ROWS)
        for block in range(self.layout.blocks):
            row = context.add(first, block * BOX_ROWS)
            place = [context.add(coordinates[0], strip * self.scratch.columns), context.add(coordinates[1], row)]
            yield self._pointer(slot, context.multiply(first, self.span), block), [*place, *coordinates[2:]]


@dataclass(frozen=True)
class _Store(Strips):
    """The stores of one register tile."""

    tile: RegisterTile

    def meet(self) -> None:
        """Wait for the threads of the group."""
        if self.layout.warpgroups == 1:
            self.context.barrier()
            return
        number = self.context.add(self.group, FIRST_BARRIER)
        nvvm.barrier(None, barrier_id=number, number_of_threads=self.context.integer(WARPGROUP))

    def write(self, strip: int, slot: Slot) -> None:
        """This thread's part of the columns of a strip."""
        size = byte_width(self.scratch.element)
        values = self._pieces(strip)
        across = self.scratch.columns // 8
        for block in range(self.layout.blocks):
            rows = [values[2 * block + half] for half in (0, 1)]
            if size == 2 and self.context.target.stmatrix:
                for piece in range(0, across, 2):
                    self._matrices(block, piece, slot, [rows[half][piece + side] for side in (0, 1) for half in (0, 1)])
                continue
            for half in (0, 1):
                for piece in range(across):
                    self._pair(block, half, piece, slot, rows[half][piece])

    def _pieces(self, strip: int) -> dict[int, list[list[ir.Value]]]:
        """By row slot: the pairs of neighbours of every 8 columns of the strip."""
        across = self.scratch.columns // 8
        found: dict[int, list[list[ir.Value]]] = {}
        start = 0
        for group in self.layout.groups():
            pair = list(self.tile.values[start : start + group.width])
            start += group.width
            if group.column_slot // across == strip:
                found.setdefault(group.row_slot, []).append(pair)
        return found

    def _matrices(self, block: int, piece: int, slot: Slot, pairs: list[list[ir.Value]]) -> None:
        layout, shape = nvvm.MMALayout.row, ir.Attribute.parse("#nvvm.ld_st_matrix_shape<m = 8, n = 8>")
        words = [_packed(self.context, pair) for pair in pairs]
        element = ir.Attribute.parse("#nvvm.ld_st_matrix_elt_type<b16>")
        nvvm.stmatrix(self.matrices(block, piece, slot), words, layout, shape, element)

    def _pair(self, block: int, half: int, piece: int, slot: Slot, pair: list[ir.Value]) -> None:
        packed = vector.from_elements(ir.VectorType.get([2], pair[0].type), pair)
        size = byte_width(self.scratch.element)
        llvm.store(packed, self.pair(block, half, piece, slot), alignment=2 * size)

    def start(self, strip: int, slot: Slot, tensor_map: ir.Value, coordinates: list[ir.Value]) -> None:
        """One thread copies what the group wrote."""
        alone = self.alone()
        for source, place in self.boxes(strip, slot, coordinates):
            nvvm.cp_async_bulk_tensor_global_shared_cta(tensor_map, source, place, predicate=alone)
        nvvm.cp_async_bulk_commit_group()  # of no copies, for the other threads


def _packed(context: LoweringContext, pair: list[ir.Value]) -> ir.Value:
    """Two halves in a register."""
    packed = vector.from_elements(ir.VectorType.get([2], pair[0].type), pair)
    return llvm.bitcast(context.i32, packed)
