"""Schedules of attention where all warps copy and multiply (attention.py).

In: sizes of heads, how many queries, the arithmetic, the target. Out: schedules that fit its shared memory and, as
far as sums are concerned, its registers; the predicted one first, others for a tuning to choose from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...dialects.tensors import scalar_type
from ..lower.context import byte_width
from ..target import Target
from .dot import Arithmetic
from .tile_types import ACCESS_BYTES

HALVES = ("f16", "bf16")
KEPT_RESULTS = 2048  # of a warp, in 64 registers of a thread: beside more of them there is room for 32 keys
HELD_QUERIES = 2048  # elements of a warp's queries, in 32 registers of a thread
KEPT_SUMS = 6144  # results and scores of a warp, in 192 registers of a thread


@dataclass(frozen=True)
class Schedule:
    """Tile of `rows` queries x `keys` keys; `warps` along the rows, so that a row's lanes are in one warp. In registers
    (`held`) are the softmax's weights, as left operands, and with `held_queries` the queries too.
    """

    rows: int
    keys: int
    warps: int
    head: int  # depth of the first contraction, padded
    width: int  # columns of the second, padded
    held: bool = False
    held_queries: bool = False

    @property
    def threads(self) -> int:
        return self.warps * 32

    def shared_bytes(self, size: int) -> int:
        """Of queries, keys, values and weights with elements of `size` bytes, lines padded."""
        lines = [(self.rows, self.head), (self.keys, self.head), (self.keys, self.width)]
        lines += [] if self.held else [(self.rows, self.keys)]
        return sum(count * (length * size + ACCESS_BYTES) for count, length in lines)


def attention_schedules(
    sizes: tuple[int, int], queries: int, arithmetic: Arithmetic, target: Target
) -> list[Schedule]:
    """For heads of `sizes` (of queries and keys, of values), the predicted schedule first.

    That one has as many warps as the queries fill and shared memory allows, each with 16 of them; on tensor cores in 16
    bits with 32, where that many queries are there and the sums fit: every key is then read for twice as many.
    """
    step, across = (4, 32) if arithmetic.instruction == "fma" else (16, 8)
    head, width = (-(-size // unit) * unit for size, unit in zip(sizes, (step, across), strict=True))
    held, size = arithmetic.operand in HALVES, byte_width(scalar_type(arithmetic.operand))
    each = 32 if held and queries > 64 and max(head, width) <= 128 else 16
    keys = 64 if held and each * max(head, width) <= KEPT_RESULTS else 32
    most = 1 if queries <= 16 else 2 if queries <= 32 else 4
    tiles = [(each, keys), *_other_tiles(each, keys, width)] if held else [(each, keys)]
    schedules = [
        Schedule(warps * rows, columns, warps, head, width, held, held and head * rows <= HELD_QUERIES)
        for rows, columns in tiles
        for warps in (4, 2, 1)
        if warps <= most
    ]
    fitting = [own for own in schedules if own.shared_bytes(size) <= target.shared_per_block]
    return fitting or schedules[-1:]


def _other_tiles(each: int, keys: int, width: int) -> Iterator[tuple[int, int]]:
    """Queries of a warp and keys of a tile whose sums may stay in registers."""
    for rows in sorted({16, each}, reverse=True):
        for columns in (128, 64, 32):
            if (rows, columns) != (each, keys) and rows * (width + columns) <= KEPT_SUMS:
                yield rows, columns
