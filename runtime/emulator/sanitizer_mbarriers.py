"""Who made each mbarrier of a chunk, and who may use it.

In: mbarrier.init, fence.mbarrier_init, and uses by threads and by bulk copies. Out: findings: a use by a thread that
cannot know the barrier, or by a copy whose proxy may not see it. Why: across a relaxed barrier of the cluster nothing
but that fence shows a new mbarrier to others, and an emulator's memory shows it without.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .numpy_chunk import Array, Chunk, Mask
from .sanitizer_clocks import HAPPENED, VISIBLE, Clocks
from .sanitizer_findings import RACE, Access, Finding, Findings, Key


@dataclass(frozen=True, slots=True)
class _Made:
    """That `thread` made an mbarrier, an event of the mbarrier's agent, at a PTX line."""

    agent: int
    clock: int
    thread: int
    line: int


class MadeBarriers:
    """The mbarriers of a chunk, by block and shared address."""

    def __init__(self, chunk: Chunk, clocks: Clocks, describe: Callable[[int], str], findings: Findings) -> None:
        """`describe` gives the text of a PTX line."""
        self._chunk, self._clocks, self._describe, self._findings = chunk, clocks, describe, findings
        self._made: dict[tuple[int, int], _Made] = {}
        self._unfenced: list[_Made] = []

    def make(self, thread: int, block: int, address: int, line: int) -> None:
        """mbarrier.init."""
        made = _Made(*self._clocks.mbarrier_made(thread // 32, block, address), thread, line)
        self._made[block, address] = made
        self._unfenced.append(made)

    def fence(self, mask: Mask) -> None:
        """fence.mbarrier_init: what each of these threads has made is there for the cluster and for copies."""
        left = []
        for made in self._unfenced:
            if mask is None or mask[made.thread]:
                self._clocks.offer(made.thread // 32, made.agent, made.clock)
            else:
                left.append(made)
        self._unfenced = left

    def use(self, block: int, address: int, threads: Array, line: int, copies: bool = False) -> None:
        """These threads arrive at an mbarrier, or have waited for it; with `copies`, bulk copies that they begin
        complete there.
        """
        made = self._made.get((block, address))
        if made is None:
            return
        known = self._clocks.known[VISIBLE if copies else HAPPENED, threads // 32, made.agent]
        if (known >= made.clock).all():
            return
        thread = int(threads[(known < made.clock).argmax()])
        kernel, count = self._chunk.launch.kernel, int((known < made.clock).sum())
        key: Key = (kernel, RACE, "mbarrier", line, made.line)
        if self._findings.seen(key, count):
            return
        what = f"race on the mbarrier at shared address {address:#x}: {self._reason(made, thread)}"
        access = Access("uses it", self._chunk.position(thread), line, self._describe(line))
        earlier = Access("made it", self._chunk.position(made.thread), made.line, self._describe(made.line))
        self._findings.add(key, Finding(RACE, kernel, what, access, earlier, count=count))

    def _reason(self, made: _Made, thread: int) -> str:
        if int(self._clocks.known[HAPPENED, thread // 32, made.agent]) >= made.clock:
            return "no fence.mbarrier_init or fence.proxy.async between mbarrier.init and the copy that completes there"
        return (
            "nothing orders mbarrier.init and the use (barrier.cluster.arrive.relaxed does with a fence.mbarrier_init "
            "in front, both of the thread that made it)"
        )
