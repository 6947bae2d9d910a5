"""Layouts: which thread holds which element of a register tile.

In: the layout text of a tile type. Out: a `Layout` that tells, for each register of a thread, its row and column. A
tile is a set of groups; a group is `width` registers that are neighbours along the columns, so one vector access
serves it.

A layout is a class registered under the word before ``<``; tile.map and tile.reduce are lowered for any layout
through this interface.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from mlir import ir

if TYPE_CHECKING:
    from .context import LoweringContext


@dataclass(frozen=True)
class Group:
    """`width` neighbouring registers; slots number the distinct rows and column starts that a thread holds."""

    row_slot: int
    column_slot: int
    width: int


class Layout(ABC):
    """Where the registers of one thread lie in a tile of `rows` x `columns`."""

    word: ClassVar[str]
    rows: int
    columns: int
    threads: int

    @abstractmethod
    def groups(self) -> list[Group]:
        """The groups of a thread, in register order: register index = sum of the widths before + lane."""

    @abstractmethod
    def row(self, context: LoweringContext, row_slot: int) -> ir.Value:
        """Row of a row slot for this thread, i32."""

    @abstractmethod
    def column(self, context: LoweringContext, column_slot: int) -> ir.Value:
        """First column of a column slot for this thread, i32."""

    def butterfly(self, axis: int) -> tuple[int, int]:
        """(first, end): a line along `axis` is spread over the threads whose numbers differ in bits first <= b < end.

        Raises ValueError for a layout whose lines cannot be combined this way.
        """
        raise ValueError(f"the lines of layout {self} are not spread over a butterfly of threads")

    @property
    def holds_row_pairs(self) -> bool:
        """Whether every thread that holds a row 2i holds row 2i + 1 as its next one."""
        return False

    @property
    def registers(self) -> int:
        return sum(group.width for group in self.groups())


LAYOUTS: dict[str, Callable[[str, int, int], Layout]] = {}


def register_layout(word: str) -> Callable[[Callable[[str, int, int], Layout]], Callable[[str, int, int], Layout]]:
    """Decorator over a parser ``(parameters text, rows, columns) -> Layout``."""

    def register(parse: Callable[[str, int, int], Layout]) -> Callable[[str, int, int], Layout]:
        LAYOUTS[word] = parse
        return parse

    return register


@lru_cache(maxsize=4096)
def parse_layout(text: str, rows: int, columns: int) -> Layout:
    """The layout of that text for a tile of that shape. Raises ValueError for an unknown word."""
    word, _, rest = text.partition("<")
    if word not in LAYOUTS:
        raise ValueError(f"unknown tile layout {text!r}; known: {', '.join(sorted(LAYOUTS))}")
    return LAYOUTS[word](rest.removesuffix(">"), rows, columns)


@dataclass(frozen=True)
class Blocked(Layout):
    """``blocked<8x32, vector=4>``: a grid of 8 x 32 threads, 4 neighbouring columns each, repeated over the tile. With
    ``down=2`` each thread has two neighbouring rows of them.
    """

    rows: int
    columns: int
    thread_rows: int
    thread_columns: int
    vector: int
    down: int = 1
    word: ClassVar[str] = "blocked"

    @property
    def threads(self) -> int:  # type: ignore[override]
        return self.thread_rows * self.thread_columns

    @property
    def holds_row_pairs(self) -> bool:
        return self.down % 2 == 0

    def butterfly(self, axis: int) -> tuple[int, int]:
        return (1, self.thread_columns) if axis == 1 else (self.thread_columns, self.threads)

    def groups(self) -> list[Group]:
        row_slots = self.rows // self.thread_rows
        column_slots = self.columns // (self.thread_columns * self.vector)
        return [Group(r, c, self.vector) for r in range(row_slots) for c in range(column_slots)]

    def row(self, context: LoweringContext, row_slot: int) -> ir.Value:
        thread_row = context.divide(context.thread, self.thread_columns) if self.thread_rows > 1 else context.integer(0)
        piece, inside = divmod(row_slot, self.down)
        return context.add(context.multiply(thread_row, self.down), piece * self.thread_rows * self.down + inside)

    def column(self, context: LoweringContext, column_slot: int) -> ir.Value:
        thread_column = context.thread
        if self.thread_rows > 1:
            thread_column = context.remainder(context.thread, self.thread_columns)
        return context.add(
            context.multiply(thread_column, self.vector), column_slot * self.thread_columns * self.vector
        )


@register_layout("blocked")
def _parse_blocked(parameters: str, rows: int, columns: int) -> Layout:
    match = re.fullmatch(r"(\d+)x(\d+), vector=(\d+)(?:, down=(\d+))?", parameters)
    if not match:
        raise ValueError(f"blocked<{parameters}>: expected blocked<ROWSxCOLUMNS, vector=N[, down=N]>")
    thread_rows, thread_columns, vector, down = (int(part or 1) for part in match.groups())
    if rows % (thread_rows * down) or columns % (thread_columns * vector):
        raise ValueError(f"blocked<{parameters}> does not divide a tile of {rows}x{columns}")
    return Blocked(rows, columns, thread_rows, thread_columns, vector, down)


@dataclass(frozen=True)
class Reduced(Layout):
    """``reduced<1, PARENT>``: what is left of a tile of layout PARENT reduced over axis 1 (or 0): one value a line.

    The parent's shape is ``PARENT[rows x columns]`` in the text, because a line of size 1 does not tell it.
    """

    axis: int
    parent: Layout
    word: ClassVar[str] = "reduced"

    @property
    def rows(self) -> int:  # type: ignore[override]
        return 1 if self.axis == 0 else self.parent.rows

    @property
    def columns(self) -> int:  # type: ignore[override]
        return 1 if self.axis == 1 else self.parent.columns

    @property
    def threads(self) -> int:  # type: ignore[override]
        return self.parent.threads

    @property
    def holds_row_pairs(self) -> bool:
        return self.axis == 1 and self.parent.holds_row_pairs

    def groups(self) -> list[Group]:
        seen: dict[int, Group] = {}
        for group in self.parent.groups():
            if self.axis == 1:
                seen.setdefault(group.row_slot, Group(group.row_slot, 0, 1))
            else:
                seen.setdefault(group.column_slot, Group(0, group.column_slot, group.width))
        return list(seen.values())

    def row(self, context: LoweringContext, row_slot: int) -> ir.Value:
        return context.integer(0) if self.axis == 0 else self.parent.row(context, row_slot)

    def column(self, context: LoweringContext, column_slot: int) -> ir.Value:
        return context.integer(0) if self.axis == 1 else self.parent.column(context, column_slot)


@register_layout("reduced")
def _parse_reduced(parameters: str, rows: int, columns: int) -> Layout:
    return Reduced(*_parse_parent("reduced", parameters))


@dataclass(frozen=True)
class Half(Layout):
    """``half<1, PARENT>``: every other column (or, for 0, row) of a tile of layout PARENT whose threads hold both of a
    pair. The parent's shape stands in the text as in that of `Reduced`.
    """

    axis: int
    parent: Layout
    word: ClassVar[str] = "half"

    @property
    def rows(self) -> int:  # type: ignore[override]
        return self.parent.rows // (2 if self.axis == 0 else 1)

    @property
    def columns(self) -> int:  # type: ignore[override]
        return self.parent.columns // (2 if self.axis == 1 else 1)

    @property
    def threads(self) -> int:  # type: ignore[override]
        return self.parent.threads

    def groups(self) -> list[Group]:
        if self.axis == 1:
            return [Group(own.row_slot, own.column_slot, own.width // 2) for own in self.parent.groups()]
        return [
            Group(own.row_slot // 2, own.column_slot, own.width)
            for own in self.parent.groups()
            if own.row_slot % 2 == 0
        ]

    def row(self, context: LoweringContext, row_slot: int) -> ir.Value:
        if self.axis == 1:
            return self.parent.row(context, row_slot)
        return context.divide(self.parent.row(context, 2 * row_slot), 2)

    def column(self, context: LoweringContext, column_slot: int) -> ir.Value:
        column = self.parent.column(context, column_slot)
        return context.divide(column, 2) if self.axis == 1 else column


@register_layout("half")
def _parse_half(parameters: str, rows: int, columns: int) -> Layout:
    axis, parent = _parse_parent("half", parameters)
    if axis == 1 and any(group.width % 2 for group in parent.groups()):
        raise ValueError(f"half<{parameters}>: a thread does not hold pairs of columns")
    if axis == 0 and not parent.holds_row_pairs:
        raise ValueError(f"half<{parameters}>: a thread does not hold pairs of rows")
    return Half(axis, parent)


def half_text(axis: int, parent: str, rows: int, columns: int) -> str:
    """The layout text of half a tile."""
    return f"half<{axis}, {parent}[{rows}x{columns}]>"


def _parse_parent(word: str, parameters: str) -> tuple[int, Layout]:
    match = re.fullmatch(r"([01]), (.*)\[(\d+)x(\d+)\]", parameters)
    if not match:
        raise ValueError(f"{word}<{parameters}>: expected {word}<AXIS, LAYOUT[ROWSxCOLUMNS]>")
    axis, parent, parent_rows, parent_columns = match.groups()
    return int(axis), parse_layout(parent, int(parent_rows), int(parent_columns))


def reduced_text(axis: int, parent: str, rows: int, columns: int) -> str:
    """The layout text of a reduction's result."""
    return f"reduced<{axis}, {parent}[{rows}x{columns}]>"
