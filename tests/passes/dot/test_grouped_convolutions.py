"""Convolutions in groups run on wgmma, their channels fetched by im2col maps: narrow groups side by side in a line."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.passes.dot.references import convolution

import tilewright
from tilewright.runtime.sanitizing import parse_order, sanitize

CASES = {  # channels, results, groups, stride
    "sixteen groups in a line": (128, 128, 32, 1),
    "lines of 32 bytes, a stride": (48, 96, 3, 2),
    "whole lines": (128, 32, 2, 1),
}


@pytest.mark.parametrize(("channels", "outputs", "groups", "stride"), CASES.values(), ids=CASES)
def test_against_float64(channels: int, outputs: int, groups: int, stride: int) -> None:
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((outputs, channels // groups, 3, 3)) / 8).astype(np.float16)
    size = 6 * stride
    nodes = [
        helper.make_node("Transpose", ["x"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["first", "w"], ["c"], pads=[1] * 4, strides=[stride] * 2, group=groups),
        helper.make_node("Transpose", ["c"], ["y"], perm=[0, 2, 3, 1]),
    ]
    values = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT16, [1, size, size, channels]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT16, [1, 6, 6, outputs]),
    ]
    graph = helper.make_graph(nodes, "groups", values[:1], values[1:], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    engine = tilewright.compile(model, target="sm_90a", precision="f16")
    assert list(engine.kernels) == ["dot_0"] and "im2col" in engine.ptx("dot_0")
    x = rng.standard_normal((1, size, size, channels)).astype(np.float16)
    outputs_found, report = sanitize(engine, [{"x": x}], parse_order("random:1"))
    assert "nothing found" in str(report)
    first = x.astype(np.float64).transpose(0, 3, 1, 2)
    result = convolution(first, weight.astype(np.float64), groups, [stride] * 2, [1] * 4, [1] * 2)
    expected = result.transpose(0, 2, 3, 1)
    # Products and sums are those of f32; a half keeps 2**-11 of the result.
    np.testing.assert_allclose(outputs_found[0]["y"], expected, rtol=2**-10, atol=2**-12)


def test_integers() -> None:
    """Sixteen groups of four bytes in a line of 64."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-8, 9, (64, 4, 3, 3)).astype(np.int8)
    nodes = [
        helper.make_node("Transpose", ["x"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("ConvInteger", ["first", "w"], ["c"], pads=[1] * 4, group=16),
        helper.make_node("Transpose", ["c"], ["y"], perm=[0, 2, 3, 1]),
    ]
    values = [
        helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 6, 6, 64]),
        helper.make_tensor_value_info("y", TensorProto.INT32, [1, 6, 6, 64]),
    ]
    graph = helper.make_graph(nodes, "groups", values[:1], values[1:], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    engine = tilewright.compile(model, target="sm_90a", precision="f16")
    assert list(engine.kernels) == ["dot_0"] and "s32.u8.s8" in engine.ptx("dot_0")
    x = rng.integers(0, 256, (1, 6, 6, 64)).astype(np.uint8)
    found, report = sanitize(engine, [{"x": x}], parse_order("random:1"))
    assert "nothing found" in str(report)
    result = convolution(x.transpose(0, 3, 1, 2), weight, 16, [1, 1], [1] * 4, [1, 1])
    np.testing.assert_array_equal(found[0]["y"], result.transpose(0, 2, 3, 1))
