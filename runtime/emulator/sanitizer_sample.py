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

_CHUNK = 100
"""What a chunk costs by itself, in instructions."""


@dataclass
class Watched:
    """What was seen of one launch: `blocks` of `of`, `cut` of these not to their ends, in so many instructions."""

    kernel: str
    of: int
    blocks: int = 0
    cut: int = 0
    instructions: int = 0


class SampledSanitizer(Sanitizer):
    """Watches blocks of each launch: the first, the last, the one in the middle, and others at random, until `enough`
    instructions have run; those of a launch whose blocks wait for each other in order. What the rest would have written
    counts as written when the launch is over, but holds nothing: later kernels get no numbers to rely on.
    """

    def __init__(
        self, order: Order | None = None, delayed: bool = True, enough: int = 12_000, most: int = 34_000
    ) -> None:
        """A chunk of blocks ends after `most` instructions wherever it is, after a quarter of them once one was cut;
        the first and the last always run. Some 3,000 instructions a second go by, each for all threads of a chunk.
        """
        super().__init__(order, delayed)
        self.watched: list[Watched] = []
        self.enough, self.most = enough, most
        self._sizes: list[int] = []

    def begin(self, compiled: Compiled, launch: Launch) -> int:
        self._sizes = [len(block.instructions) for block in compiled.program.blocks]
        self.watched.append(Watched(launch.kernel, launch.grid[0] * launch.grid[1] * launch.grid[2]))
        return super().begin(compiled, launch)

    def chosen(self, firsts: Sequence[int], waits: bool) -> Iterable[int]:
        watched = self.watched[-1]
        for number, first in enumerate(firsts if waits else _mixed(firsts)):
            if watched.instructions >= self.enough and number >= 2:
                return
            yield first
            if waits and watched.cut:  # nobody would answer the others
                return

    def observe(self, chunk: Chunk) -> Observer:
        assert self._current is not None and self._shadow is not None
        watched = self.watched[-1]
        watched.blocks += chunk.geometry.blocks
        watched.instructions += _CHUNK
        counts = _Counts(watched, self._sizes, self.most // 4 if watched.cut else self.most)
        return _CountedChunk(chunk, self._current, self._shadow, self.findings, counts)

    def finish(self, error: DeviceError | None) -> None:
        super().finish(error)
        if self._contents is not None:
            self._contents.complete()


@dataclass
class _Counts:
    """What a chunk adds to: the instructions of each basic block, and how many the chunk may still execute."""

    watched: Watched
    sizes: list[int]
    left: int


class _CountedChunk(ChunkSanitizer):
    """Ends its chunk after so many instructions."""

    def __init__(
        self, chunk: Chunk, facts: KernelFacts, shadow: GlobalShadow, findings: Findings, counts: _Counts
    ) -> None:
        super().__init__(chunk, facts, shadow, findings)
        self._counts = counts

    def executed(self, block: int, mask: Mask) -> None:
        counts = self._counts
        if counts.left <= 0:
            counts.watched.cut += self._chunk.geometry.blocks
            raise Enough
        counts.left -= counts.sizes[block]
        counts.watched.instructions += counts.sizes[block]


def _mixed(firsts: Sequence[int]) -> list[int]:
    """The first, the last and the middle one in front, the others in a random order that is always the same."""
    ordered = sorted(firsts)
    front = [ordered[0], ordered[-1], ordered[len(ordered) // 2]]
    others = np.random.default_rng(0).permutation(np.asarray(ordered)).tolist()
    return list(dict.fromkeys([*front, *others]))
