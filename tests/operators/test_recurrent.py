"""Recurrent networks with every attribute, against onnxruntime, which implements all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import tilewright
from tilewright.compiler.frontend import import_model
from tilewright.passes.graph.interpret import interpret

STEPS, BATCH, INPUTS, HIDDEN = 5, 3, 4, 6
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
EMULATED = ("lstm_lengths_both", "gru_lengths_both", "gru_clip")
LENGTHS = np.array([5, 2, 3], np.int32)
VARIANTS: dict[str, tuple[str, dict[str, Any], bool]] = {  # operator, attributes, different lengths
    "lstm_lengths": ("LSTM", {}, True),
    "lstm_lengths_both": ("LSTM", {"direction": "bidirectional"}, True),
    "lstm_clip": ("LSTM", {"clip": 0.3}, False),
    "lstm_coupled": ("LSTM", {"input_forget": 1}, False),
    "lstm_activations": ("LSTM", {"activations": ["HardSigmoid", "Softsign", "Relu"]}, True),
    "gru_lengths": ("GRU", {"linear_before_reset": 1}, True),
    "gru_lengths_both": ("GRU", {"direction": "bidirectional"}, True),
    "gru_clip": ("GRU", {"clip": 0.3, "direction": "reverse"}, True),
    "gru_activations": (
        "GRU",
        {"activations": ["LeakyRelu", "ScaledTanh"], "activation_alpha": [0.1, 1.5], "activation_beta": [0.5]},
        False,
    ),
    "rnn_lengths": ("RNN", {"direction": "bidirectional"}, True),
    "rnn_activations": ("RNN", {"activations": ["Elu"], "activation_alpha": [0.5]}, False),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_same_as_onnxruntime(variant: str) -> None:
    runtime = pytest.importorskip("onnxruntime")
    operator, attributes, shorter = VARIANTS[variant]
    generator = np.random.default_rng(3)
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    rows = GATES[operator] * HIDDEN

    def floats(*shape: int) -> Any:
        return (generator.normal(size=shape) * 0.5).astype(np.float32)

    values = {
        "X": floats(STEPS, BATCH, INPUTS),
        "W": floats(directions, rows, INPUTS),
        "R": floats(directions, rows, HIDDEN),
        "B": floats(directions, 2 * rows),
        "lengths": LENGTHS,
        "h": floats(directions, BATCH, HIDDEN),
    }
    if operator == "LSTM":
        values |= {"c": floats(directions, BATCH, HIDDEN), "P": floats(directions, 3 * HIDDEN)}
    names = [name if name != "lengths" or shorter else "" for name in values]
    outputs = ["Y", "Y_h", "Y_c"][: 3 if operator == "LSTM" else 2]
    node = helper.make_node(operator, names, outputs, hidden_size=HIDDEN, **attributes)
    given = [helper.make_tensor_value_info("X", TensorProto.FLOAT, [STEPS, BATCH, INPUTS])]
    wanted = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    constants = [onnx.numpy_helper.from_array(values[name], name) for name in names if name and name != "X"]
    graph = helper.make_graph([node], variant, given, wanted, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    reference = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    fed = {"X": values["X"]}
    runs = [interpret(import_model(model), fed)]
    if variant in EMULATED:
        with tilewright.compile(model).session("emulator", checked=True) as session:
            runs.append(session.run(fed))
    for results in runs:
        for name, expected in zip(outputs, reference.run(None, fed), strict=True):
            # Five steps of sums of ten f32 products, through functions that do not amplify.
            np.testing.assert_allclose(results[name], expected, rtol=1e-5, atol=1e-6, err_msg=name)
