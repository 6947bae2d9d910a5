"""Tiles of a result that do not fill a wave of blocks: all blocks share them, each in one run of steps of k.

In: how many tiles there are, steps of k of a tile, blocks that run at once. Out: the parts of tiles that a block
computes, in which order. It exists because the last wave of whole tiles leaves most of a card idle where there are few
tiles (stream-K; docs/hopper.md tells the protocol).
"""

from __future__ import annotations

from dataclasses import dataclass

from mlir import ir
from mlir.dialects import arith

from .tile_types import program_id


@dataclass(frozen=True)
class SharedTiles:
    """`tiles` of `steps` each for `blocks`. Those left over from whole waves come first in number; their steps, one
    after the other, are cut into runs of `run` steps, no longer than a tile: block b has the b-th.
    """

    tiles: int
    steps: int
    blocks: int
    run: int

    @property
    def waves(self) -> int:
        """Tiles that every block computes alone."""
        return self.tiles // self.blocks

    @property
    def shared(self) -> int:
        """Tiles that are cut into runs."""
        return self.tiles % self.blocks

    @property
    def grid(self) -> int:
        """Blocks that have something to do."""
        return self.blocks if self.waves else -(-self.shared * self.steps // self.run)


@dataclass(frozen=True)
class Part:
    """Steps `first` to `first + steps` of a tile. Where they are not its last, they are `partial` sums that another
    block needs; where they are, the sums of the `others` blocks in front of this one belong to the tile as well.
    """

    tile: ir.Value
    first: ir.Value
    steps: ir.Value
    partial: ir.Value  # i1
    others: ir.Value


class PartsOfBlock:
    """The parts of this block by number: at first what other blocks wait for (the beginning of a tile, which a later
    block ends), then the end of the tile in front of it, then whole tiles.

    A block waits for blocks of lower numbers only, after it has given its own part away: whichever blocks run at the
    same time, the first of those that are left never waits in vain.
    """

    def __init__(self, shares: SharedTiles) -> None:
        """Emits what is the same for all parts."""
        self.shares = shares
        steps, total = self._index(shares.steps), self._index(shares.shared * shares.steps)
        self.block = program_id(0)
        self.low = arith.minui(arith.muli(self.block, self._index(shares.run)), total)
        high = arith.minui(arith.addi(self.low, self._index(shares.run)), total)
        self.begun = arith.divui(high, steps)  # the tile in which the run ends
        self.begun_at = arith.muli(self.begun, steps)
        self.given = arith.cmpi(arith.CmpIPredicate.ne, high, self.begun_at)
        self.ended = arith.cmpi(arith.CmpIPredicate.ugt, self.begun_at, self.low)
        self.start = arith.maxui(self.low, self.begun_at)
        self.given_steps = arith.subi(high, self.start)
        self.shared_parts = arith.addi(self._count(self.given), self._count(self.ended))
        self.count = arith.addi(self.shared_parts, self._index(shares.waves))

    def part(self, number: ir.Value) -> Part:
        """The part of that number, below `count`."""
        shares, zero, one = self.shares, self._index(0), self._index(1)
        first = arith.cmpi(arith.CmpIPredicate.eq, number, zero)
        partial = arith.andi(first, self.given)
        shared = arith.cmpi(arith.CmpIPredicate.ult, number, self.shared_parts)
        ended = arith.subi(self.begun, one)
        ended_at = arith.subi(self.begun_at, self._index(shares.steps))
        wave = arith.muli(arith.subi(number, self.shared_parts), self._index(shares.blocks))
        whole = arith.addi(arith.addi(wave, self.block), self._index(shares.shared))
        tile = arith.select(partial, self.begun, arith.select(shared, ended, whole))
        begin = arith.select(
            partial,
            arith.subi(self.start, self.begun_at),
            arith.select(shared, arith.subi(self.low, ended_at), zero),
        )
        steps = arith.select(
            partial,
            self.given_steps,
            arith.select(shared, arith.subi(self.begun_at, self.low), self._index(shares.steps)),
        )
        in_front = arith.subi(self.block, arith.divui(ended_at, self._index(shares.run)))
        others = arith.select(partial, zero, arith.select(shared, in_front, zero))
        # ptxas would serialise products in a loop that may not run at all.
        return Part(tile, begin, arith.maxsi(steps, one), partial, others)

    @staticmethod
    def _index(value: int) -> ir.Value:
        return arith.constant(ir.IndexType.get(), value)

    def _count(self, flag: ir.Value) -> ir.Value:
        return arith.select(flag, self._index(1), self._index(0))
