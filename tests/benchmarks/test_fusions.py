"""Patterns become the kernels that they should, and docs/fusion.md tells the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.fusions import PATTERNS, Joined, Pattern, joined, kernels
from tests.support.zoo import MODELS

PAGE = (Path(__file__).parents[2] / "docs" / "fusion.md").read_text()


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
def test_kernels(pattern: Pattern) -> None:
    assert kernels(pattern) == pattern.kernels
    assert f"| {pattern.name} | {pattern.operators} | {pattern.kernels} |" in PAGE


def test_concatenations_of_a_model() -> None:
    """The row of SqueezeNet: eight kernels fewer, and nothing is copied."""
    before, after = joined(MODELS["light-squeezenet"].prototype(), "sm_90a", "f16")
    assert (before, after) == (Joined(40, 8, 2_900_992), Joined(32, 0, 0))
    assert "| SqueezeNet | 40 -> 32 | 8 -> 0 | 2,900,992 -> 0 |" in PAGE
