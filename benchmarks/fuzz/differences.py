"""When do two answers differ? The rule, and what follows from it for a whole graph.

In: what was computed, the reference, and answers of the reference under noise. Out: for each output nothing, a
difference that rounding explains, or one that nothing does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .reference import NOISE, Arrays

Array = np.ndarray[Any, Any]
FEW, MANY = 4, 32  # draws of noise: at first, and before a difference counts as unexplained
SAFETY = 4.0  # the largest of a few draws is below the largest possible


@dataclass(frozen=True)
class Difference:
    """One output: `kind` is equal, rounding or unexplained, `message` says where and how much."""

    output: str
    kind: str
    message: str = ""


def compare(got: Arrays, wanted: Arrays, noisy: Callable[[], Arrays], least: float = 0.0) -> list[Difference]:
    """Every output of `wanted`. `noisy` draws the reference's outputs under noise, and is asked only where answers
    differ. Differences up to `least` count as rounding: a precision has a smallest number.
    """
    found = [Difference(name, "equal") for name in wanted]
    suspects = {name for name in wanted if not _close(got[name], wanted[name])}
    if not suspects:
        return found
    draws: list[Arrays] = []
    for count in (FEW, MANY):
        draws += [noisy() for _ in range(count - len(draws))]
        open_ = {name: _explain(got[name], wanted[name], [draw[name] for draw in draws], least) for name in suspects}
        if not any(open_.values()):
            break
    return [
        Difference(name, "unexplained" if open_[name] else "rounding", open_[name]) if name in suspects else item
        for name, item in zip(wanted, found, strict=True)
    ]


def _close(got: Array, wanted: Array) -> bool:
    """Equal, or for floats nearly so element by element: within the noise of a single operation."""
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return False
    if got.dtype.name not in NOISE:
        return bool(np.array_equal(got, wanted))
    with np.errstate(all="ignore"):
        difference = np.abs(got.astype(np.float64) - wanted.astype(np.float64))
        small = difference <= NOISE[got.dtype.name] * np.abs(wanted.astype(np.float64))
    same = (got == wanted) | (np.isnan(got) & np.isnan(wanted))
    return bool((small | same).all())


def _explain(got: Array, wanted: Array, draws: list[Array], least: float) -> str:
    """Why noise does not explain the difference, or nothing where it does."""
    if got.dtype != wanted.dtype:
        return f"{got.dtype}, expected {wanted.dtype}"
    if got.shape != wanted.shape:
        if any(draw.shape != wanted.shape for draw in draws):
            return ""  # the size depends on a rounding
        return f"shape {list(got.shape)}, expected {list(wanted.shape)}"
    draws = [draw for draw in draws if draw.shape == wanted.shape]
    if got.dtype.name not in NOISE:
        steady = np.ones(wanted.shape, bool)
        for draw in draws:
            steady &= draw == wanted
        return _describe(got, wanted, (got != wanted) & steady)
    left, right = got.astype(np.float64), wanted.astype(np.float64)
    with np.errstate(all="ignore"):
        away = [np.abs(draw.astype(np.float64) - right) for draw in draws]
        spread = np.max(away, axis=0) if away else np.zeros(right.shape)
        finite = spread[np.isfinite(spread)]
        # An element may be lucky in every draw: the root mean square of its neighbours' spreads counts for it too.
        common = float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0
        allowed = SAFETY * (spread + common) + NOISE[got.dtype.name] * np.abs(right) + least
        wrong = ~(np.abs(left - right) <= allowed)
    wrong &= ~((left == right) | (np.isnan(left) & np.isnan(right)))
    wrong &= np.isfinite(spread) | np.isnan(right)  # noise makes it finite here and infinite there
    return _describe(got, wanted, wrong)


def _describe(got: Array, wanted: Array, wrong: Array) -> str:
    if not wrong.any():
        return ""
    place = tuple(int(index[0]) for index in np.nonzero(np.atleast_1d(wrong)))
    one, two = np.atleast_1d(got)[place], np.atleast_1d(wanted)[place]
    return f"{int(wrong.sum())} of {wrong.size} elements, at {list(place)}: {one!r}, expected {two!r}"
