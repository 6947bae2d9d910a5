"""The budget of a model counts what can be counted by hand, and predicts no less than the data sheet's rates allow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from benchmarks.model_budget import SECONDS_BETWEEN, Budget, budget
from onnx import numpy_helper, parser

from tilewright.compiler.compilation import Options

KINDS = ("loop", "dot", "row")
ROWS, WORDS, WIDTH, CLASSES = 64, 1000, 128, 256


@pytest.fixture
def looked_up(tmp_path: Path) -> Budget:
    """Words looked up in a table, multiplied by weights, a softmax behind."""
    model = parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 20]>
        words (int64[{ROWS}] x) => (float[{ROWS}, {CLASSES}] y) {{
            a = Gather(table, x)  b = Tanh(a)  c = MatMul(b, w)  y = Softmax(c)
        }}"""
    )
    for name, shape in {"table": (WORDS, WIDTH), "w": (WIDTH, CLASSES)}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), name))
    path = tmp_path / "words.onnx"
    onnx.save(model, path)
    return budget("words", path, Options(target="sm_90a", precision="f16"))


def test_counts(looked_up: Budget) -> None:
    """Of the table, in f32, only the rows that are looked up; weights and what kernels exchange in f16."""
    loop, dot, row = (next(own for own in looked_up.kernels if own.kernel.startswith(kind)) for kind in KINDS)
    looked = ROWS * 8 + ROWS * WIDTH * 4
    assert (loop.work.read, loop.work.written) == (looked, ROWS * WIDTH * 2)
    assert dot.work.flops == {"f16": 2 * ROWS * WIDTH * CLASSES}
    assert dot.work.read == ROWS * WIDTH * 2 + WIDTH * CLASSES * 2
    assert row.work.written == ROWS * CLASSES * 4
    assert looked_up.moved_bytes == looked + WIDTH * CLASSES * 2 + ROWS * CLASSES * 4


def test_times(looked_up: Budget) -> None:
    assert looked_up.launches == 3
    assert looked_up.seconds >= looked_up.roofline + 3 * SECONDS_BETWEEN
    assert looked_up.roofline >= looked_up.ideal > 0
    assert {own.predicted_by for own in looked_up.kernels} == {"schedule", "roofline"}
    record = looked_up.to_json()
    assert record["launches"] == 3 and record["note"] == "a model, not a measurement"
