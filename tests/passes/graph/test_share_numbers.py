"""Layers of a quantised network share kernels: the answers of onnxruntime, and how many kernels there are."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser
from tests.support.quantizing import quantized

import tilewright

LAYERS = 4
WEIGHTS = {"MatMul": (64, 64), "Conv": (16, 16, 3, 3)}
INPUTS = {"MatMul": (32, 64), "Conv": (1, 16, 6, 6)}
# Sums are exact and the same operations on floats follow, so onnxruntime answers the same unless it fuses otherwise;
# then a value next to a rounding boundary moves by one of 255 steps.
ONE_STEP = 1 / 255


def layers(operator: str) -> onnx.ModelProto:
    """Equal layers one after the other: a product, a bias, a ReLU."""
    attribute = " <pads = [1, 1, 1, 1]> " if operator == "Conv" else " "
    lines = []
    for number in range(LAYERS):
        lines.append(f"p{number} = {operator}{attribute}(x{number}, w{number})")
        lines.append(f"a{number} = Add(p{number}, b{number}) x{number + 1} = Relu(a{number})")
    shape = ", ".join(map(str, INPUTS[operator]))
    signature = f"(float[{shape}] x0) => (float[{shape}] x{LAYERS})"
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> g {signature} {{ {" ".join(lines)} }}')
    random = np.random.default_rng(7)
    for number in range(LAYERS):
        weight = random.standard_normal(WEIGHTS[operator]).astype(np.float32) * np.float32(0.1 + 0.1 * number)
        bias_shape = (WEIGHTS[operator][0], 1, 1) if operator == "Conv" else (WEIGHTS[operator][1],)
        bias = random.standard_normal(bias_shape).astype(np.float32)
        for name, array in ((f"w{number}", weight), (f"b{number}", bias)):
            model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


# Layers in the middle are one kernel. The last one stores floats; the input has a zero point that is not that of what
# a ReLU makes, or another layout: a kernel for the first layer too, unless all that differs is a number.
CASES = [("MatMul", "qdq", 2), ("MatMul", "qoperator", 3), ("Conv", "qdq", 3)]


@pytest.mark.parametrize(("operator", "form", "products"), CASES)
def test_equal_layers_are_one_kernel(operator: str, form: str, products: int) -> None:
    inputs = {"x0": np.random.default_rng(8).standard_normal(INPUTS[operator]).astype(np.float32)}
    model = quantized(layers(operator), [inputs], form)
    engine = tilewright.compile(model, target="sm_80")
    assert [kernel.kind for kernel in engine.kernels.values()].count("dot") == products
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (want,) = session.run(None, inputs)
    with engine.session("emulator") as own:
        actual = own.run(inputs)[f"x{LAYERS}"]
    np.testing.assert_allclose(actual, want, rtol=0, atol=ONE_STEP * np.abs(want).max())
