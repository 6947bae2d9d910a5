"""Shadow of the shared memory of a chunk: who wrote and who read each cell last.

In: accesses of threads and of asynchronous agents, with the clocks. Out: findings: races, and reads of memory that
nobody wrote. Why: one gather and one comparison of clocks an access say whether everything before it is ordered
before it.

A cell is as wide as the narrowest access of the kernel. A record packs clock (24 bits), thread in its cluster (14),
whether the access was strong (1) and PTX line (25); 0 means never. Of each cell there is the last write, and the
last read of every agent that reads. Records are looked at only where some agent's newest record is one that some
warp does not know to be over; after a barrier there are none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .numpy_chunk import Array, Chunk
from .observer import ATOMIC, BULK, COPY, READ, WGMMA, WRITE
from .sanitizer_clocks import HAPPENED, MBARRIER, VISIBLE, WARP, Clocks
from .sanitizer_findings import RACE, UNINITIALISED, Access, Finding, Findings, Key

_CLOCK, _THREAD, _STRONG = np.uint64(40), np.uint64(26), np.uint64(1 << 25)
_LINE, _THREADS = np.uint64((1 << 25) - 1), np.uint64((1 << 14) - 1)
_SPANS_KEPT = 64
"""Places of an agent's recent records that are remembered apart."""
_NAMES = {COPY: "cp.async", BULK: "bulk copy", MBARRIER: "bulk copy", WGMMA: "wgmma"}


@dataclass(frozen=True, slots=True)
class Actors:
    """Who makes the accesses of one instruction.

    For each of the `threads` (numbers in the chunk) `agent` and `clock` are those that its accesses are recorded
    under, its warp's or an asynchronous one's; each touches `each` cells. `warps` are the warps that take part,
    once each, with their agents and clocks in `agents` and `clocks`. `low` and `high` bound the cells touched,
    within a block. `asynchronous`: through the asynchronous proxy. `strong`: atomic, volatile or the like.
    """

    warps: Array
    agents: Array
    clocks: Array
    threads: Array
    agent: Array
    clock: Array
    each: int
    low: int
    high: int
    line: int
    asynchronous: bool = False
    strong: bool = False

    def spread(self, values: Array) -> Array:
        """Values of threads as values of the cells that they touch."""
        return np.repeat(values, self.each) if self.each > 1 else values


