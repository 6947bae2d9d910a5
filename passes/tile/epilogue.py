"""What the end of every contraction program has in common: the rest of its kernel, and the sums it runs on.

In: the view of a contraction and what its kernel returns. Out: one object for the modules that emit epilogues
(results.py, paired_results.py) and for the programs that call them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from mlir import ir

from ...runtime.symbolic import Expression
from .builder import TileBuilder
from .contraction import Contraction

Position: TypeAlias = tuple[Expression, Expression, Expression]  # batch, first row, first column


@dataclass(frozen=True)
class ResultTile:
    """The sums of which one block runs the epilogue: a register tile whose threads store `width` columns at a time.

    Tiles begin at multiples of `steps` (rows, columns): where those divide the result, none crosses its edge.
    """

    shape: tuple[int, int]
    layout: str
    width: int
    element: str
    steps: tuple[int, int]


@dataclass(frozen=True)
class Rest:
    """The rest of a kernel behind its contraction: what it `returned` is computed from the sums. Of values with one
    number a line, `lines` has tiles.
    """

    builder: TileBuilder
    view: Contraction
    returned: list[ir.Value]
    lines: Mapping[ir.Value, ir.Value] = field(default_factory=dict)

    def full_dimensions(self, tile: ResultTile) -> list[str]:
        """Those of which no tile crosses the edge of the result, as tile.map calls them."""
        extents = zip(("rows", "columns"), (self.view.rows, self.view.columns), tile.steps, strict=True)
        return [name for name, extent, step in extents if extent.divisible_by(step)]
