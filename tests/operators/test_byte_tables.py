"""A feed-forward layer in QDQ: two quantisations and a table behind the product, with onnxruntime's bytes."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import tilewright

ROWS, DEPTH, COLUMNS = 128, 128, 64


def layer(signed: bool) -> onnx.ModelProto:
    """Product, quantise, bias, quantise, GELU, quantise: bytes to bytes."""
    random, kind = np.random.default_rng(0), np.int8 if signed else np.uint8
    middle = 0 if signed else 128
    constants = {
        "w": random.integers(-127, 128, (DEPTH, COLUMNS)).astype(np.int8), "none": np.array(0, np.int8),
        "b": random.integers(-128, 128, COLUMNS).astype(np.int8), "bs": np.array(0.011, np.float32),
        "ws": np.array(0.004, np.float32), "xs": np.array(0.02, np.float32), "xz": np.array(middle, kind),
        "ps": np.array(0.051, np.float32), "pz": np.array(middle + 3, kind),
        "hs": np.array(0.047, np.float32), "hz": np.array(middle - 7, kind),
        "gs": np.array(0.024, np.float32), "gz": np.array(middle - 100, kind),
    }  # fmt: skip
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "xs", "xz"], ["xf"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "none"], ["wf"]),
        helper.make_node("MatMul", ["xf", "wf"], ["p"]),
        helper.make_node("QuantizeLinear", ["p", "ps", "pz"], ["pq"]),
        helper.make_node("DequantizeLinear", ["pq", "ps", "pz"], ["pd"]),
        helper.make_node("DequantizeLinear", ["b", "bs", "none"], ["bd"]),
        helper.make_node("Add", ["pd", "bd"], ["s"]),
        helper.make_node("QuantizeLinear", ["s", "hs", "hz"], ["hq"]),
        helper.make_node("DequantizeLinear", ["hq", "hs", "hz"], ["h"]),
        helper.make_node("Gelu", ["h"], ["g"], "gelu"),
        helper.make_node("QuantizeLinear", ["g", "gs", "gz"], ["y"]),
    ]
    element = TensorProto.INT8 if signed else TensorProto.UINT8
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", element, [ROWS, DEPTH])],
        [helper.make_tensor_value_info("y", element, [ROWS, COLUMNS])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
def test_bytes_of_a_feed_forward_layer(signed: bool, target: str) -> None:
    model, kind = layer(signed), np.int8 if signed else np.uint8
    x = np.random.default_rng(1).integers(np.iinfo(kind).min, np.iinfo(kind).max + 1, (ROWS, DEPTH)).astype(kind)
    engine = tilewright.compile(model, target=target, precision="f16")
    ptx = "".join(map(engine.ptx, engine.kernels))
    assert "ex2" not in ptx and "div." not in ptx and "cvt.rni" not in ptx  # neither erf, nor divisions, nor roundings
    with engine.session("emulator", checked=True) as session:
        answer = session.run({"x": x})["y"]
    # Without fusions of onnxruntime's own, which round elsewhere.
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    wanted = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"x": x})[0]
    different = np.abs(answer.astype(int) - wanted.astype(int))
    # onnxruntime sums floats, whose rounding moves a value next to a border between two bytes by one.
    assert different.max() <= 1 and np.mean(different != 0) < 0.001
