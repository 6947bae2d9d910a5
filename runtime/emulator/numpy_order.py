"""In which order the blocks and warps of an observed launch advance.

In: an `Order`. Out: chunks of blocks in that order, and for each chunk the choice of the warps that go on next. Why:
a GPU promises no order, so a kernel whose answer depends on one must be caught depending on it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .numpy_chunk import Array, Chunk
from .numpy_scheduler import Choose
from .observer import Order


class ChunkOrder:
    """The order of one launch; the generator of a random order goes on from chunk to chunk."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._generator = np.random.default_rng(order.seed)

    def arrange(self, starts: Iterable[int], waits: bool = False) -> list[int]:
        """The first blocks of the chunks, in the order they run: that of a GPU, where blocks wait for earlier ones."""
        listed = list(starts)
        if waits:
            return listed
        if self._order.name == "reversed":
            listed.reverse()
        elif self._order.name == "random":
            self._generator.shuffle(listed)
        return listed

    def schedule(self, chunk: Chunk) -> Choose | None:
        """How the scheduler chooses who goes on in `chunk`; None for lock-step."""
        if self._order.name == "lockstep":
            return None
        warps = chunk.geometry.padded // 32
        number = np.tile(np.arange(warps), chunk.geometry.blocks)  # of each warp, in its block

        def choose(pending: dict[int, Array]) -> tuple[int, Array]:
            ready = {place: mask.reshape(-1, 32).any(axis=1) for place, mask in pending.items()}
            anyone: Array = np.logical_or.reduce(list(ready.values()))
            chosen = self._last(anyone, number) if self._order.name == "reversed" else self._some(anyone)
            place = min(place for place, warps_there in ready.items() if (warps_there & chosen).any())
            return place, pending[place] & np.repeat(chosen, 32)

        return choose

    @staticmethod
    def _last(anyone: Array, number: Array) -> Array:
        """The highest warp of each block that can go on: the same number in all blocks, so that few steps are made."""
        return np.asarray(anyone & (number == number[anyone].max()))

    def _some(self, anyone: Array) -> Array:
        """About half of the warps that can go on, at least one."""
        chosen = anyone & (self._generator.random(len(anyone)) < 0.5)
        if not chosen.any():
            chosen[self._generator.choice(np.flatnonzero(anyone))] = True
        return chosen
