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
    """``blocked<8x32, vector=4>``: a grid of 8 x 32 threads, 4 neighbouring columns each, repeated over the tile."""

    rows: int
    columns: int
    thread_rows: int
    thread_columns: int
    vector: int
    word: ClassVar[str] = "blocked"

    @property
    def threads(self) -> int:  # type: ignore[override]
        return self.thread_rows * self.thread_columns

    def butterfly(self, axis: int) -> tuple[int, int]:
        return (1, self.thread_columns) if axis == 1 else (self.thread_columns, self.threads)

    def groups(self) -> list[Group]:
        row_slots = self.rows // self.thread_rows
        column_slots = self.columns // (self.thread_columns * self.vector)
        return [Group(r, c, self.vector) for r in range(row_slots) for c in range(column_slots)]

    def row(self, context: LoweringContext, row_slot: int) -> ir.Value:
        thread_row = context.divide(context.thread, self.thread_columns) if self.thread_rows > 1 else context.integer(0)
        return context.add(thread_row, row_slot * self.thread_rows)

    def column(self, context: LoweringContext, column_slot: int) -> ir.Value:
        thread_column = context.thread
        if self.thread_rows > 1:
            thread_column = context.remainder(context.thread, self.thread_columns)
        return context.add(
            context.multiply(thread_column, self.vector), column_slot * self.thread_columns * self.vector
        )


@register_layout("blocked")
def _parse_blocked(parameters: str, rows: int, columns: int) -> Layout:
    match = re.fullmatch(r"(\d+)x(\d+), vector=(\d+)", parameters)
    if not match:
        raise ValueError(f"blocked<{parameters}>: expected blocked<ROWSxCOLUMNS, vector=N>")
    thread_rows, thread_columns, vector = map(int, match.groups())
    if rows % thread_rows or columns % (thread_columns * vector):
        raise ValueError(f"blocked<{parameters}> does not divide a tile of {rows}x{columns}")
    return Blocked(rows, columns, thread_rows, thread_columns, vector)


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
    match = re.fullmatch(r"([01]), (.*)\[(\d+)x(\d+)\]", parameters)
    if not match:
        raise ValueError(f"reduced<{parameters}>: expected reduced<AXIS, LAYOUT[ROWSxCOLUMNS]>")
    axis, parent, parent_rows, parent_columns = match.groups()
    return Reduced(int(axis), parse_layout(parent, int(parent_rows), int(parent_columns)))


def reduced_text(axis: int, parent: str, rows: int, columns: int) -> str:
    """The layout text of a reduction's result."""
    return f"reduced<{axis}, {parent}[{rows}x{columns}]>"
