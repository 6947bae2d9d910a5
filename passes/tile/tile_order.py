"""Which tile of a contraction's result a number stands for.

In: the number of a tile. Out: its place. Tiles of neighbouring numbers run at the same time and should share what they
read.
"""

from __future__ import annotations

from ...runtime.symbolic import Expression, expression
from .builder import TileBuilder
from .contraction import Contraction
from .epilogue import Position
from .schedule import size_guess


def tile_count(view: Contraction, tile: tuple[int, int]) -> Expression:
    """Tiles of (rows, columns) that cover the result."""
    return view.batch * view.rows.ceil_divide(tile[0]) * view.columns.ceil_divide(tile[1])


def tile_position(
    builder: TileBuilder, view: Contraction, number: Expression, tile: tuple[int, int], strips: bool
) -> Position:
    """(batch, first row, first column) of a tile.

    With `strips` columns run in strips of a few tiles; without, or where the tiles do not divide into strips, the one
    of rows and columns with fewer tiles runs fastest.
    """
    down, across = view.rows.ceil_divide(tile[0]), view.columns.ceil_divide(tile[1])
    strip = _strip(across) if strips else 1
    if strip > 1:
        batch, outer, row, inner = builder.delinearize(
            number, (view.batch, across.exact_divide(strip) or across, down, expression(strip))
        )
        column = outer * strip + inner
    elif size_guess(down) <= size_guess(across):
        batch, column, row = builder.delinearize(number, (view.batch, across, down))
    else:
        batch, row, column = builder.delinearize(number, (view.batch, down, across))
    if view.batch != 1:
        batch = builder.variable(builder.index(batch), "batch", view.batch)
    return batch, row * tile[0], column * tile[1]


def _strip(across: Expression) -> int:
    """Tiles of a strip of columns: with a multiprocessor for each of some hundred tiles, about as many as rows."""
    return next((width for width in (8, 6, 4) if across.divisible_by(width) and across != width), 1)
