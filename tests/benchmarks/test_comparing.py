"""How far an answer is from the expected one: what is not a number is never right by accident."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.comparing import largest_difference
from benchmarks.models import differences

NAN, INFINITY = float("nan"), float("inf")
CASES = {  # ours, expected, the difference
    "the same": ([1, -2], [1, -2], 0),
    "of the largest": ([1, -3], [1, -4], 0.25),
    "all NaN": ([NAN, NAN], [1, 2], INFINITY),
    "one NaN": ([1, NAN], [1, 2], INFINITY),
    "no NaN": ([1, 2], [1, NAN], INFINITY),
    "NaN expected": ([1, NAN], [2, NAN], 0.5),
    "an infinity": ([1, INFINITY], [1, 2], INFINITY),
    "equal infinities": ([-INFINITY, 1], [-INFINITY, 2], 0.5),
    "other infinities": ([-INFINITY, 2], [INFINITY, 2], INFINITY),
    "only infinities": ([INFINITY], [INFINITY], 0),
    "nothing": ([], [], 0),
    "another shape": ([1], [1, 1], INFINITY),
}


@pytest.mark.parametrize("case", CASES)
def test_differences(case: str) -> None:
    ours, expected, wanted = CASES[case]
    found, due = {"y": np.array(ours, np.float16)}, {"y": np.array(expected, np.float16)}
    assert largest_difference(found, due) == wanted
    assert differences([found], [due]) == [wanted]


def test_the_worst_output_counts_in_any_order() -> None:
    bad, good = np.full(3, NAN, np.float32), np.ones(3, np.float32)
    for order in (("a", "b"), ("b", "a")):
        found = {"a": bad, "b": good}
        assert largest_difference(found, dict.fromkeys(order, good)) == INFINITY


def test_another_type_is_wrong() -> None:
    assert largest_difference({"y": np.ones(3, np.float32)}, {"y": np.ones(3, np.float16)}) == INFINITY
