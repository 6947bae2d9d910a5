"""Sorting and running sums of short, long and dynamic axes, against numpy."""

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
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 26)])
    return tilewright.compile(model).session("emulator", checked=True)


# Axis, size in the model, sizes of runs: one run of a block, two and a rest that are merged, unknown to the compiler.
LENGTHS = [(0, 1100, [1100]), (1, 2100, [2100]), (0, "n", [1, 2100])]


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize(("axis", "length", "sizes"), LENGTHS, ids=str)
def test_top_k(axis: int, length: Any, sizes: list[int], largest: int) -> None:
    shape: list[Any] = [1, 1]
    shape[axis] = length
    count = min(*sizes, 1050) if isinstance(length, int) else 1
    node = helper.make_node("TopK", ["x", "k"], ["values", "places"], axis=axis, largest=largest)
    outputs = {"values": TensorProto.FLOAT, "places": TensorProto.INT64}
    with session_of(node, shape, {"k": np.array([count])}, outputs) as session:
        for size in sizes:
            shape[axis] = size
            x = np.random.default_rng(0).integers(-150, 150, shape).astype(np.float32)  # many are equal
            results = session.run({"x": x})
            order = np.argsort(-x if largest else x, axis=axis, kind="stable").take(range(count), axis)
            np.testing.assert_array_equal(results["places"], order)
            np.testing.assert_array_equal(results["values"], np.take_along_axis(x, order, axis))


@pytest.mark.parametrize("largest", [0, 1])
def test_top_k_of_special_values(largest: int) -> None:
    """Both zeros are equal; NaN is larger than infinity."""
    x = np.array([[0.0, np.inf, -np.inf, -0.0, np.nan, 1e-45, -1e-45, 3.0]], np.float32)
    node = helper.make_node("TopK", ["x", "k"], ["values", "places"], largest=largest)
    outputs = {"values": TensorProto.FLOAT, "places": TensorProto.INT64}
    with session_of(node, [1, 8], {"k": np.array([8])}, outputs) as session:
        order = [4, 1, 7, 5, 0, 3, 6, 2] if largest else [2, 6, 0, 3, 5, 7, 1, 4]
        np.testing.assert_array_equal(session.run({"x": x})["places"], [order])


@pytest.mark.parametrize("sorted_", [0, 1])
@pytest.mark.parametrize("shape", [["n"], ["n", 3]], ids=str)
def test_unique(shape: list[Any], sorted_: int) -> None:
    node = helper.make_node("Unique", ["x"], ["values", "firsts", "inverse", "counts"], sorted=sorted_)
    outputs = {"values": 1, "firsts": 7, "inverse": 7, "counts": 7}
    with session_of(node, shape, {}, outputs) as session:
        for size in (1, 40, 0):
            x = np.random.default_rng(size).integers(-9, 9, [size, *shape[1:]]).astype(np.float32)
            wanted = list(np.unique(x, return_index=True, return_inverse=True, return_counts=True))
            wanted[2] = wanted[2].reshape(-1)
            if not sorted_:
                order = np.argsort(wanted[1])
                wanted = [wanted[0][order], wanted[1][order], np.argsort(order)[wanted[2]], wanted[3][order]]
            for got, expected in zip(session.run({"x": x}).values(), wanted, strict=True):
                np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(("axis", "sorted_"), [(0, 1), (1, 0), (-1, 1)])
