"""Small graphs that random ones were shrunk to: each compiled to a wrong answer or not at all once (docs/fuzzing.md)."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.parser
import pytest
from benchmarks.fuzz.differential import judge

HEADER = '<ir_version: 10, opset_import: ["": {opset}]> '
RNG = np.random.default_rng(3)
FOUND: dict[str, tuple[str, int, dict[str, Any]]] = {
    "a constant of more than eight equal booleans": (
        "m () => (bool[16] y) <int64[5] x = {5, -3, -3, -6, -1}, int64[2] p = {0, 3}> "
        "{ a = Pad(x, p) b = LessOrEqual(a, a) y = Concat <axis=0> (b, b) }",
        17,
        {},
    ),
    "pooling of a constant with one spatial dimension": (
        "m () => (float[a,b,c] y) <float[1,2,3] x = {1, 2, 3, 4, 5, 6}> { y = GlobalMaxPool(x) }",
        17,
        {},
    ),
    "response normalisation of a constant with few channels": (
        "m () => (float[a,b,c,d] y) <float[1,4,1,1] x = {0.5, -1.8, 1.4, 1.9}> { y = LRN <size=5, alpha=0.1> (x) }",
        17,
        {},
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_found_graphs(name: str) -> None:
    text, opset, data = FOUND[name]
    verdict = judge(onnx.parser.parse_model(HEADER.format(opset=opset) + text), [data])
    assert not verdict.failed, verdict.message
