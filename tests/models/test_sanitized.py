"""Small models under the strictest sanitizer: nothing is found in their kernels, and no order changes an answer.

`python -m benchmarks.sanitize` does the same for all models, targets and precisions.
"""

from __future__ import annotations

import numpy as np
import onnx
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


def test_what_an_empty_buffer_has_may_be_read() -> None:
    """Elements of the other part read the first one of an empty cache, and throw it away."""
    node = onnx.helper.make_node("Concat", ["past", "new"], ["all"], axis=0)
    tensors = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [rows, 8])
        for name, rows in (("past", "p"), ("new", "n"), ("all", "a"))
    ]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "cache", tensors[:2], tensors[2:]))
    new = np.arange(24, dtype="f4").reshape(3, 8)
    outputs, report = sanitize(tilewright.compile(model), [{"past": np.zeros((0, 8), "f4"), "new": new}])
    assert not report.findings, str(report)
    np.testing.assert_array_equal(outputs[0]["all"], new)