def test_unique_slices(axis: int, sorted_: int) -> None:
    """Along each axis, by kernels; the host finds how many there are."""
    node = helper.make_node("Unique", ["x"], ["values", "firsts", "inverse", "counts"], axis=axis, sorted=sorted_)
    shape: list[Any] = [2, 1, 2]
    shape[axis] = "n"
    with session_of(node, shape, {}, {"values": 1, "firsts": 7, "inverse": 7, "counts": 7}) as session:
        assert [call.function for call in session._manifest.program.calls] == ["sizes"]
        for size in (1, 40):
            shape[axis] = size
            x = np.random.default_rng(size).integers(-1, 2, shape).astype(np.float32)
            wanted = list(np.unique(x, return_index=True, return_inverse=True, return_counts=True, axis=axis))
            wanted[2] = wanted[2].reshape(-1)
            if not sorted_:
                order = np.argsort(wanted[1])
                kept = np.take(wanted[0], order, axis)
                wanted = [kept, wanted[1][order], np.argsort(order)[wanted[2]], wanted[3][order]]
            for got, expected in zip(session.run({"x": x}).values(), wanted, strict=True):
                np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_cumulative_sums_by_blocks(exclusive: int, reverse: int) -> None:
    node = helper.make_node("CumSum", ["x", "axis"], ["y"], exclusive=exclusive, reverse=reverse)
    with session_of(node, ["n", 2], {"axis": np.array(0)}, {"y": TensorProto.FLOAT}) as session:
        for size in (1, 2048, 2049, 4500):
            x = np.random.default_rng(1).integers(-8, 8, (size, 2)).astype(np.float32)  # sums are exact
            wanted = np.cumsum(x[::-1] if reverse else x, 0)
            wanted = np.concatenate([np.zeros((1, 2)), wanted[:-1]]) if exclusive else wanted
            np.testing.assert_array_equal(session.run({"x": x})["y"], wanted[::-1] if reverse else wanted)


def test_cumulative_products() -> None:
    node = helper.make_node("CumProd", ["x", "axis"], ["y"], reverse=1)
    with session_of(node, ["n", 40], {"axis": np.array(0)}, {"y": TensorProto.FLOAT}) as session:
        for size in (1, 300):  # threads that walk along 128 elements each, then through the blocks
            x = np.random.default_rng(1).choice([0.5, 1.0, 2.0, -1.0], (size, 40)).astype(np.float32)  # exact
            np.testing.assert_array_equal(session.run({"x": x})["y"], np.cumprod(x[::-1], 0)[::-1])


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("operator", ["ArgMax", "ArgMin"])
def test_arguments_of_extremes(operator: str, last: int) -> None:
    node = helper.make_node(operator, ["x"], ["y"], axis=1, select_last_index=last)
    with session_of(node, ["n", "m"], {}, {"y": TensorProto.INT64}) as session:
        x = np.random.default_rng(2).integers(0, 5, (3, 2000)).astype(np.float32)
        x[1, 700] = x[1, 900] = np.nan
        find = np.argmax if operator == "ArgMax" else np.argmin
        wanted = x.shape[1] - 1 - find(x[:, ::-1], 1) if last else find(x, 1)
        np.testing.assert_array_equal(session.run({"x": x})["y"][:, 0], wanted)


@pytest.mark.parametrize("precision", ["f16", "bf16"])
def test_kernels_of_fixed_types_between_narrow_ones(precision: str) -> None:
    """Scans, scatters and sorts read and write what they were made for, whatever their neighbours store."""
    model = onnx.parser.parse_model("""<ir_version: 9, opset_import: ["" : 20]>
    g (float[4,8] x, float[8,8] w, int64[3,1] i, float[3,8] u) => (float[4,8] y, float[4,2] top)
    <int64 axis = {1}, int64[1] two = {2}> {
      a = MatMul (x, w)
      b = CumSum (a, axis)
      c = ScatterND <reduction = "add"> (b, i, u)
      y = MatMul (c, w)
      top, places = TopK (c, two)
    }""")
    rng = np.random.default_rng(6)
    fed: dict[str, Array] = {name: rng.integers(-3, 4, shape).astype(np.float32)
                             for name, shape in (("x", (4, 8)), ("u", (3, 8)))}  # fmt: skip
    fed |= {"w": np.eye(8, dtype=np.float32), "i": np.array([[1], [1], [3]])}
    with tilewright.compile(model, precision=precision).session("emulator", checked=True) as session:
        results = session.run(fed)
    want = np.cumsum(fed["x"], 1)
    np.add.at(want, fed["i"][:, 0], fed["u"])
    np.testing.assert_array_equal(results["y"], want)  # small integers are exact in every type
    np.testing.assert_array_equal(results["top"], -np.sort(-want, 1)[:, :2])
