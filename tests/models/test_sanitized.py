"""Small models under the strictest sanitizer: nothing is found in their kernels, and no order changes an answer.

`python -m benchmarks.sanitize` does the same for all models, targets and precisions.
"""

from __future__ import annotations

import pytest
from tests.support.zoo import MODELS

import tilewright
from tilewright.runtime.sanitizing import parse_order, sanitize


@pytest.mark.parametrize(
    ("name", "target", "precision", "order"),
    [
        ("bert-small-dynamo", "sm_80", "f16", "random:3"),
        ("resnet-small-dynamo", "sm_90a", "tf32", "reversed"),
        ("gpt2-small-legacy", "sm_80", "strict", "random:4"),
    ],
)
def test_nothing_is_found(name: str, target: str, precision: str, order: str) -> None:
    model = MODELS[name]
    engine = tilewright.compile(model.load(), target=target, precision=precision)
    runs = model.inputs()[-1:]
    expected, report = sanitize(engine, runs)
    assert not report.findings, str(report)
    outputs, report = sanitize(engine, runs, parse_order(order))
    assert not report.findings, str(report)
    (wanted,), (found,) = expected, outputs
    assert all(found[name].tobytes() == array.tobytes() for name, array in wanted.items())
