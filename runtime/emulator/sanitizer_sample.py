"""The sanitizer for launches that are too large to be watched whole: some of their blocks.

In: what a sanitizer gets. Out: its findings, and of each launch how many blocks were watched. Why: a product of 4096^3
takes hours in the sanitizer, and its blocks do the same; the first, the last and some between them show it in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DeviceError
from .numpy_chunk import Chunk, Launch, Mask
from .numpy_codegen import Compiled
from .observer import Enough, Observer, Order
from .sanitizer import Sanitizer
from .sanitizer_chunk import ChunkSanitizer
from .sanitizer_findings import Findings
from .sanitizer_global import GlobalShadow
from .sanitizer_kernel import KernelFacts

_STEPS_PER_CHUNK = 30
"""What a chunk costs by itself, in basic blocks."""


@dataclass
class Watched:
    """What was seen of one launch: `blocks` of `of`, `cut` of these not to their ends; `steps` basic blocks."""

    kernel: str
    of: int
    blocks: int = 0
    cut: int = 0
    steps: int = 0


class SampledSanitizer(Sanitizer):
    """Watches blocks of each launch: the first, the last, the one in the middle, and others at random, until `enough`
    basic blocks have run; those of a launch whose blocks wait for each other in order. What the rest would have written
    counts as written when the launch is over, but holds nothing: later kernels get no numbers to rely on.
    """

    def __init__(
        self, order: Order | None = None, delayed: bool = True, enough: int = 4000, most: int = 2600
    ) -> None:
        """A chunk of blocks ends after `most` basic blocks wherever it is; the first and the last always run."""
        super().__init__(order, delayed)
        self.watched: list[Watched] = []
        self.enough, self.most = enough, most

    def begin(self, compiled: Compiled, launch: Launch) -> int:
        self.watched.append(Watched(launch.kernel, launch.grid[0] * launch.grid[1] * launch.grid[2]))
        return super().begin(compiled, launch)

    def chosen(self, firsts: Sequence[int], waits: bool) -> Iterable[int]:
        watched = self.watched[-1]
        for number, first in enumerate(firsts if waits else _mixed(firsts)):
            if watched.steps >= self.enough and number >= 2:
                return
            yield first
            if waits and watched.cut:  # nobody would answer the others
                return

    def observe(self, chunk: Chunk) -> Observer:
        assert self._current is not None and self._shadow is not None
        watched = self.watched[-1]
        watched.blocks += chunk.geometry.blocks
        watched.steps += _STEPS_PER_CHUNK
        return _CountedChunk(chunk, self._current, self._shadow, self.findings, watched, self.most)

    def finish(self, error: DeviceError | None) -> None:
        super().finish(error)
        if self._contents is not None:
            self._contents.complete()


class _CountedChunk(ChunkSanitizer):
    """Ends its chunk after so many basic blocks."""

    def __init__(
        self, chunk: Chunk, facts: KernelFacts, shadow: GlobalShadow, findings: Findings, watched: Watched, most: int
    ) -> None:
        super().__init__(chunk, facts, shadow, findings)
        self._watched, self._left, self._blocks = watched, most, chunk.geometry.blocks

    def executed(self, block: int, mask: Mask) -> None:
        if not self._left:
            self._watched.cut += self._blocks
            raise Enough
        self._left -= 1
        self._watched.steps += 1


def _mixed(firsts: Sequence[int]) -> list[int]:
    """The first, the last and the middle one in front, the others in a random order that is always the same."""
    ordered = sorted(firsts)
    front = [ordered[0], ordered[-1], ordered[len(ordered) // 2]]
    others = np.random.default_rng(0).permutation(np.asarray(ordered)).tolist()
    return list(dict.fromkeys([*front, *others]))
