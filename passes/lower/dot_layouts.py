"""Layouts of contractions: the accumulators of both kinds of main loop, and the shared tiles that feed them.

In: layout texts such as ``fma<2x2 warps, 4x8 lanes, vector=1x4, width=4>``, ``mma<2x2 warps, width=2>`` and
``shared<rows, line=20>``. Out: who holds which element. Text and meaning stand together here, so that the
scheduler writes what the lowering reads.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from mlir import ir

from .context import LoweringContext
from .layouts import Group, Layout, register_layout

WARP = 32


@dataclass(frozen=True)
class SharedLayout:
    """Where a shared tile keeps an element.

    ``shared<rows, line=20>``: every row is a line of 20 elements, columns are neighbours.

    ``shared<columns, line=64>`` keeps columns as lines. A line longer than the tile is padding against bank
    conflicts.

    ``shared<rows, line=64, swizzle=128>``: lines of 128 bytes, whose 16-byte pieces change places as tensor maps and
    wgmma know it. A tile with longer rows is cut into panels of that width, one after the other.
    """

    lines: str  # "rows" or "columns"
    line: int  # elements from one line to the next
    swizzle: int = 0  # bytes; 0 for none

    @property
    def fast(self) -> int:
        """The dimension whose neighbours are neighbours in memory."""
        return 1 if self.lines == "rows" else 0

    @property
    def strides(self) -> tuple[int, int]:
        """Elements from a row to the next and from a column to the next."""
        return (self.line, 1) if self.fast == 1 else (1, self.line)

    def elements(self, rows: int, columns: int) -> int:
        """Elements of one stage, padding included."""
        lines, length = (rows, columns) if self.fast == 1 else (columns, rows)
        return lines * self.line * (-(-length // self.line) if self.swizzle else 1)

    def __str__(self) -> str:
        swizzle = f", swizzle={self.swizzle}" if self.swizzle else ""
        return f"shared<{self.lines}, line={self.line}{swizzle}>"


@lru_cache(maxsize=1024)
def parse_shared(text: str) -> SharedLayout:
    """The shared layout of that text. Raises ValueError."""
    match = re.fullmatch(r"shared<(rows|columns), line=(\d+)(?:, swizzle=(\d+))?>", text)
    if not match:
        raise ValueError(f"{text!r}: expected shared<rows|columns, line=N[, swizzle=BYTES]>")
    return SharedLayout(match.group(1), int(match.group(2)), int(match.group(3) or 0))


class WarpGrid(Layout):
    """What both accumulators share: `warp_rows` x `warp_columns` warps, each with its own rectangle of the
    tile.
    """

    warp_rows: int
    warp_columns: int
    warp_depth: int  # groups of warps that hold partial sums of the whole tile, each over its part of k

    @property
    def threads(self) -> int:  # type: ignore[override]
        return self.warp_rows * self.warp_columns * self.warp_depth * WARP

    @property
    def grid(self) -> str:
        """The warps as they stand in the text: rows x columns, and x depth when k is split."""
        depth = f"x{self.warp_depth}" if self.warp_depth > 1 else ""
        return f"{self.warp_rows}x{self.warp_columns}{depth} warps"

    def depth_group(self, context: LoweringContext) -> ir.Value:
        """Which part of k this thread's warp works on, i32."""
        if self.warp_depth == 1:
            return context.integer(0)
        return context.divide(context.thread, self.warp_rows * self.warp_columns * WARP)

    @property
    def warp_tile(self) -> tuple[int, int]:
        """Rows and columns of one warp."""
        return self.rows // self.warp_rows, self.columns // self.warp_columns

    def _row_butterfly(self, axis: int, lanes: int) -> tuple[int, int]:
        """Lanes that share a row are neighbours; a row that spans warps is left to other layouts."""
        if axis != 1 or self.warp_columns != 1:
            raise ValueError(f"lines of {self} along axis {axis} span warps")
        return 1, lanes

    def warp_origin(self, context: LoweringContext) -> tuple[ir.Value, ir.Value]:
        """First row and column of this thread's warp, i32."""
        warp = context.divide(context.thread, WARP) if self.threads > WARP else context.integer(0)
        if self.warp_depth > 1:
            warp = context.remainder(warp, self.warp_rows * self.warp_columns)
        rows, columns = self.warp_tile
        row = context.divide(warp, self.warp_columns) if self.warp_rows > 1 else context.integer(0)
        column = context.remainder(warp, self.warp_columns) if self.warp_rows > 1 else warp
        return context.multiply(row, rows), context.multiply(column, columns)


