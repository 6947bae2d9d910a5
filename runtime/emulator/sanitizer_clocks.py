"""Which accesses of a chunk are ordered by synchronisation: vector clocks of its warps and asynchronous agents.

In: barriers, mbarriers, waits and fences as they happen. Out: for each warp the newest event of every agent that it
may rely on. Why: a race is a matter of what synchronises, not of the order in which the emulator happens to run the
warps; with clocks a missing wait is found even where the answer was right.

An agent is a warp, the cp.async of a warp, the bulk copies of a warp, the wgmma of a warpgroup, an mbarrier (that it
was made, and what completes there), or the kernels in front, as one. Warps of one cluster share a numbering of agents.
Clocks of asynchronous agents number their groups, those of an mbarrier its phases. There are two layers: what a warp
knows to have happened, and of that what a fence.proxy.async has made visible to the asynchronous proxy.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .numpy_chunk import Array, Chunk, Mask
from .observer import BULK, COPY, WGMMA

HAPPENED, VISIBLE = 0, 1
"""The two layers."""
MBARRIER, WARP, PREVIOUS, MADE = "mbarrier", "warp", "previous", "made"
_WARPGROUP = 4


@dataclass(slots=True)
class _Barrier:
    """Knowledge that arrivals have brought, [2, blocks, agents], and the blocks that have gone on since."""

    gathered: Array
    passed: Array


@dataclass(slots=True)
class _Groups:
    """Asynchronous groups of one kind, for each thread: the open one, the newest that has work, the newest
    complete.
    """

    opened: Array
    used: Array
    complete: Array


@dataclass(slots=True)
class _Phases:
    """An mbarrier: its phase (that it was made counts as one), and what arrivals of this phase, and of the one before
    it, brought.
    """

    phase: int
    gathering: Array
    published: Array


@dataclass(slots=True)
class Agents:
    """Names of the agent numbers: (kind, warp or warpgroup in its cluster, or block and address of an mbarrier)."""

    names: list[tuple[str, int, int]] = field(default_factory=list)
    numbers: dict[tuple[str, int, int], int] = field(default_factory=dict)

    def add(self, name: tuple[str, int, int]) -> int:
        """A new agent's number."""
        self.numbers[name] = len(self.names)
        self.names.append(name)
        return self.numbers[name]


