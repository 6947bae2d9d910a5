"""onnxruntime's operators that only its GPU providers have, against the standard operators that they were fused from.

Each case is two models in onnx's text format with the same inputs: with the fused operator, through the importer and
the interpreter, and without it, by onnxruntime.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.parser
import onnxruntime
import pytest

from tilewright.compiler.frontend import import_model
from tilewright.passes.graph.interpret import interpret

X, W = "float[2, 5, 7, 8] x", "float[6, 3, 3, 4] w"
PADDED = "group = 2, pads = [1, 0, 1, 2], strides = [2, 1]"
FIRST = "c = Transpose <perm = [0, 3, 1, 2]>"
SILU = "g = Sigmoid (n) s = Mul (n, g)"
GROUPS = "GroupNormalization <num_groups = 4, epsilon = 0.001>"
GELU = "q = Constant <value_float = 0.70710678> () e1 = Mul (b, q) e2 = Erf (e1) one = Constant <value_float = 1.0> () e3 = Add (e2, one) half = Constant <value_float = 0.5> () e4 = Mul (e3, half) e5 = Mul (b, e4)"  # fmt: skip  # noqa: E501
CASES = {
    "NhwcConv": (
        f"{X}, {W}, float[6] v",
        f"y = com.microsoft.NhwcConv <{PADDED}> (x, w, v)",
        f"{FIRST} (x) k = Transpose <perm = [0, 3, 1, 2]> (w) d = Conv <{PADDED}> (c, k, v)"
        " y = Transpose <perm = [0, 2, 3, 1]> (d)",
    ),
    "NhwcFusedConv": (
        f"{X}, float[6, 8, 1, 1] w, float[6] v, float[2, 5, 7, 6] z",
        'y = com.microsoft.NhwcFusedConv <activation = "Relu"> (x, w, v, z)',
        f"{FIRST} (x) d = Conv (c, w, v) t = Transpose <perm = [0, 2, 3, 1]> (d) a = Add (t, z) y = Relu (a)",
    ),
    "GroupNorm": (
        f"{X}, float[8] a, float[8] b",
        "y = com.microsoft.GroupNorm <groups = 4, epsilon = 0.001, activation = 1> (x, a, b)",
        f"{FIRST} (x) n = {GROUPS} (c, a, b) {SILU} y = Transpose <perm = [0, 2, 3, 1]> (s)",
    ),
    "GroupNorm with the channels second": (
        "float[2, 8, 5, 7] x, float[8] a, float[8] b",
        "y = com.microsoft.GroupNorm <groups = 4, epsilon = 0.001, activation = 0, channels_last = 0> (x, a, b)",
        f"y = {GROUPS} (x, a, b)",
    ),
    "SkipGroupNorm": (
        f"{X}, float[8] a, float[8] b, float[2, 8] k, float[8] v",
        "y, t = com.microsoft.SkipGroupNorm <groups = 4, epsilon = 0.001, activation = 0> (x, a, b, k, v)",
        "p = Constant <value_ints = [1, 2]> () k4 = Unsqueeze (k, p) u = Add (x, k4) t = Add (u, v)"
        f" {FIRST} (t) n = {GROUPS} (c, a, b) y = Transpose <perm = [0, 2, 3, 1]> (n)",
    ),
    "BiasAdd": (
        "float[2, 5, 8] x, float[8] v, float[2, 5, 8] k",
        "y = com.microsoft.BiasAdd (x, v, k)",
        "u = Add (x, v) y = Add (u, k)",
    ),
    "BiasSplitGelu": (
        "float[2, 5, 8] x, float[8] v",
        "y = com.microsoft.BiasSplitGelu (x, v)",
        f"u = Add (x, v) a, b = Split <axis = 2, num_outputs = 2> (u) {GELU} y = Mul (a, e5)",
    ),
    "BiasSoftmax": (
        "float[2, 3, 5, 8] x, float[2, 1, 1, 8] v",
        "y = com.microsoft.BiasSoftmax <axis = 3, is_inner_broadcast = 0> (x, v)",
        "u = Add (x, v) y = Softmax <axis = 3> (u)",
    ),
    "QLinearReduceMean": (
        "float[2, 5, 8] x",
        "s = Constant <value_float = 0.03> () z = Constant <value_int = 120> () u = Cast <to = 2> (z)"
        " q = QuantizeLinear (x, s, u)"
        " m = com.microsoft.QLinearReduceMean <axes = [-1, 0], keepdims = 0> (q, s, u, s, u)"
        " y = DequantizeLinear (m, s, u)",
        "s = Constant <value_float = 0.03> () z = Constant <value_int = 120> () u = Cast <to = 2> (z)"
        " q = QuantizeLinear (x, s, u) d = DequantizeLinear (q, s, u)"
        " a = Constant <value_ints = [-1, 0]> () m = ReduceMean <keepdims = 0> (d, a)"
        " r = QuantizeLinear (m, s, u) y = DequantizeLinear (r, s, u)",
    ),
}


def model(inputs: str, body: str) -> onnx.ModelProto:
    outputs = "float y, float t" if " t = Add" in body or "y, t =" in body else "float y"
    header = '<ir_version: 9, opset_import: ["" : 21, "com.microsoft" : 1]>'
    result = onnx.parser.parse_model(f"{header} g ({inputs}) => ({outputs}) {{ {body} }}")
    for value in result.graph.output:  # the text format has no unknown ranks
        value.type.tensor_type.ClearField("shape")
    return result


@pytest.mark.parametrize("name", CASES)
def test_same_as_what_it_was_fused_from(name: str) -> None:
    inputs, fused, plain = CASES[name]
    wanted = model(inputs, plain)
    rng = np.random.default_rng(3)
    given: dict[str, Any] = {
        value.name: rng.normal(size=[size.dim_value for size in value.type.tensor_type.shape.dim]).astype(np.float32)
        for value in wanted.graph.input
    }
    expected = onnxruntime.InferenceSession(wanted.SerializeToString()).run(None, given)
    results = interpret(import_model(model(inputs, fused)), given)
    for result, want in zip(results.values(), expected, strict=True):
        # Sums of up to 72 f32 products in another order; a step of 0.03 would be an error.
        np.testing.assert_allclose(result, want, rtol=2e-5, atol=2e-5)
