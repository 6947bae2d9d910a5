"""Sorting and running sums of axes that are too long for one piece, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import tilewright
from tilewright.runtime.session import Session

Array = np.ndarray[Any, Any]


def session_of(node: onnx.NodeProto, shape: list[Any], constants: dict[str, Array], outputs: dict[str, int]) -> Session:
    """A session of one node with the input x of that shape."""
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    wanted = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()]
    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph([node], "sorting", given, wanted, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    return tilewright.compile(model).session("emulator", checked=True)


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("axis", [0, 1])
def test_top_k_of_a_long_axis(axis: int, largest: int) -> None:
    shape = [1100, 2] if axis == 0 else [2, 1100]
    x = np.random.default_rng(0).integers(0, 300, shape).astype(np.float32)  # many are equal
    node = helper.make_node("TopK", ["x", "k"], ["values", "places"], axis=axis, largest=largest)
    outputs = {"values": TensorProto.FLOAT, "places": TensorProto.INT64}
    with session_of(node, shape, {"k": np.array([1050])}, outputs) as session:
        results = session.run({"x": x})
        order = np.argsort(-x if largest else x, axis=axis, kind="stable").take(range(1050), axis)
        np.testing.assert_array_equal(results["places"], order)
        np.testing.assert_array_equal(results["values"], np.take_along_axis(x, order, axis))


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_cumulative_sums_by_blocks(exclusive: int, reverse: int) -> None:
    node = helper.make_node("CumSum", ["x", "axis"], ["y"], exclusive=exclusive, reverse=reverse)
    with session_of(node, ["n", 2], {"axis": np.array(0)}, {"y": TensorProto.FLOAT}) as session:
        for size in (1, 128, 129, 700):
            x = np.random.default_rng(1).integers(-8, 8, (size, 2)).astype(np.float32)  # sums are exact
            wanted = np.cumsum(x[::-1] if reverse else x, 0)
            wanted = np.concatenate([np.zeros((1, 2)), wanted[:-1]]) if exclusive else wanted
            np.testing.assert_array_equal(session.run({"x": x})["y"], wanted[::-1] if reverse else wanted)