@dataclass(frozen=True)
class FmaLayout(WarpGrid):
    """Register-blocked outer products: lanes form a grid, each with its pieces of the warp's tile.

    Thread (r, c) of the lane grid holds rows ``r*vr + i + p*lr*vr`` and the columns alike: neighbouring lanes
    read neighbouring vectors.
    """

    rows: int
    columns: int
    warp_rows: int
    warp_columns: int
    lanes: tuple[int, int]
    vector: tuple[int, int]
    width: int  # columns of a group in maps; at most the vector's
    warp_depth: int = 1
    word: ClassVar[str] = "fma"

    def butterfly(self, axis: int) -> tuple[int, int]:
        return self._row_butterfly(axis, self.lanes[1])

    @property
    def each(self) -> tuple[int, int]:
        """Rows and columns that one thread holds."""
        rows, columns = self.warp_tile
        return rows // self.lanes[0], columns // self.lanes[1]

    def groups(self) -> list[Group]:
        rows, columns = self.each
        return [
            Group(row, column, self.width) for row in range(rows) for column in range(columns // self.width)
        ]

    def row_offset(self, index: int) -> int:
        """Rows from the thread's first row to the row of its `index`."""
        piece, inside = divmod(index, self.vector[0])
        return piece * self.lanes[0] * self.vector[0] + inside

    def column_offset(self, index: int) -> int:
        """Columns from the thread's first column to the column of its `index`."""
        piece, inside = divmod(index, self.vector[1])
        return piece * self.lanes[1] * self.vector[1] + inside

    def origin(self, context: LoweringContext) -> tuple[ir.Value, ir.Value]:
        """The thread's first row and column."""
        lane = context.remainder(context.thread, WARP)
        row, column = self.warp_origin(context)
        lane_row, lane_column = context.divide(lane, self.lanes[1]), context.remainder(lane, self.lanes[1])
        row = context.add(row, context.multiply(lane_row, self.vector[0]))
        return row, context.add(column, context.multiply(lane_column, self.vector[1]))

    def row(self, context: LoweringContext, row_slot: int) -> ir.Value:
        return context.add(self.origin(context)[0], self.row_offset(row_slot))

    def column(self, context: LoweringContext, column_slot: int) -> ir.Value:
        return context.add(self.origin(context)[1], self.column_offset(column_slot * self.width))

    def __str__(self) -> str:
        grid = f"{self.grid}, {self.lanes[0]}x{self.lanes[1]} lanes"
        return f"fma<{grid}, vector={self.vector[0]}x{self.vector[1]}, width={self.width}>"


@register_layout("fma")
def _parse_fma(parameters: str, rows: int, columns: int) -> Layout:
    warps, lanes_text = r"(\d+)x(\d+)(?:x(\d+))? warps", r"(\d+)x(\d+) lanes"
    match = re.fullmatch(rf"{warps}, {lanes_text}, vector=(\d+)x(\d+), width=(\d+)", parameters)
    if not match:
        raise ValueError(f"fma<{parameters}>: expected fma<RxC warps, RxC lanes, vector=RxC, width=N>")
    warp_rows, warp_columns, warp_depth, *rest = (int(part or 1) for part in match.groups())
    lanes, vector, width = (rest[0], rest[1]), (rest[2], rest[3]), rest[4]
    divides = (
        rows % (warp_rows * lanes[0] * vector[0]) == 0
        and columns % (warp_columns * lanes[1] * vector[1]) == 0
    )
    if lanes[0] * lanes[1] != WARP or not divides or vector[1] % width:
        raise ValueError(f"fma<{parameters}> does not divide a tile of {rows}x{columns}")
    return FmaLayout(rows, columns, warp_rows, warp_columns, lanes, vector, width, warp_depth)


@dataclass(frozen=True)
class MmaLayout(WarpGrid):
    """Accumulators of mma.sync m16n8: lane 4*g + t holds rows g and g + 8, columns 2t and 2t + 1 of every 16
    x 8 piece (PTX ISA).
    """

    rows: int
    columns: int
    warp_rows: int
    warp_columns: int
    width: int  # columns of a group in maps: 2, or 1 where the number of columns is odd
    warp_depth: int = 1
    word: ClassVar[str] = "mma"

    def butterfly(self, axis: int) -> tuple[int, int]:
        return self._row_butterfly(axis, 4)

    @property
    def pieces(self) -> tuple[int, int]:
        """16 x 8 pieces of one warp, down and across."""
        rows, columns = self.warp_tile
        return rows // 16, columns // 8

    def groups(self) -> list[Group]:
        down, across = self.pieces
        return [
            Group(row, column, self.width)
            for row in range(2 * down)
            for column in range(across * 2 // self.width)
        ]

    def row(self, context: LoweringContext, row_slot: int) -> ir.Value:
        group = context.divide(context.remainder(context.thread, WARP), 4)
        piece, half = divmod(row_slot, 2)
        return context.add(context.add(self.warp_origin(context)[0], group), piece * 16 + half * 8)

    def column(self, context: LoweringContext, column_slot: int) -> ir.Value:
        pair = context.multiply(context.remainder(context.thread, 4), 2)
        piece, inside = divmod(column_slot * self.width, 2)
        return context.add(context.add(self.warp_origin(context)[1], pair), piece * 8 + inside)

    def __str__(self) -> str:
        return f"mma<{self.grid}, width={self.width}>"


@register_layout("mma")
def _parse_mma(parameters: str, rows: int, columns: int) -> Layout:
    match = re.fullmatch(r"(\d+)x(\d+)(?:x(\d+))? warps, width=([12])", parameters)
    if not match:
        raise ValueError(f"mma<{parameters}>: expected mma<RxC warps, width=1|2>")
    warp_rows, warp_columns, warp_depth, width = (int(part or 1) for part in match.groups())
    if rows % (warp_rows * 16) or columns % (warp_columns * 8):
        raise ValueError(f"mma<{parameters}> does not divide a tile of {rows}x{columns}")
    return MmaLayout(rows, columns, warp_rows, warp_columns, width, warp_depth)


@dataclass(frozen=True)
class WarpgroupLayout(Layout):
    """Accumulators of wgmma m64nN: ``wgmma<2 groups>``, one part of the rows for each group of four warps.

    A group's part is cut into blocks of 64 rows; in each, warp w has rows 16*w to 16*w + 15, and a lane of it what
    `MmaLayout` says (PTX ISA, "Register fragments for wgmma").
    """

    rows: int
    columns: int
    warpgroups: int
    width: int = 2  # columns of a group in maps: 2, or 1 where the number of columns is odd
    word: ClassVar[str] = "wgmma"

    @property
    def threads(self) -> int:  # type: ignore[override]
        return self.warpgroups * 4 * WARP

    @property
    def blocks(self) -> int:
        """64-row blocks of one warpgroup."""
        return self.rows // (64 * self.warpgroups)

    def butterfly(self, axis: int) -> tuple[int, int]:
        if axis != 1:
            raise ValueError(f"columns of {self} span warps")
        return 1, 4

    def groups(self) -> list[Group]:
        pieces = self.columns // 8 * 2 // self.width
        return [Group(row, piece, self.width) for row in range(2 * self.blocks) for piece in range(pieces)]

    def row(self, context: LoweringContext, row_slot: int) -> ir.Value:
        lane = context.remainder(context.thread, WARP)
        warp = context.remainder(context.divide(context.thread, WARP), 4)
        group = context.divide(context.thread, 4 * WARP) if self.warpgroups > 1 else context.integer(0)
        block, half = divmod(row_slot, 2)
        row = context.add(context.multiply(group, 64 * self.blocks), context.multiply(warp, 16))
        return context.add(context.add(row, context.divide(lane, 4)), block * 64 + half * 8)

    def column(self, context: LoweringContext, column_slot: int) -> ir.Value:
        pair = context.multiply(context.remainder(context.thread, 4), 2)
        piece, inside = divmod(column_slot * self.width, 2)
        return context.add(pair, piece * 8 + inside)

    def __str__(self) -> str:
        return f"wgmma<{self.warpgroups} groups{', width=1' if self.width == 1 else ''}>"


@register_layout("wgmma")
def _parse_warpgroup(parameters: str, rows: int, columns: int) -> Layout:
    match = re.fullmatch(r"(\d+) groups(, width=1)?", parameters)
    if not match:
        raise ValueError(f"wgmma<{parameters}>: expected wgmma<N groups[, width=1]>")
    warpgroups = int(match.group(1))
    if rows % (warpgroups * 64) or columns % 8:
        raise ValueError(f"wgmma<{parameters}> does not divide a tile of {rows}x{columns}")
    return WarpgroupLayout(rows, columns, warpgroups, 1 if match.group(2) else 2)


class OperandLayout(Layout):
    """Left operands of 16-bit products in registers. A slot is two neighbours; four slots are the operand of 16 columns
    for a block of rows, which are cut among warps as those of the sums.
    """

    @property
    @abstractmethod
    def accumulator(self) -> WarpgroupLayout | MmaLayout:
        """The layout of sums that lie alike."""

    @property
    @abstractmethod
    def blocks(self) -> int:
        """Blocks of rows of one warp or warpgroup."""

    def groups(self) -> list[Group]:
        """For every block of rows and 16 columns: rows g and g + 8 of the first 8 columns, then of the others."""
        return [
            Group(2 * block + half, 2 * step + side, 1)
            for block in range(self.blocks)
            for step in range(self.columns // 16)
            for side in (0, 1)
            for half in (0, 1)
        ]

    def row(self, context: LoweringContext, row_slot: int) -> ir.Value:
        return self.accumulator.row(context, row_slot)

    def column(self, context: LoweringContext, column_slot: int) -> ir.Value:
        return self.accumulator.column(context, column_slot)


@dataclass(frozen=True)
class PairLayout(OperandLayout):
    """``pairs<2 groups>``: left operands of wgmma in registers, each two neighbours of 16 bits, cut among warps as the
    accumulator of `WarpgroupLayout`; a slot is such a pair. Four of them are the operand of 64 rows x 16 columns.
    """

    rows: int
    columns: int
    warpgroups: int
    word: ClassVar[str] = "pairs"

    @property
    def accumulator(self) -> WarpgroupLayout:
        """The layout of sums that lie alike."""
        return WarpgroupLayout(self.rows, self.columns, self.warpgroups)

    @property
    def threads(self) -> int:  # type: ignore[override]
        return self.accumulator.threads

    @property
    def blocks(self) -> int:
        """64-row blocks of one warpgroup."""
        return self.accumulator.blocks

    def __str__(self) -> str:
        return f"pairs<{self.warpgroups} groups>"


@register_layout("pairs")
def _parse_pairs(parameters: str, rows: int, columns: int) -> Layout:
    match = re.fullmatch(r"(\d+) groups", parameters)
    if not match or rows % (int(match.group(1)) * 64) or columns % 16:
        raise ValueError(f"pairs<{parameters}> does not divide a tile of {rows}x{columns}")
    return PairLayout(rows, columns, int(match.group(1)))


@dataclass(frozen=True)
class FragmentLayout(OperandLayout):
    """``fragments<4 warps>``: left operands of mma.sync m16n8k16 in registers, as `PairLayout` has those of wgmma; the
    rows are cut among warps as those of `MmaLayout`.
    """

    rows: int
    columns: int
    warps: int
    word: ClassVar[str] = "fragments"

    @property
    def accumulator(self) -> MmaLayout:
        """The layout of sums that lie alike."""
        return MmaLayout(self.rows, self.columns, self.warps, 1, 2)

    @property
    def threads(self) -> int:  # type: ignore[override]
        return self.warps * WARP

    @property
    def blocks(self) -> int:
        """Blocks of 16 rows of one warp."""
        return self.rows // (16 * self.warps)

    def __str__(self) -> str:
        return f"fragments<{self.warps} warps>"


@register_layout("fragments")
def _parse_fragments(parameters: str, rows: int, columns: int) -> Layout:
    match = re.fullmatch(r"(\d+) warps", parameters)
    if not match or rows % (int(match.group(1)) * 16) or columns % 16:
        raise ValueError(f"fragments<{parameters}> does not divide a tile of {rows}x{columns}")
    return FragmentLayout(rows, columns, int(match.group(1)))
