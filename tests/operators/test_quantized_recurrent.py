"""LSTMs with 8-bit weights, as onnxruntime's dynamic quantisation makes them, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import tilewright
from tilewright.runtime.engine import Engine

STEPS, INPUTS = 3, 16
HIDDEN = 272  # weights of more than a megabyte in f32: smaller ones are dequantised while compiling
# onnxruntime rounds the hidden state to 8 bits before each step, we do not. Half a step of 1/255 in each of 272 terms
# with weights of at most 0.05 adds up to sqrt(272) * 0.05 * 0.29/255 = 1e-3 before the gates; times 4 for three steps.
TOLERANCE = 4e-3


def quantised(generator: np.random.Generator, *shape: int) -> list[Any]:
    """Integers, a scale and a zero point for each direction."""
    weights = generator.integers(-127, 128, shape).astype(np.int8)
    return [weights, np.full(shape[0], 4e-4, np.float32), np.arange(shape[0], dtype=np.int8)]


def model(direction: str) -> tuple[onnx.ModelProto, dict[str, Any]]:
    generator = np.random.default_rng(5)
    both = 2 if direction == "bidirectional" else 1
    w, w_scale, w_zero = quantised(generator, both, INPUTS, 4 * HIDDEN)
    r, r_scale, r_zero = quantised(generator, both, HIDDEN, 4 * HIDDEN)
    bias = (0.1 * generator.standard_normal((both, 8 * HIDDEN))).astype(np.float32)
    weights = {"w": w, "r": r, "bias": bias, "ws": w_scale, "wz": w_zero, "rs": r_scale, "rz": r_zero}
    names = ["x", "w", "r", "bias", "", "h", "c", "", "ws", "wz", "rs", "rz"]
    attributes = {"direction": direction, "hidden_size": HIDDEN}
    node = helper.make_node("DynamicQuantizeLSTM", names, ["y", "y_h", "y_c"], domain="com.microsoft", **attributes)
    state = ["both", "n", HIDDEN]
    shapes = {"x": ["t", "n", INPUTS], "h": [both, *state[1:]], "c": [both, *state[1:]]}
    graph = helper.make_graph(
        [node],
        "quantised",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [helper.make_empty_tensor_value_info(name) for name in node.output],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    inputs = {"x": (STEPS, 1, INPUTS), "h": (both, 1, HIDDEN), "c": (both, 1, HIDDEN)}
    values = {name: (0.5 * generator.standard_normal(shape)).astype(np.float32) for name, shape in inputs.items()}
    return helper.make_model(graph, opset_imports=opsets, ir_version=8), values


def float_copies(engine: Engine) -> list[str]:
    """Buffers that hold all recurrence weights in f32."""
    sizes = {str(HIDDEN), str(4 * HIDDEN)}
    return [item.name for item in engine.buffers if item.dtype == "f32" and sizes <= set(map(str, item.shape))]


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_same_as_onnxruntime(direction: str) -> None:
    proto, values = model(direction)
    engine = tilewright.compile(proto)
    assert not float_copies(engine)
    expected = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, values)
    with engine.session("emulator") as session:
        actual = session.run(values)
    for name, wanted in zip(("y", "y_h", "y_c"), expected, strict=True):
        np.testing.assert_allclose(actual[name], wanted, rtol=0, atol=TOLERANCE)
        assert np.abs(wanted).max() > 0.1
