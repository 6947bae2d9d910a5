"""Regions of interest against onnxruntime, also where the boxes decide how many points are sampled."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import tilewright
from tilewright.compiler.frontend import import_model
from tilewright.passes.graph.interpret import interpret

GENERATOR = np.random.default_rng(11)
IMAGE = GENERATOR.normal(size=(2, 3, 9, 12)).astype(np.float32)
BOXES = np.array([[0, 0, 8, 8], [2.5, 1, 11, 5], [-3, -2, 4, 4], [7, 6, 15, 10]], np.float32)
OWNERS = np.array([0, 1, 1, 0], np.int64)


def compare(node: onnx.NodeProto, arrays: dict[str, Any], opset: int) -> None:
    """onnxruntime, the interpreter and the emulator agree; averages of up to 40 f32 products."""
    runtime = pytest.importorskip("onnxruntime")
    given = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in arrays.items()
    ]
    graph = helper.make_graph([node], "regions", given, [helper.make_empty_tensor_value_info("y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    (wanted,) = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, arrays
    )
    np.testing.assert_allclose(interpret(import_model(model), arrays)["y"], wanted, rtol=1e-5, atol=1e-5)
    with tilewright.compile(model).session("emulator", checked=True) as session:
        np.testing.assert_allclose(session.run(arrays)["y"], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("opset", [10, 16])
def test_roi_align(opset: int, ratio: int) -> None:
    attributes = {"output_height": 3, "output_width": 2, "sampling_ratio": ratio, "spatial_scale": 0.8}
    node = helper.make_node("RoiAlign", ["x", "boxes", "owners"], ["y"], **attributes)
    compare(node, {"x": IMAGE, "boxes": BOXES, "owners": OWNERS}, opset)


def test_max_roi_pool() -> None:
    node = helper.make_node("MaxRoiPool", ["x", "boxes"], ["y"], pooled_shape=[2, 3], spatial_scale=0.75)
    inside = np.array([[0, 0, 0, 8, 8], [1, 2, 1, 11, 5], [1, 0, 3, 4, 4]], np.float32)
    compare(node, {"x": IMAGE, "boxes": inside}, 16)