class _Newest:
    """Of every cluster and agent, the newest clock in a record; and where in a block an agent's recent records lie.
    """

    def __init__(self, clocks: Clocks) -> None:
        self._clocks = clocks
        self._rows = np.zeros((clocks.warps // clocks.group_warps, clocks.capacity), np.uint64)
        self._spans: dict[int, dict[tuple[int, int], tuple[int, int]]] = {}
        """Of each agent, by clock and PTX line, the lowest and the highest cell."""

    def note(self, actors: Actors) -> None:
        """These actors leave records."""
        self._widen()
        self._rows[actors.warps // self._clocks.group_warps, actors.agents] = actors.clocks
        pairs = {(int(actors.agents[0]), int(actors.clocks[0]))}
        if len(actors.warps) > 1:
            pairs = set(zip(actors.agents.tolist(), actors.clocks.tolist(), strict=True))
        for agent, clock in pairs:
            spans = self._spans.setdefault(agent, {})
            place = (clock, actors.line)
            low, high = spans.get(place, (actors.low, actors.high))
            spans[place] = (min(low, actors.low), max(high, actors.high))
            if len(spans) > _SPANS_KEPT:
                self._merge_oldest(spans)

    @staticmethod
    def _merge_oldest(spans: dict[tuple[int, int], tuple[int, int]]) -> None:
        first, second = sorted(spans)[:2]
        (low, high), (other_low, other_high) = spans.pop(first), spans[second]
        spans[second] = (min(low, other_low), max(high, other_high))

    def late(self, actors: Actors, fences: bool) -> list[int]:
        """The agents with a record, near the cells touched, that some acting warp does not know to be over."""
        self._widen()
        clocks = self._clocks
        known = clocks.known[HAPPENED, actors.warps]
        if actors.asynchronous and fences:
            known = np.where(clocks.generic, clocks.known[VISIBLE, actors.warps], known)
        rows = self._rows[actors.warps // clocks.group_warps]
        late = rows > known
        if not actors.asynchronous:
            # Lanes of one warp: a record of the warp's own present clock counts too.
            here = np.arange(len(actors.warps)), actors.agents
            late[here] |= (rows[here] == actors.clocks) & (rows[here] != 0)
        agents = np.flatnonzero(late.any(axis=0)).tolist()
        own = set() if actors.asynchronous else set(actors.agents.tolist())
        return [
            agent for agent in agents if self._is_near(agent, int(known[:, agent].min()) + (agent not in own), actors)
        ]

    def _is_near(self, agent: int, first: int, actors: Actors) -> bool:
        """Whether a record of `agent` from clock `first` on may lie where the actors touch."""
        return any(
            clock >= first and low <= actors.high and high >= actors.low
            for (clock, _), (low, high) in self._spans[agent].items()
        )

    def _widen(self) -> None:
        missing = self._clocks.capacity - self._rows.shape[1]
        if missing:
            self._rows = np.pad(self._rows, ((0, 0), (0, missing)))


class SharedShadow:
    """The shadow cells of every block of a chunk."""

    def __init__(
        self, chunk: Chunk, clocks: Clocks, granule: int, describe: Callable[[int], str], findings: Findings
    ) -> None:
        """`granule`: bytes of a cell; `describe` gives the text of a PTX line."""
        self._chunk, self._clocks, self._granule = chunk, clocks, granule
        self._describe, self._findings = describe, findings
        self.cells = chunk.shared_stride // granule
        count = self.cells * chunk.geometry.blocks
        self._written = np.zeros(count, bool)
        self._writes = np.zeros(count, np.uint64)
        self._writers = np.zeros(count, np.uint16)
        self._reads = np.zeros(count * clocks.group_warps, np.uint64)
        self._asynchronous_reads: dict[int, Array] = {}
        self._newest_write, self._newest_read = _Newest(clocks), _Newest(clocks)
        self._numbers = (np.arange(chunk.threads, dtype=np.uint64) % np.uint64(32 * clocks.group_warps)) << _THREAD

    def touch(self, kind: str, cells: Array, actors: Actors) -> None:
        """Check an access of kind `kind` to `cells`, those of the first thread first, and record it."""
        packed = (actors.clock.astype(np.uint64) << _CLOCK) | self._numbers[actors.threads] | np.uint64(actors.line)
        records = actors.spread(packed | _STRONG if actors.strong else packed)
        self._check_write(kind, cells, actors)
        if kind == READ:
            self._record_read(cells, records, actors)
            self._newest_read.note(actors)
            return
        self._check_reads(kind, cells, actors)
        self._written[cells] = True
        self._writes[cells] = records
        self._writers[cells] = actors.spread(actors.agent)
        self._newest_write.note(actors)
        if len(actors.warps) > 1:
            self._check_collisions(kind, cells, records, actors)

    def may_race(self, actors: Actors) -> bool:
        """Whether a write near the cells touched may not be over for one of the acting warps."""
        return bool(self._newest_write.late(actors, fences=True))

    def _record_read(self, cells: Array, records: Array, actors: Actors) -> None:
        """A row of cells for each warp of a cluster, and one for each asynchronous agent that reads."""
        if not actors.asynchronous:
            self._reads[actors.spread(actors.agent * len(self._writes)) + cells] = records
            return
        self._row(int(actors.agents[0]))[cells] = records

    def _row(self, agent: int) -> Array:
        count = len(self._writes)
        if agent < self._clocks.group_warps:
            return self._reads[agent * count : (agent + 1) * count]
        found = self._asynchronous_reads.get(agent)
        if found is None:
            found = self._asynchronous_reads[agent] = np.zeros(count, np.uint64)
        return found

    # Checks.
    def _check_write(self, kind: str, cells: Array, actors: Actors) -> None:
        """Against the last write of each cell."""
        if kind != WRITE and not self._written.take(cells).all():
            self._uninitialised(kind, ~self._written.take(cells), cells, actors)
        if not self._newest_write.late(actors, fences=True):
            return
        before, agent = self._writes.take(cells), self._writers.take(cells)
        wrong = self._unordered(before, agent, actors)
        if wrong.any():
            self._race(kind, wrong, before, agent, "wrote", cells, actors)

    def _check_reads(self, kind: str, cells: Array, actors: Actors) -> None:
        """A write against the last reads of every agent."""
        for agent in self._newest_read.late(actors, fences=False):
            before = self._row(agent).take(cells)
            agents = np.full(len(cells), agent, np.uint16)
            # That a generic write follows an asynchronous read, or the other way round, needs no proxy fence.
            wrong = self._unordered(before, agents, actors, fences=False)
            if wrong.any():
                self._race(kind, wrong, before, agents, "read", cells, actors)

    def _unordered(self, before: Array, agent: Array, actors: Actors, fences: bool = True) -> Array:
        """Which of the earlier accesses `before` of `agent` are not known to be over."""
        clock = before >> _CLOCK
        warp = actors.spread(actors.threads // 32)
        known = self._clocks.of(HAPPENED, warp, agent)
        if actors.asynchronous and fences:
            visible = self._clocks.of(VISIBLE, warp, agent)
            known = np.where(self._clocks.generic[agent], visible, known)
        wrong = clock > known
        if not actors.asynchronous:
            # Lanes of one warp are ordered among each other where they have synchronised since.
            same = (agent == actors.spread(actors.agent)) & (clock == actors.spread(actors.clock)) & (before != 0)
            if same.any():
                wrong |= same & ((before >> _THREAD & np.uint64(31)) != actors.spread(actors.threads & 31))
        if actors.strong:
            wrong &= (before & _STRONG) == 0
        return np.asarray(wrong)

    def _check_collisions(self, kind: str, cells: Array, records: Array, actors: Actors) -> None:
        """Warps that wrote one cell in the same instruction: whose record is gone has collided."""
        if actors.strong:
            return
        left = self._writes.take(cells)
        lost = left != records
        if not lost.any():
            return
        agent = self._writers.take(cells)
        wrong = lost & (agent != actors.spread(actors.agent))
        if wrong.any():
            self._race(kind, wrong, left, agent, "wrote", cells, actors)

    # Findings.
    def left_in_flight(self, thread: int, count: int) -> None:
        """`thread` (one of `count`) has ended while its bulk copies may still read shared memory."""
        kernel = self._chunk.launch.kernel
        key: Key = (kernel, RACE, "ended", 0, 0)
        if not self._findings.seen(key, count):
            what = (
                f"{self._chunk.position(thread)} ended while a bulk copy may still read shared memory of the block: "
                "no cp.async.bulk.wait_group for its group"
            )
            self._findings.add(key, Finding(RACE, kernel, what, count=count))

    def _uninitialised(self, kind: str, wrong: Array, cells: Array, actors: Actors) -> None:
        key: Key = (self._chunk.launch.kernel, UNINITIALISED, "shared", actors.line, 0)
        count = int(wrong.sum())
        if self._findings.seen(key, count):
            return
        first = int(wrong.argmax())
        what = f"shared memory at {self._address(cells, first):#x} is read and was never written"
        access = self._access("reads" if kind == READ else "updates", actors, first)
        self._findings.add(
            key, Finding(UNINITIALISED, self._chunk.launch.kernel, what, access, count=count)
        )

    def _race(
        self, kind: str, wrong: Array, before: Array, agent: Array, earlier: str, cells: Array, actors: Actors
    ) -> None:
        kernel = self._chunk.launch.kernel
        lines = before & _LINE
        for line in np.unique(lines[wrong]).tolist():
            chosen = wrong & (lines == line)
            key: Key = (kernel, RACE, f"{kind} {earlier}", actors.line, line)
            count = int(chosen.sum())
            if self._findings.seen(key, count):
                continue
            first = int(chosen.argmax())
            verb = {READ: "reads", ATOMIC: "updates"}.get(kind, "writes")
            reason = self._reason(int(before[first]), int(agent[first]), earlier, actors, first)
            what = f"race on shared memory at {self._address(cells, first):#x}: {reason}"
            other = self._earlier(int(before[first]), int(agent[first]), earlier, actors, first)
            access = self._access(verb, actors, first)
            self._findings.add(key, Finding(RACE, kernel, what, access, other, count=count))

    def _reason(self, before: int, agent: int, earlier: str, actors: Actors, first: int) -> str:
        kind, _, address = self._clocks.agents.names[agent]
        warp, clock = int(actors.threads[first // actors.each]) // 32, before >> int(_CLOCK)
        if kind == WARP and agent == int(actors.agent[first // actors.each]):
            return "two lanes of one warp, and no bar.warp.sync between them"
        known = int(self._clocks.known[HAPPENED, warp, agent])
        if actors.asynchronous and clock <= known:
            return "no fence.proxy.async between the access and the asynchronous one"
        if kind == MBARRIER:
            return f"the bulk copy may be in flight: no wait for its phase of the mbarrier at {address:#x}"
        if kind in _NAMES:
            return f"the {_NAMES[kind]} may be in flight: no wait for its group, or no barrier after the wait"
        return "nothing orders the two accesses"

    def _address(self, cells: Array, first: int) -> int:
        return int(cells[first]) % self.cells * self._granule

    def _access(self, verb: str, actors: Actors, first: int) -> Access:
        position = self._chunk.position(int(actors.threads[first // actors.each]))
        return Access(verb, position, actors.line, self._describe(actors.line))

    def _earlier(self, before: int, agent: int, verb: str, actors: Actors, first: int) -> Access:
        span = 32 * self._clocks.group_warps
        group = int(actors.threads[first // actors.each]) // span
        thread = group * span + (before >> int(_THREAD) & int(_THREADS))
        kind = self._clocks.agents.names[agent][0]
        line = before & int(_LINE)
        verb = verb if kind == WARP else f"began a {_NAMES[kind]} that {verb}"
        return Access(verb, self._chunk.position(thread), line, self._describe(line))
