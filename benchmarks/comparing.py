"""How far answers are from what was expected.

In: arrays by name, ours and the expected ones. Out: one number, which a tolerance is compared with. Why: NaN is neither
larger nor smaller than anything, so that an answer full of it passes a comparison that does not ask for it. Needs numpy
only: it runs where there is a GPU, and no compiler.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_LEAST = 1e-30  # what a difference from all zeros is divided by


def largest_difference(
    actual: Mapping[str, np.ndarray[Any, Any]], expected: Mapping[str, np.ndarray[Any, Any]]
) -> float:
    """The largest difference of any output, relative to that output's largest finite expected value.

    Infinite where a shape or a type differs, and where NaN or an infinity is not the expected one in its place.
    """
    worst = 0.0
    for name, wanted in expected.items():
        ours = actual[name]
        if ours.shape != wanted.shape or ours.dtype != wanted.dtype:
            return float("inf")
        found, due = ours.astype(np.float64), wanted.astype(np.float64)
        known = np.isfinite(due)
        if not (np.isfinite(found) == known).all() or not np.array_equal(found[~known], due[~known], equal_nan=True):
            return float("inf")
        if known.any():
            gap = np.abs(found[known] - due[known]).max()
            worst = max(worst, float(gap) / max(float(np.abs(due[known]).max()), _LEAST))
    return worst
