"""Cross-lane routines of the NumPy engine: shuffle, vote, match, redux, activemask, elect.

In: a chunk, a mask, values over threads. Out: values over threads. Why: a warp is a row of 32 lanes once an
array is reshaped, so each routine is a small table look-up or a reduction along rows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .numpy_chunk import Array, Chunk, Mask, Values

_LANE_BITS = np.uint32(1) << np.arange(32, dtype=np.uint32)


def _rows(chunk: Chunk, value: Values) -> Array:
    return np.asarray(np.broadcast_to(value, (chunk.threads,)).reshape(-1, 32))


def _participants(chunk: Chunk, mask: Mask, members: Values) -> Array:
    """Which lanes take part: the active ones that their member mask names."""
    everyone = np.ones((chunk.threads // 32, 32), bool)
    active: Array = everyone if mask is None else mask.reshape(-1, 32)
    if members.ndim == 0:
        if int(members) == 0xFFFFFFFF:
            return active
        return np.asarray(active & ((np.uint32(members) & _LANE_BITS) != 0))
    return np.asarray(active & ((_rows(chunk, members) & _LANE_BITS) != 0))


def require_named_lanes(chunk: Chunk, mask: Array, line: int) -> None:
    """Hardware waits for all lanes that an instruction names and that have not ended; here each must be with it."""
    rows = mask.reshape(-1, 32)
    living = np.ones_like(rows) if chunk.alive is None else chunk.alive.reshape(-1, 32)
    missing = living & ~rows & rows.any(axis=1, keepdims=True)
    if missing.any():
        thread = int(missing.reshape(-1).argmax())
        chunk.fault(line, f"all lanes of the warp are named, and lane {thread % 32} does not come", thread)


def _spread(per_warp: Array) -> Array:
    return np.repeat(per_warp, 32)


def _source_lanes(mode: str, lane: Any, offset: Any, clamp: Any) -> tuple[Any, Any]:
    """Source lane and whether it is in range, by the formula of the PTX manual (all int64)."""
    offset, clamp_value, segment = offset & 31, clamp & 31, (clamp >> 8) & 31
    highest = (lane & segment) | (clamp_value & ~segment)
    lowest = lane & segment
    if mode == "up":
        source = lane - offset
        inside = source >= highest
    elif mode == "down":
        source = lane + offset
        inside = source <= highest
    elif mode == "bfly":
        source = lane ^ offset
        inside = source <= highest
    else:
        source = lowest | (offset & ~segment)
        inside = source <= highest
    return np.where(inside, source, lane), inside


def shuffle(
    chunk: Chunk, mask: Mask, line: int, value: Values, offset: Values, clamp: Values,
    *, mode: str, with_predicate: bool, count: int,
) -> tuple[Values, ...]:  # fmt: skip
    """shfl: each lane reads another lane's value. Reading an inactive lane gives that lane's stale value."""
    if offset.ndim == 0 and clamp.ndim == 0:

        def make() -> tuple[Array, Array]:
            lanes, inside = _source_lanes(mode, np.arange(32), int(offset), int(clamp))
            warps = np.arange(chunk.threads // 32)[:, None] * 32
            return (warps + lanes).reshape(-1), np.tile(inside, chunk.threads // 32)

        index, inside = chunk.geometry.table(("shuffle", mode, int(offset), int(clamp)), make)
    else:
        lane = np.tile(np.arange(32), chunk.threads // 32)
        lanes, inside = _source_lanes(mode, lane, np.asarray(offset, "i8"), np.asarray(clamp, "i8"))
        index = np.arange(chunk.threads) - lane + lanes
    moved = value if value.ndim == 0 else value.take(index)
    return (moved, inside) if with_predicate else (moved,)


def _of_groups(routine: Callable[..., tuple[Values, ...]]) -> Callable[..., tuple[Values, ...]]:
    """For routines whose last value is a member mask: lanes of one warp may call with several masks at a time, each
    group for itself.
    """

    @functools.wraps(routine)
    def of_groups(chunk: Chunk, mask: Mask, line: int, *values: Values, **static: Any) -> tuple[Values, ...]:
        *rest, members = values
        if members.ndim:
            active = np.ones(chunk.threads, bool) if mask is None else mask
            groups = np.unique(members[active])
            if len(groups) > 1:
                return _each_group(routine, chunk, active, line, rest, members, groups, static)
        return routine(chunk, mask, line, *values, **static)

    return of_groups


def _each_group(
    routine: Callable[..., tuple[Values, ...]], chunk: Chunk, active: Array, line: int, rest: list[Values],
    members: Array, groups: Array, static: dict[str, Any],
) -> tuple[Values, ...]:  # fmt: skip
    results: list[Array] = []
    for group in groups:
        chosen = active & (members == group)
        answers = routine(chunk, chosen, line, *rest, group, **static)
        if not results:
            results = list(answers)
        else:
            results = [np.where(chosen, new, old) for new, old in zip(answers, results, strict=True)]
    return tuple(results)


@_of_groups
def vote(
    chunk: Chunk, mask: Mask, line: int, predicate: Values, members: Values, *, mode: str, count: int
) -> tuple[Values]:
    """vote.all, any, uni and ballot over the participating lanes of each warp."""
    part = _participants(chunk, mask, members)
    truth = _rows(chunk, predicate)
    if mode == "ballot":
        return (_spread(np.where(part & truth, _LANE_BITS, np.uint32(0)).sum(axis=1, dtype=np.uint32)),)
    some, every = (part & truth).any(axis=1), (~part | truth).all(axis=1)
    answer = {"all": every, "any": some, "uni": every | ~some}[mode]
    return (_spread(np.asarray(answer)),)


@_of_groups
def match(
    chunk: Chunk, mask: Mask, line: int, value: Values, members: Values, *, mode: str, count: int
) -> tuple[Values, Values]:
    """match.any: the lanes with my value. match.all: all participants if their values agree, else 0 and
    false.
    """
    part, rows = _participants(chunk, mask, members), _rows(chunk, value)
    same = (rows[:, :, None] == rows[:, None, :]) & part[:, None, :] & part[:, :, None]
    lanes = np.where(same, _LANE_BITS, np.uint32(0)).sum(axis=2, dtype=np.uint32)
    if mode == "any":
        return lanes.reshape(-1), np.ones(chunk.threads, bool)
    everyone = np.where(part, _LANE_BITS, np.uint32(0)).sum(axis=1, dtype=np.uint32)
    agree = ((lanes == everyone[:, None]) | ~part).all(axis=1)
    return _spread(np.where(agree, everyone, np.uint32(0))), _spread(agree)


_REDUCTIONS: dict[str, Any] = {
    "add": np.add, "min": np.minimum, "max": np.maximum, "and": np.bitwise_and, "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}  # fmt: skip


@_of_groups
def redux(
    chunk: Chunk,
    mask: Mask,
    line: int,
    value: Values,
    members: Values,
    *,
    mode: str,
    nan: bool,
    absolute: bool,
    count: int,
) -> tuple[Values]:
    """redux.sync over the participating lanes."""
    part, rows = _participants(chunk, mask, members), _rows(chunk, value)
    if absolute:
        rows = np.abs(rows)
    if rows.dtype.kind == "f":
        reduction = {("min", False): np.fmin, ("max", False): np.fmax}.get((mode, nan), _REDUCTIONS[mode])
        neutral = rows.dtype.type(np.inf if mode == "min" else -np.inf)
    else:
        reduction, limits = _REDUCTIONS[mode], np.iinfo(rows.dtype)
        neutral = rows.dtype.type(
            {"min": limits.max, "max": limits.min, "and": -1 if limits.min < 0 else limits.max}.get(mode, 0)
        )
    filled = np.where(part, rows, neutral)
    return (_spread(reduction.reduce(filled, axis=1, dtype=rows.dtype)),)


def active_mask(chunk: Chunk, mask: Mask, line: int, *, count: int) -> tuple[Values]:
    """The lanes that execute this instruction together."""
    if mask is None:
        return (np.uint32(0xFFFFFFFF),)
    lanes = np.where(mask.reshape(-1, 32), _LANE_BITS, np.uint32(0)).sum(axis=1, dtype=np.uint32)
    return (_spread(lanes),)


@_of_groups
def elect(chunk: Chunk, mask: Mask, line: int, members: Values, *, count: int) -> tuple[Values, Values]:
    """elect.sync: the lowest participating lane, and whether it is me."""
    part = _participants(chunk, mask, members)
    leader = part.argmax(axis=1).astype(np.uint32)
    elected = (np.arange(32, dtype=np.uint32) == leader[:, None]) & part
    return _spread(leader), elected.reshape(-1)
