"""Patterns become the kernels that they should, and docs/fusion.md tells the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.fusions import PATTERNS, Pattern, kernels

PAGE = (Path(__file__).parents[2] / "docs" / "fusion.md").read_text()


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
def test_kernels(pattern: Pattern) -> None:
    assert kernels(pattern) == pattern.kernels
    assert f"| {pattern.name} | {pattern.operators} | {pattern.kernels} |" in PAGE
