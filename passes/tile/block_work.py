"""What each block of a contraction on Hopper does: tiles of the result one after the other, or parts of tiles.

In: how many tiles there are and where they lie, the length of k, a schedule. Out: the loop over a block's tiles, as
each role goes through it, and the grid. It exists because producer and consumers have to agree on both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from mlir import ir
from mlir.dialects import arith, scf

from ...runtime.symbolic import ZERO, Expression, expression, minimum
from .builder import TileBuilder
from .epilogue import Position
from .schedule import Schedule
from .shared_tiles import Part, PartsOfBlock, SharedTiles
from .tile_types import i64, program_id


@dataclass(frozen=True)
class Work:
    """What a block does of one tile: `steps` steps of k from step `first` on; a `part` where others do the rest."""

    position: Position
    first: Expression
    steps: ir.Value
    part: Part | None = None


@dataclass
class BlockWork:
    """The work of every block. `position` gives the place of a tile of the result by its number."""

    builder: TileBuilder
    schedule: Schedule
    depth: int  # k
    count: Expression  # tiles of the result, counted in clusters of them
    position: Callable[[Expression], Position]
    rank: Expression = ZERO  # of the block in its cluster, in the region that is being emitted

    @property
    def grid(self) -> Expression:
        """Blocks of the launch: no more than run at once, each then takes several tiles. Where the blocks of a cluster
        share k, each has a part of one tile.
        """
        cluster, split = self.schedule.cluster, self.schedule.split
        if self.schedule.run:
            return expression(self.shares.grid)
        return self.count * split if split > 1 else minimum(self.count, self.schedule.resident // cluster) * cluster

    @contextmanager
    def tiles(
        self, start: list[ir.Value], group: ir.Value | None = None
    ) -> Iterator[tuple[Work, list[ir.Value], list[ir.Value]]]:
        """The loop over this block's tiles: (its work, the values carried, list for their new values).

        The blocks of a cluster have neighbouring tiles, one below the other, or parts of k of a single one. Of groups
        that take turns, each has every other tile of the block.
        """
        builder, cluster, split = self.builder, self.schedule.cluster, self.schedule.split
        self.rank = ZERO
        if self.schedule.run:
            with self._parts(start) as found:
                yield found
            return
        first = self._first_tile()
        if split > 1:
            yield self._of_tile(builder.variable(first, "tile", self.count)), start, []
            return
        step = ir.Operation.create(
            "tile.program_count", results=[ir.IndexType.get()], attributes={"axis": i64(0)}
        ).result
        if cluster > 1:
            step = arith.divui(step, builder.index(cluster))
        if group is not None:
            first = arith.addi(first, arith.muli(group, step))
            step = arith.muli(step, builder.index(self.schedule.turns))
        loop = scf.ForOp(first, builder.index(self.count), step, start)
        end: list[ir.Value] = []
        with ir.InsertionPoint(loop.body), builder.region():
            work = self._of_tile(builder.variable(loop.induction_variable, "tile", self.count))
            yield work, list(loop.inner_iter_args), end
            scf.yield_(end)

    def first(self) -> Work:
        """The block's first tile, or its part of one, where no tiles are shared."""
        self.rank = ZERO
        return self._of_tile(self.builder.variable(self._first_tile(), "tile", self.count))

    def _first_tile(self) -> ir.Value:
        """The number of the block's first tile, or of its cluster's; and `rank`, the block's place among those."""
        number, blocks = program_id(0), self.schedule.together
        if blocks == 1:
            return number
        divisor = self.builder.index(blocks)
        self.rank = self.builder.variable(arith.remui(number, divisor), "rank", blocks)
        return arith.divui(number, divisor)

    def _of_tile(self, tile: Expression) -> Work:
        """What this block does of a tile, or of its cluster's tiles."""
        (batch, row, column), steps = self.position(tile), self.builder.index(self.steps)
        if self.schedule.split > 1:
            return Work((batch, row, column), self.rank * self.steps, steps)
        return Work((batch, row + self.rank * self.schedule.block[0], column), ZERO, steps)

    @contextmanager
    def _parts(self, start: list[ir.Value]) -> Iterator[tuple[Work, list[ir.Value], list[ir.Value]]]:
        """The same where the tiles that fill no wave are shared by all blocks."""
        builder = self.builder
        parts = PartsOfBlock(self.shares)
        loop = scf.ForOp(builder.index(0), parts.count, builder.index(1), start)
        end: list[ir.Value] = []
        with ir.InsertionPoint(loop.body), builder.region():
            part = parts.part(loop.induction_variable)
            position = self.position(builder.variable(part.tile, "tile", self.count))
            first = builder.variable(part.first, "first", self.steps)
            yield Work(position, first, part.steps, part), list(loop.inner_iter_args), end
            scf.yield_(end)

    @property
    def shares(self) -> SharedTiles:
        tiles = self.count.as_constant()
        assert tiles is not None
        return SharedTiles(tiles, self.steps, self.schedule.resident, self.schedule.run)

    @property
    def steps(self) -> int:
        """Steps of a block's loop over k: known, because a loop without any would leave sums undefined."""
        return -(-self.depth // (self.schedule.block[2] * self.schedule.split))

    def depth_loop(self, work: Work, carried: Sequence[ir.Value]) -> scf.ForOp:
        return scf.ForOp(self.builder.index(0), work.steps, self.builder.index(1), list(carried))
