"""First layers on Hopper: convolutions of three channels with a stride, as convolutions of blocks of pixels."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import tilewright
from tilewright.runtime.device import open_device
from tilewright.runtime.sanitizing import parse_order, sanitize
from tilewright.runtime.session import Session

# (channels, height, width, outputs, kernel, stride, pads): ResNet's, MobileNet's, odd ones; and what stays as it is.
FOLDED = [
    (3, 33, 41, 64, 7, 2, (3, 3, 3, 3)),
    (3, 40, 30, 32, 3, 2, (1, 1, 1, 1)),
    (3, 33, 30, 32, 3, 2, (0, 0, 1, 1)),
    (4, 32, 45, 40, 5, 3, (2, 0, 1, 3)),
]
KEPT = [(3, 32, 32, 64, 3, 1, (1, 1, 1, 1)), (3, 32, 32, 64, 4, 4, (0, 0, 0, 0)), (1, 64, 64, 64, 3, 2, (1, 1, 1, 1))]


def model(
    channels: int, height: int, width: int, outputs: int, kernel: int, stride: int, pads: tuple[int, ...]
) -> onnx.ModelProto:
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((outputs, channels, kernel, kernel)) / np.sqrt(channels * kernel**2)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", pads=pads, strides=[stride] * 2),
        helper.make_node("Relu", ["c"], ["y"], "relu"),
    ]
    weights = [
        numpy_helper.from_array(weight.astype(np.float32), "w"),
        numpy_helper.from_array(generator.standard_normal(outputs).astype(np.float32), "b"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", channels, height, width])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", outputs, None, None])
    graph = helper.make_graph(nodes, "first", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def image(layer: tuple, count: int = 2) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, *layer[:3])).astype(np.float32)


def uses_wgmma(engine: tilewright.Engine) -> bool:
    return any("wgmma.mma_async" in engine.ptx(name) for name in engine.kernels)


@pytest.mark.parametrize("layer", FOLDED, ids=str)
def test_folded_layers(layer: tuple) -> None:
    proto = model(*layer)
    engine = tilewright.compile(proto, target="sm_90a", precision="f16")
    assert uses_wgmma(engine) and len(engine.kernels) == 2  # the blocks, and their products
    x = image(layer)
    with Session(engine, open_device("emulator")) as session:
        found = session.run({"x": x})["y"]
    expected = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": x})[0]
    # Operands are rounded to halves, 2**-11 of each; sums of up to 147 of their products grow like a root.
    np.testing.assert_allclose(found, expected, rtol=0, atol=2**-9 * float(np.abs(expected).max()))


@pytest.mark.parametrize("layer", KEPT, ids=str)
def test_other_layers_stay(layer: tuple) -> None:
    assert not uses_wgmma(tilewright.compile(model(*layer), target="sm_90a", precision="f16"))


def test_the_sanitizer_finds_nothing() -> None:
    engine = tilewright.compile(model(*FOLDED[1]), target="sm_90a", precision="bf16")
    _, report = sanitize(engine, [{"x": image(FOLDED[1], 1)}], parse_order("random:2"))
    assert "nothing found" in str(report)
