"""Atomic read-modify-write on an array of memory.

In: the memory, one index and operands per active thread. Out: the memory changed, the old values if wanted.
Why: threads that hit one address must act one after the other, yet most launches have few collisions, so each
rank of collision is one step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .numpy_operations import bf16_to_f32, f16_to_f32
from .numpy_rounding import f32_to_bf16, f32_to_f16

Array = np.ndarray[Any, np.dtype[Any]]


def _increment(old: Array, limit: Array) -> Array:
    return np.where(old >= limit, 0, old + old.dtype.type(1)).astype(old.dtype)


def _decrement(old: Array, limit: Array) -> Array:
    return np.where((old == 0) | (old > limit), limit, old - old.dtype.type(1)).astype(old.dtype)


Combine = Callable[..., Any]


def _of_halves(combine: Combine, widen: Callable[[Any], Any], narrow: Callable[[Any], Any]) -> Combine:
    def of_halves(old: Array, value: Array) -> Array:
        result: Array = narrow(combine(widen(old), widen(value)))
        return result

    return of_halves


def _packed(combine: Combine) -> Combine:
    def packed(old: Array, value: Array) -> Array:
        both = np.ascontiguousarray(old).view("u2"), np.ascontiguousarray(value).view("u2")
        result: Array = combine(*both).view("u4")
        return result

    return packed


_HALVES = {"f16": (f16_to_f32, f32_to_f16), "bf16": (bf16_to_f32, f32_to_bf16)}
_FLOAT_COMBINE: dict[str, Combine] = {"add": np.add, "min": np.fmin, "max": np.fmax}
_COMBINE: dict[str, Combine] = {
    "add": lambda old, value: old + value,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "exch": lambda old, value: value,
    "cas": lambda old, expected, value: np.where(old == expected, value, old),
    "inc": _increment,
    "dec": _decrement,
}
_UNORDERED: dict[str, np.ufunc] = {
    "add": np.add, "min": np.minimum, "max": np.maximum, "and": np.bitwise_and, "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}  # fmt: skip


def _wide_swap(old: Array, expected: Array, value: Array) -> Array:
    """Compare and swap of b128; as complex numbers NaNs would differ from themselves."""
    words = [np.ascontiguousarray(part).view("u8").reshape(-1, 2) for part in (old, expected)]
    return np.where((words[0] == words[1]).all(axis=1), value, old)


_WIDE_COMBINE: dict[str, Combine] = {"exch": _COMBINE["exch"], "cas": _wide_swap}


def combination(operation: str, type: str) -> Combine:
    """What an atomic or reduction of `operation` stores, as a function of the old value and its operands."""
    element = type.removesuffix("x2")
    if element in _HALVES and operation in _FLOAT_COMBINE:
        halves = _of_halves(_FLOAT_COMBINE[operation], *_HALVES[element])
        return halves if element == type else _packed(halves)
    if type == "b128":
        return _WIDE_COMBINE[operation]
    if element in ("f32", "f64") and operation in _FLOAT_COMBINE:
        return _FLOAT_COMBINE[operation]
    return _COMBINE[operation]


def atomic_on_array(
    memory: Array, index: Array, operands: list[Array], type: str, operation: str, wanted: bool
) -> Array:
    """Apply `operation` at `memory[index]` for every thread, lower threads first."""
    halves = type.removesuffix("x2") in _HALVES
    if not wanted and not halves and operation in _UNORDERED:
        # NumPy's unbuffered in-place form also goes in thread order.
        _UNORDERED[operation].at(memory, index, operands[0])
        return index
    combine = combination(operation, type)
    order = np.argsort(index, kind="stable")
    where = index[order]
    values = [operand[order] for operand in operands]
    first = np.flatnonzero(np.concatenate(([True], where[1:] != where[:-1])))
    lengths = np.diff(np.append(first, len(where)))
    old = np.empty(len(where), memory.dtype)
    if operation == "add" and memory.dtype.kind in "iu" and not halves and lengths.max() > 1:
        _integer_add(memory, where, values[0], first, lengths, old)
    else:
        _by_rank(memory, where, values, combine, first, lengths, old)
    result = np.empty_like(old)
    result[order] = old
    return result


def _by_rank(
    memory: Array,
    where: Array,
    values: list[Array],
    combine: Callable[..., Array],
    first: Array,
    lengths: Array,
    old: Array,
) -> None:
    """The r-th thread of every address at once, for r = 0, 1, ..."""
    for rank in range(int(lengths.max())):
        chosen = first[lengths > rank] + rank
        place = where[chosen]
        before = memory[place]
        old[chosen] = before
        memory[place] = combine(before, *(value[chosen] for value in values))


def _integer_add(memory: Array, where: Array, value: Array, first: Array, lengths: Array, old: Array) -> None:
    """Wrapping sums associate, so prefix sums give every thread's old value in one step."""
    with np.errstate(over="ignore"):
        running = np.cumsum(value, dtype=memory.dtype)
        before = running - value
        start = np.repeat(before[first], lengths)
        old[:] = memory[where] + (before - start)
        last = first + lengths - 1
        memory[where[last]] = old[last] + value[last]
