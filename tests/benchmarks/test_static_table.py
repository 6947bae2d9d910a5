"""What the table of kernels says without running them."""

from __future__ import annotations

import pytest
from benchmarks.kernels import _early


@pytest.mark.parametrize(
    ("instructions", "fetches_weights", "found"),
    [
        ("S2R ACQBULK LDG.E EXIT", False, ""),
        ("S2R LDG.E EXIT", False, ""),  # no wait: an ordinary launch
        ("S2R LDG.E ACQBULK EXIT", False, "LDG.E"),
        ("S2R LD.E ACQBULK EXIT", False, "LD.E"),
        ("LDC LDS STS ACQBULK EXIT", False, ""),  # constants and shared memory
        ("S2R EXIT ACQBULK EXIT", False, "EXIT"),
        ("UTMALDG.2D ACQBULK EXIT", True, ""),
        ("UTMALDG.2D ACQBULK EXIT", False, "UTMALDG.2D"),
    ],
)
def test_what_may_not_come_before_the_wait(instructions: str, fetches_weights: bool, found: str) -> None:
    assert _early(instructions.split(), fetches_weights) == found
