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
_NAMES = {COPY: "cp.async", BULK: "bulk copy", MBARRIER: "bulk copy", WGMMA: "wgmma"}


@dataclass(frozen=True, slots=True)
class Actors:
    """Who makes the accesses of one instruction, an entry for each cell touched.

    `warp` and `thread` count in the chunk; `agent` and `clock` are those that the accesses are recorded under, for
    threads their warp's. `warps` are the warps that take part, once each, with their agents and clocks in `agents`
    and `clocks`. `asynchronous`: through the asynchronous proxy. `strong`: atomic, volatile or the like.
    """

    warps: Array
    agents: Array
    clocks: Array
    warp: Array
    thread: Array
    agent: Array
    clock: Array
    line: int
    asynchronous: bool = False
    strong: bool = False


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
        self._writes = np.zeros(count, np.uint64)
        self._writers = np.zeros(count, np.uint16)
        self._reads = np.zeros(count * clocks.group_warps, np.uint64)
        self._asynchronous_reads: dict[int, Array] = {}
        groups = clocks.warps // clocks.group_warps
        self._newest_write = np.zeros((groups, clocks.capacity), np.uint64)
        self._newest_read = np.zeros((groups, clocks.capacity), np.uint64)
        """Of every cluster and agent, the newest clock in a record."""

    def touch(self, kind: str, cells: Array, actors: Actors) -> None:
        """Check an access of kind `kind` to `cells`, an entry for each of `actors`, and record it."""
        records = self._records(actors)
        self._check_write(kind, cells, actors)
        group = actors.warps // self._clocks.group_warps
        if kind == READ:
            self._record_read(cells, records, actors)
            self._newest_read = self._wide(self._newest_read)
            self._newest_read[group, actors.agents] = actors.clocks
            return
        self._check_reads(kind, cells, actors)
        self._writes[cells] = records
        self._writers[cells] = actors.agent
        self._newest_write = self._wide(self._newest_write)
        self._newest_write[group, actors.agents] = actors.clocks
        self._check_collisions(kind, cells, records, actors)

    def _records(self, actors: Actors) -> Array:
        thread = (actors.thread % (32 * self._clocks.group_warps)).astype(np.uint64)
        packed = (actors.clock.astype(np.uint64) << _CLOCK) | (thread << _THREAD) | np.uint64(actors.line)
        return np.asarray(packed | _STRONG if actors.strong else packed)

    def _record_read(self, cells: Array, records: Array, actors: Actors) -> None:
        """A row of cells for each warp of a cluster, and one for each asynchronous agent that reads."""
        if not actors.asynchronous:
            self._reads[actors.agent * len(self._writes) + cells] = records
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

    def _wide(self, newest: Array) -> Array:
        missing = self._clocks.capacity - newest.shape[1]
        return np.pad(newest, ((0, 0), (0, missing))) if missing else newest

    def _late(self, newest: Array, actors: Actors, fences: bool) -> Array:
        """The agents with a record that some acting warp does not know to be over."""
        clocks = self._clocks
        known = clocks.known[HAPPENED, actors.warps]
        if actors.asynchronous and fences:
            known = np.where(clocks.generic, clocks.known[VISIBLE, actors.warps], known)
        rows = self._wide(newest)[actors.warps // clocks.group_warps]
        late = rows > known
        if not actors.asynchronous:
            here = np.arange(len(actors.warps)), actors.agents
            late[here] |= (rows[here] == actors.clocks) & (rows[here] != 0)
        return np.flatnonzero(late.any(axis=0))

    # Checks.
    def _check_write(self, kind: str, cells: Array, actors: Actors) -> None:
        """Against the last write of each cell."""
        before, agent = self._writes.take(cells), self._writers.take(cells)
        if kind != WRITE and not before.all():
            self._uninitialised(kind, before == 0, cells, actors)
        if not len(self._late(self._newest_write, actors, fences=True)):
            return
        wrong = self._unordered(before, agent, actors)
        if wrong.any():
            self._race(kind, wrong, before, agent, "wrote", cells, actors)

    def _check_reads(self, kind: str, cells: Array, actors: Actors) -> None:
        """A write against the last reads of every agent."""
        for agent in self._late(self._newest_read, actors, fences=False).tolist():
            before = self._row(agent).take(cells)
            agents = np.full(len(cells), agent, np.uint16)
            # That a generic write follows an asynchronous read, or the other way round, needs no proxy fence.
            wrong = self._unordered(before, agents, actors, fences=False)
            if wrong.any():
                self._race(kind, wrong, before, agents, "read", cells, actors)

    def _unordered(self, before: Array, agent: Array, actors: Actors, fences: bool = True) -> Array:
        """Which of the earlier accesses `before` of `agent` are not known to be over."""
        clock = before >> _CLOCK
        known = self._clocks.of(HAPPENED, actors.warp, agent)
        if actors.asynchronous and fences:
            visible = self._clocks.of(VISIBLE, actors.warp, agent)
            known = np.where(self._clocks.generic[agent], visible, known)
        wrong = clock > known
        if not actors.asynchronous:
            # Lanes of one warp are ordered among each other where they have synchronised since.
            same = (agent == actors.agent) & (clock == actors.clock) & (before != 0)
            if same.any():
                wrong |= same & ((before >> _THREAD & np.uint64(31)) != (actors.thread & 31).astype(np.uint64))
        if actors.strong:
            wrong &= (before & _STRONG) == 0
        return np.asarray(wrong)

    def _check_collisions(self, kind: str, cells: Array, records: Array, actors: Actors) -> None:
        """Warps that wrote one cell in the same instruction: whose record is gone has collided."""
        if actors.strong:
            return
        left, agent = self._writes.take(cells), self._writers.take(cells)
        wrong = (left != records) & (agent != actors.agent)
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
        warp, clock = int(actors.warp[first]), before >> int(_CLOCK)
        if kind == WARP and agent == int(actors.agent[first]):
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
        position = self._chunk.position(int(actors.thread[first]))
        return Access(verb, position, actors.line, self._describe(actors.line))

    def _earlier(self, before: int, agent: int, verb: str, actors: Actors, first: int) -> Access:
        span = 32 * self._clocks.group_warps
        group = int(actors.thread[first]) // span
        thread = group * span + (before >> int(_THREAD) & int(_THREADS))
        kind = self._clocks.agents.names[agent][0]
        line = before & int(_LINE)
        verb = verb if kind == WARP else f"began a {_NAMES[kind]} that {verb}"
        return Access(verb, self._chunk.position(thread), line, self._describe(line))
