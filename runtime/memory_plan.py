"""Places buffers in one arena by lifetime, so that memory is used again as soon as its last reader is done.

In: the size of each buffer in bytes and the span of instructions it lives over. Out: an offset for each and
the arena's size. It exists because a model's temporaries together are many times larger than what is alive at
any one moment.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from .manifest import Manifest, align

ALIGNMENT = 256  # bytes; what cuMemAlloc gives, enough for every vector access and for TMA


@dataclass(frozen=True)
class Lifetime:
    """A buffer of `nbytes` that is alive from instruction `first` to instruction `last`, both included."""

    name: str
    nbytes: int
    first: int
    last: int

    def overlaps(self, other: Lifetime) -> bool:
        """True when both are alive at some instruction."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class ArenaPlan:
    """Byte offsets of buffers in an arena of `nbytes`."""

    offsets: dict[str, int]
    nbytes: int


def plan_arena(lifetimes: Iterable[Lifetime]) -> ArenaPlan:
    """Best fit by decreasing size: large buffers first, each into the smallest gap between those alive with
    it.

    Deterministic; offsets are multiples of 256; the arena is never larger than the sum of the aligned sizes.
    Buffers of no bytes get offset 0 and take no room.
    """
    placed: list[tuple[int, int, Lifetime]] = []  # (offset, end, lifetime), sorted by offset
    offsets: dict[str, int] = {}
    total = 0
    for buffer in sorted(lifetimes, key=lambda b: (-b.nbytes, b.first, b.last, b.name)):
        if buffer.nbytes == 0:
            offsets[buffer.name] = 0
            continue
        nbytes = align(buffer.nbytes, ALIGNMENT)
        taken = [(start, end) for start, end, other in placed if buffer.overlaps(other)]
        offset = _best_gap(taken, nbytes)
        offsets[buffer.name] = offset
        placed.append((offset, offset + nbytes, buffer))
        placed.sort(key=lambda item: item[:2])
        total = max(total, offset + nbytes)
    return ArenaPlan(offsets, total)


def _best_gap(taken: list[tuple[int, int]], nbytes: int) -> int:
    """The start of the smallest gap of at least `nbytes` between sorted spans, else the end of the last."""
    best_offset, best_size = -1, -1
    reached = 0
    for start, end in taken:
        gap = start - reached
        if gap >= nbytes and (best_size < 0 or gap < best_size):
            best_offset, best_size = reached, gap
        reached = max(reached, end)
    return best_offset if best_size >= 0 else reached


def lifetimes(manifest: Manifest, symbols: Mapping[str, int], placed: Container[str] = ()) -> list[Lifetime]:
    """Everything of an engine that lives in the arena, with its size for the given symbol values.

    Left out are buffers already `placed` and those that depend on a symbol without a value yet.

    Temporaries live as the manifest says, over the flattened program: both branches of an `if` count. Inputs
    live from before the first instruction to their last use; outputs from their first write to the end, when
    they are read back.
    """
    end = sum(1 for _ in manifest.program.flatten())
    uses: dict[str, list[int]] = {}
    for index, instruction in manifest.program.flatten():
        for name in instruction.buffers:
            uses.setdefault(name, []).append(index)
    loops = manifest.program.loops
    returned = {binding.buffer for binding in manifest.outputs}
    result = []
    for buffer in manifest.buffers:
        if buffer.kind == "weight" or buffer.on_host or buffer.name in placed or buffer.symbols - symbols.keys():
            continue
        used = uses.get(buffer.name, [])
        first = used[0] if used else end
        last = used[-1] if used else end
        if buffer.kind == "input":
            first, last = -1, used[-1] if used else -1
            # What a loop reads must stay until the loop is done.
            last = max([last, *(end for start, end in loops if start <= last <= end)])
        elif buffer.kind == "temporary":
            first, last = buffer.first or 0, buffer.last or 0
        if buffer.name in returned:
            last = end
        result.append(Lifetime(buffer.name, buffer.size(symbols), first, last))
    return result
