"""QuantizeLinear by a known scale: the integer of the exact division, at every boundary between two integers."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import tilewright

SCALES = [0.0315740705, 3.0, 1 / 3, 1.9999998, 1.0000001, 1e-20]


def model_of(scale: np.float32) -> onnx.ModelProto:
    nodes = [helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["y"])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    y = helper.make_tensor_value_info("y", TensorProto.INT8, ["n"])
    given = [
        numpy_helper.from_array(np.asarray(scale), "scale"),
        numpy_helper.from_array(np.array(-3, np.int8), "zero"),
    ]
    graph = helper.make_graph(nodes, "quotients", [x], [y], given)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("scale", SCALES)
def test_the_integer_of_the_exact_division(scale: float) -> None:
    divisor = np.float32(scale)
    halves = (np.arange(-130, 132) + 0.5).astype(np.float32)
    with np.errstate(over="ignore"):
        near = (halves * divisor).astype(np.float32)
        below, above = near, near
        values = [near, np.array([0, -0.0, np.inf, -np.inf, 3.4e38, -3.4e38, 1e-44, -1e-44], np.float32)]
        for _ in range(4):
            below, above = np.nextafter(below, np.float32(-np.inf)), np.nextafter(above, np.float32(np.inf))
            values += [below, above]
        values.append((np.random.default_rng(1).uniform(-140, 140, 2000) * np.float64(divisor)).astype(np.float32))
        x = np.concatenate(values)
        want = np.clip(np.rint(x / divisor) - 3, -128, 127).astype(np.int8)
    engine = tilewright.compile(model_of(divisor))
    assert not any("div." in engine.ptx(name) for name in engine.kernels)
    with engine.session("emulator") as session:
        np.testing.assert_array_equal(session.run({"x": x})["y"], want)


@pytest.mark.parametrize("way", ["known scale", "given scale", "scales of channels", "table of bytes"])
def test_no_number_is_the_least(way: str) -> None:
    """As in onnxruntime, which is the reference: ONNX does not say."""
    x = np.array([[np.nan, np.inf, -np.inf, 1.0]] * 4, np.float32)
    nodes = [helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["y"], axis=0)]
    given = {"scale": np.array(0.1, np.float32), "zero": np.array(3, np.int8)}
    kind = TensorProto.FLOAT
    if way == "scales of channels":
        given = {"scale": np.full(4, 0.1, np.float32), "zero": np.full(4, 3, np.int8)}
    if way == "table of bytes":
        x, kind = np.arange(-128, 128).astype(np.int8).reshape(4, 64), TensorProto.INT8
        nodes = [
            helper.make_node("DequantizeLinear", ["x", "scale", "zero"], ["wide"]),
            helper.make_node("Sqrt", ["wide"], ["root"]),
            helper.make_node("QuantizeLinear", ["root", "scale", "zero"], ["y"]),
        ]
    inputs = {"x": x}
    values = [helper.make_tensor_value_info("x", kind, x.shape)]
    if way == "given scale":
        inputs["scale"] = given.pop("scale")
        values.append(helper.make_tensor_value_info("scale", TensorProto.FLOAT, []))
    y = helper.make_tensor_value_info("y", TensorProto.INT8, x.shape)
    weights = [numpy_helper.from_array(array, name) for name, array in given.items()]
    graph = helper.make_graph(nodes, "numbers", values, [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with tilewright.compile(model).session("emulator") as session:
        found = session.run(inputs)["y"]
    (wanted,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, inputs)
    np.testing.assert_array_equal(found, wanted)