class Clocks:
    """The knowledge of every warp of a chunk."""

    def __init__(self, chunk: Chunk, cluster: int = 1) -> None:
        """`cluster`: how many consecutive blocks of the chunk form a cluster."""
        self.blocks = chunk.geometry.blocks
        self.threads = chunk.threads
        self.warps = chunk.threads // 32
        self.block_warps = chunk.geometry.padded // 32
        self.group_warps = self.block_warps * cluster
        self.cluster = cluster
        self.own: Array = np.arange(self.warps) % self.group_warps
        """The agent number of each warp."""
        self.agents = Agents()
        for warp in range(self.group_warps):
            self.agents.add((WARP, warp, 0))
        self.capacity = self.group_warps
        self.known = np.zeros((2, self.warps, self.capacity), np.uint32)
        self.known[HAPPENED, np.arange(self.warps), self.own] = 1
        self.generic = np.ones(self.capacity, bool)
        """Of each agent, whether it writes through the generic proxy."""
        self._barriers: dict[int, _Barrier] = {}
        self._cluster_gathered = np.zeros((2, self.warps // self.group_warps, self.capacity), np.uint32)
        self._offered = np.zeros_like(self.known)
        """What each warp has fenced for its cluster: a relaxed arrival brings that and nothing else."""
        self._groups: dict[str, _Groups] = {}
        self._mbarriers: dict[tuple[int, int], _Phases] = {}

    # Agents.
    def agent(self, kind: str, place: int, address: int = 0) -> int:
        """The number of an agent, new ones by and by."""
        name = (kind, place, address)
        number = self.agents.numbers.get(name)
        if number is None:
            number = self.agents.add(name)
            if number >= self.capacity:
                self._grow()
            self.generic[number] = kind in (WARP, COPY)
        return number

    def copy_agents(self) -> int:
        """The agent of the first warp's cp.async; those of the other warps of a cluster follow it."""
        numbers = [self.agent(COPY, warp) for warp in range(self.group_warps)]
        return numbers[0]

    def _grow(self) -> None:
        more = max(8, self.capacity)
        self.capacity += more

        def wider(array: Array) -> Array:
            return np.concatenate((array, np.zeros((*array.shape[:-1], more), array.dtype)), axis=-1)

        self.known = wider(self.known)
        self.generic = wider(self.generic)
        self._cluster_gathered = wider(self._cluster_gathered)
        self._offered = wider(self._offered)
        for barrier in self._barriers.values():
            barrier.gathered = wider(barrier.gathered)
        for phases in self._mbarriers.values():
            phases.gathering, phases.published = wider(phases.gathering), wider(phases.published)

    # Questions.
    def now(self, warp: Array) -> Array:
        """Each warp's own clock."""
        return np.asarray(self.known[HAPPENED].reshape(-1).take(warp * self.capacity + self.own[warp]))

    def of(self, layer: int, warp: Array, agent: Array) -> Array:
        """The newest event of `agent` that `warp` knows."""
        return np.asarray(self.known[layer].reshape(-1).take(warp * self.capacity + agent))

    def warps_of(self, mask: Mask) -> Array:
        """Numbers of the warps with a thread in `mask`."""
        if mask is None:
            return np.arange(self.warps)
        return np.flatnonzero(mask.reshape(-1, 32).any(axis=1))

    # Synchronisation.
    def tick(self, warps: Array) -> None:
        """What these warps do from now on is newer than what anybody has learnt from them."""
        self.known[HAPPENED, warps, self.own[warps]] += 1

    def learn(self, warps: Array, knowledge: Array) -> None:
        """`knowledge`: [2, agents], or [2, warps, agents]."""
        if knowledge.ndim == 2:
            knowledge = knowledge[:, None]
        self.known[:, warps] = np.maximum(self.known[:, warps], knowledge)

    def fence_proxies(self, mask: Mask) -> None:
        """fence.proxy.async: all that these warps know becomes visible to the asynchronous proxy."""
        warps = self.warps_of(mask)
        self.known[VISIBLE, warps] = np.maximum(self.known[VISIBLE, warps], self.known[HAPPENED, warps])
        self.tick(warps)

    def barrier_arrived(self, mask: Mask, number: int) -> None:
        """Threads of `mask` bring what they know to barrier `number` of their block."""
        barrier = self._barriers.get(number)
        if barrier is None:
            shape = (2, self.blocks, self.capacity)
            barrier = self._barriers[number] = _Barrier(
                np.zeros(shape, np.uint32), np.zeros(self.blocks, bool)
            )
        warps = self.warps_of(mask)
        present = np.zeros(self.warps, bool)
        present[warps] = True
        rows = present.reshape(self.blocks, self.block_warps)
        fresh = barrier.passed & rows.any(axis=1)
        barrier.gathered[:, fresh] = 0
        barrier.passed &= ~fresh
        shaped = self.known.reshape(2, self.blocks, self.block_warps, self.capacity)
        brought = np.where(rows[None, :, :, None], shaped, 0).max(axis=2)
        barrier.gathered = np.maximum(barrier.gathered, brought)
        self.tick(warps)

    def barrier_passed(self, mask: Mask, number: int) -> None:
        """Threads of `mask` go on from the complete barrier `number`."""
        barrier = self._barriers[number]
        warps = self.warps_of(mask)
        blocks = warps // self.block_warps
        self.learn(warps, barrier.gathered[:, blocks])
        barrier.passed[blocks] = True

    def fence_cluster(self, mask: Mask) -> None:
        """A fence of at least the cluster's scope: a relaxed arrival behind it may tell what these warps know now."""
        warps = self.warps_of(mask)
        self._offered[:, warps] = self.known[:, warps]
        self.tick(warps)

    def cluster_arrived(self, mask: Mask, relaxed: bool) -> None:
        """barrier.cluster.arrive: what these warps know, or only what they have fenced, is there for those of their
        cluster. It stays there: a warp that passes late may learn of arrivals at the next phase too.
        """
        warps = self.warps_of(mask)
        brought = np.zeros_like(self.known)
        brought[:, warps] = (self._offered if relaxed else self.known)[:, warps]
        joined = brought.reshape(2, -1, self.group_warps, self.capacity).max(axis=2)
        self._cluster_gathered = np.maximum(self._cluster_gathered, joined)
        if not relaxed:
            self.tick(warps)

    def cluster_passed(self, mask: Mask) -> None:
        """barrier.cluster.wait."""
        warps = self.warps_of(mask)
        self.learn(warps, self._cluster_gathered[:, warps // self.group_warps])

    def await_previous(self, mask: Mask) -> None:
        """griddepcontrol.wait."""
        agent = self.agent(PREVIOUS, 0)
        self.known[HAPPENED, self.warps_of(mask), agent] = 1

    def have_awaited(self, warps: Array) -> Array:
        """Which of `warps` know that the kernels in front have ended, by their own wait or by somebody else's."""
        agent = self.agent(PREVIOUS, 0)
        return np.asarray(self.known[HAPPENED, warps, agent] > 0)

    # Asynchronous groups.
    def groups(self, kind: str) -> _Groups:
        """The groups of one kind."""
        found = self._groups.get(kind)
        if found is None:
            threads = self.threads
            found = self._groups[kind] = _Groups(
                np.ones(threads, np.uint32), np.zeros(threads, np.uint32), np.zeros(threads, np.uint32)
            )
        return found

    def commit(self, mask: Mask, kind: str) -> None:
        """The open group of each thread ends."""
        groups = self.groups(kind)
        groups.opened[slice(None) if mask is None else mask] += 1

    def wait(self, mask: Mask, kind: str, pending: int | None) -> None:
        """All but the newest `pending` committed groups of each thread are complete; None: the open one too."""
        groups = self.groups(kind)
        chosen = slice(None) if mask is None else mask
        opened = groups.opened[chosen].astype(np.int64)
        if pending is None:
            groups.opened[chosen] += 1
            done = opened
        else:
            done = np.maximum(opened - 1 - pending, 0)
        groups.complete[chosen] = np.maximum(groups.complete[chosen], done)
        self._learn_groups(kind, groups)

    def _learn_groups(self, kind: str, groups: _Groups) -> None:
        """A warp knows a group to be complete when each of its threads with work in it has waited for it."""
        span = 32 * (_WARPGROUP if kind == WGMMA else 1)
        idle = groups.complete >= groups.used
        complete = np.where(idle, np.uint32(0xFFFFFFFF), groups.complete).reshape(-1, 32).min(axis=1)
        newest = groups.complete.reshape(-1, 32).max(axis=1)
        complete = np.where(complete == 0xFFFFFFFF, newest, complete)
        if not groups.used.any():
            return
        for place in range(-(-self.group_warps * 32 // span)):
            agent = self.agent(kind, place)
            warps = np.flatnonzero(self.own * 32 // span == place)
            self.known[:, warps, agent] = np.maximum(self.known[:, warps, agent], complete[warps])

    def asynchronous_group(self, thread: int, kind: str) -> tuple[int, int]:
        """(agent, clock) of what `thread` puts into its open group of kind `BULK` or `WGMMA`."""
        groups = self.groups(kind)
        warp = int(self.own[thread // 32])
        if kind == WGMMA:
            first = thread // 128 * 128
            groups.used[first : first + 128] = groups.opened[first : first + 128]
            return self.agent(WGMMA, warp // _WARPGROUP), int(groups.opened[thread])
        groups.used[thread] = groups.opened[thread]
        return self.agent(BULK, warp), int(groups.opened[thread])

    # mbarriers.
    def mbarrier(self, block: int, address: int) -> _Phases:
        """The mbarrier at shared address `address` of `block` of the chunk."""
        found = self._mbarriers.get((block, address))
        if found is None:
            empty = np.zeros((2, self.capacity), np.uint32)
            found = self._mbarriers[block, address] = _Phases(1, empty, empty.copy())
        return found

    def mbarrier_agent(self, block: int, address: int) -> tuple[int, int]:
        """(agent, clock) of what completes in the current phase of an mbarrier."""
        return self.agent(MBARRIER, block % self.cluster, address), self.mbarrier(block, address).phase

    def mbarrier_made(self, warp: int, block: int, address: int) -> tuple[int, int]:
        """mbarrier.init: (agent, clock) of that event, which so far only `warp` knows. Not the agent of what completes
        there: copies that were on their way to the mbarrier before are not over.
        """
        agent, clock = self.agent(MADE, block % self.cluster, address), self.mbarrier(block, address).phase
        phases = self.mbarrier(block, address)
        phases.gathering[:] = 0
        phases.published[:] = 0
        phases.phase += 1
        self.known[HAPPENED, warp, agent] = clock
        return agent, clock

    def offer(self, warp: int, agent: int, clock: int) -> None:
        """fence.mbarrier_init of a warp that made an mbarrier."""
        self.known[VISIBLE, warp, agent] = max(clock, int(self.known[VISIBLE, warp, agent]))
        self._offered[:, warp, agent] = np.maximum(self._offered[:, warp, agent], np.uint32(clock))

    def mbarrier_arrived(self, warps: Array, block: int, address: int) -> None:
        """Warps bring what they know."""
        phases = self.mbarrier(block, address)
        phases.gathering = np.maximum(phases.gathering, self.known[:, warps].max(axis=1))
        self.tick(warps)

    def copies_arrived(self, mask: Mask, warps: Array, block: int, address: int) -> None:
        """cp.async.mbarrier.arrive: the phase completes after the cp.async of these threads up to now."""
        groups = self.groups(COPY)
        chosen = np.arange(self.threads) if mask is None else np.flatnonzero(mask)
        chosen = chosen[np.isin(chosen // 32, warps)]
        first = self.copy_agents()
        phases = self.mbarrier(block, address)
        agents = first + self.own[chosen // 32]
        np.maximum.at(phases.gathering[HAPPENED], agents, groups.opened[chosen])
        groups.opened[chosen] += 1

    def mbarrier_completed(self, block: int, address: int) -> None:
        """The phase ends: what was brought is there for who waits for it, with what completed in it."""
        agent, clock = self.mbarrier_agent(block, address)
        phases = self.mbarrier(block, address)
        phases.published = phases.gathering.copy()
        phases.published[:, agent] = clock
        phases.gathering[:] = 0
        phases.phase += 1

    def mbarrier_waited(self, warps: Array, block: int, address: int) -> None:
        """Warps know that the last phase is complete."""
        self.learn(warps, self.mbarrier(block, address).published)
