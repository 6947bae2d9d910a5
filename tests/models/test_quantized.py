"""Quantised forms of a ResNet, a MobileNet and a BERT: the answers of onnxruntime, from products of integers."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from tests.support.quantizing import quantized
from tests.support.zoo import MODELS, Inputs

import tilewright
from tilewright.runtime.engine import Engine

# (model, form, kernels on tensor cores, some of which serve several layers): all products but the convolutions of 3
# channels, which read one byte at a time, and depthwise ones. `python -m benchmarks.models --quantized` does every form
# of each.
CASES = [
    ("resnet-small-dynamo", "qdq-channels", 9),
    ("resnet-small-dynamo", "qoperator", 9),
    ("mobilenet-small-dynamo", "qdq", 8),
    ("bert-small-dynamo", "dynamic-u8", 6),
]
# A value next to a rounding boundary moves by one step, 1/255 of its tensor's range, where sums are added in another
# order; the result moves by a part of that. None does with these inputs, on the machines seen.
ONE_STEP = 1 / 255


def expected_outputs(model: onnx.ModelProto, batches: list[Inputs]) -> list[dict[str, np.ndarray]]:
    """What onnxruntime's CPU provider answers."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    names = [output.name for output in session.get_outputs()]
    return [dict(zip(names, session.run(None, inputs), strict=True)) for inputs in batches]


def on_tensor_cores(engine: Engine) -> int:
    """Kernels that multiply bytes on tensor cores."""
    return sum("mma.sync.aligned.m16n8k32" in engine.ptx(name) for name in engine.kernels)


@pytest.mark.parametrize(("name", "form", "products"), CASES)
def test_same_answer_as_onnxruntime(name: str, form: str, products: int) -> None:
    source = MODELS[name]
    batches = source.inputs()
    model = quantized(source.prototype(), batches, form)
    engine = tilewright.compile(model, target="sm_80")
    assert not [kernel.name for kernel in engine.kernels.values() if kernel.spills]
    assert on_tensor_cores(engine) == products
    with engine.session("emulator") as session:
        for inputs, expected in zip(batches, expected_outputs(model, batches), strict=True):
            actual = session.run(inputs)
            for output, value in expected.items():
                np.testing.assert_allclose(actual[output], value, rtol=0, atol=ONE_STEP * np.abs(value).max())
