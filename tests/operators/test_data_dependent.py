"""Results whose size only a run knows: compiled once, run on the emulator with several inputs.

In: models with free dimensions. Out: what numpy says, and a program in which every step on the host is visible.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import tilewright
from tilewright.runtime.engine import Engine
from tilewright.runtime.errors import ModelError
from tilewright.runtime.program import Call, Download, Upload

Array = np.ndarray[Any, Any]
SHAPES = ((3, 4), (5, 7), (1, 1), (4, 4), (0, 3))


def compiled(nodes: Sequence[onnx.NodeProto], inputs: Mapping[str, tuple[int, Sequence[Any]]], outputs: str) -> Engine:
    """An engine of these nodes; `inputs` by name are element type and shape."""
    given = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
    wanted = [helper.make_empty_tensor_value_info(name) for name in outputs.split()]
    graph = helper.make_graph(list(nodes), "data_dependent", given, wanted)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    return tilewright.compile(onnx.shape_inference.infer_shapes(model))


def numbers(shape: tuple[int, ...], zeros: float, seed: int = 1) -> Array:
    """Normal numbers, a share of them replaced by zero."""
    generator = np.random.default_rng(seed)
    return (generator.normal(size=shape) * (generator.random(shape) >= zeros)).astype(np.float32)


def test_non_zero_feeds_other_kernels() -> None:
    engine = compiled(
        [
            helper.make_node("NonZero", ["x"], ["places"]),
            helper.make_node("Transpose", ["places"], ["rows"]),
            helper.make_node("GatherND", ["x", "rows"], ["kept"]),
            helper.make_node("Relu", ["kept"], ["positive"]),
            helper.make_node("ReduceSum", ["positive"], ["total"], keepdims=0),
            helper.make_node("Shape", ["kept"], ["count"]),
        ],
        {"x": (TensorProto.FLOAT, ["a", "b"])},
        "kept total count",
    )
    for checked in (False, True):
        with engine.session("emulator", checked=checked) as session:
            for shape in SHAPES:
                x = numbers(shape, 0.4)
                results = session.run({"x": x})
                wanted = x[np.nonzero(x)]
                np.testing.assert_array_equal(results["kept"], wanted)
                assert results["count"].tolist() == [len(wanted)]
                # A sum of at most 35 f32 numbers near 1, in another order.
                np.testing.assert_allclose(results["total"], np.maximum(wanted, 0).sum(), rtol=1e-6)


def test_the_program_shows_what_the_host_does() -> None:
    engine = compiled([helper.make_node("NonZero", ["x"], ["y"])], {"x": (TensorProto.FLOAT, ["n"])}, "y")
    instructions = engine.program.instructions
    (call,) = engine.program.calls
    assert call.function == "sizes" and len(call.symbols) == 1
    assert [type(item) for item in instructions if isinstance(item, Download | Upload | Call)] == [Download, Call]
    assert str(engine.outputs[0].shape[1]) == call.symbols[0]


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_compress(axis: int | None) -> None:
    attributes = {} if axis is None else {"axis": axis}
    engine = compiled(
        [helper.make_node("Compress", ["x", "c"], ["y"], **attributes)],
        {"x": (TensorProto.FLOAT, ["a", "b"]), "c": (TensorProto.BOOL, ["k"])},
        "y",
    )
    with engine.session("emulator", checked=True) as session:
        for shape in SHAPES[:4]:
            x = numbers(shape, 0.0)
            length = x.size if axis is None else shape[axis]
            chosen = np.random.default_rng(2).random(length) < 0.5
            result = session.run({"x": x, "c": chosen})["y"]
            np.testing.assert_array_equal(result, np.compress(chosen, x, axis))


def test_sizes_from_data() -> None:
    """Reshape, Expand, Slice, Range and ConstantOfShape with shapes that the model computes from its input."""
    engine = compiled(
        [
            helper.make_node("ReduceMax", ["n"], ["m"], keepdims=1),
            helper.make_node("Constant", [], ["rest"], value_ints=[-1]),
            helper.make_node("Concat", ["m", "rest"], ["shape"], axis=0),
            helper.make_node("Reshape", ["x", "shape"], ["reshaped"]),
            helper.make_node("Constant", [], ["zero"], value_ints=[0]),
            helper.make_node("Slice", ["x", "zero", "m"], ["sliced"]),
            helper.make_node("ConstantOfShape", ["m"], ["zeros"]),
            helper.make_node("Squeeze", ["m"], ["limit"]),
            helper.make_node("Constant", [], ["start"], value_int=0),
            helper.make_node("Constant", [], ["step"], value_int=1),
            helper.make_node("Range", ["start", "limit", "step"], ["counted"]),
            helper.make_node("Unsqueeze", ["x", "rest"], ["column"]),
            helper.make_node("Concat", ["rest", "m"], ["wide"], axis=0),
            helper.make_node("Abs", ["wide"], ["sizes"]),
            helper.make_node("Expand", ["column", "sizes"], ["expanded"]),
        ],
        {"x": (TensorProto.FLOAT, ["k"]), "n": (TensorProto.INT64, ["j"])},
        "reshaped sliced zeros counted expanded",
    )
    with engine.session("emulator", checked=True) as session:
        for count, size in ((3, 12), (4, 8), (1, 5), (6, 6)):
            x = numbers((size,), 0.0)
            results = session.run({"x": x, "n": np.array([1, count, 1], np.int64)})
            np.testing.assert_array_equal(results["reshaped"], x.reshape(count, -1))
            np.testing.assert_array_equal(results["sliced"], x[:count])
            np.testing.assert_array_equal(results["zeros"], np.zeros(count, np.float32))
            np.testing.assert_array_equal(results["counted"], np.arange(count))
            np.testing.assert_array_equal(results["expanded"], np.broadcast_to(x[:, None], (size, count)))
        with pytest.raises(ModelError, match="Reshape of"):
            session.run({"x": numbers((7,), 0.0), "n": np.array([3], np.int64)})


def test_unique_and_what_follows() -> None:
    nodes = [
        helper.make_node("Unique", ["x"], ["values", "first", "inverse", "counts"], sorted=1),
        helper.make_node("Gather", ["values", "inverse"], ["again"]),
    ]
    engine = compiled(nodes, {"x": (TensorProto.FLOAT, ["n"])}, "values counts again")
    with engine.session("emulator", checked=True) as session:
        for size in (1, 9, 40):
            x = np.random.default_rng(3).integers(0, 7, size).astype(np.float32)
            results = session.run({"x": x})
            values, counts = np.unique(x, return_counts=True)
            np.testing.assert_array_equal(results["values"], values)
            np.testing.assert_array_equal(results["counts"], counts)
            np.testing.assert_array_equal(results["again"], x)


@pytest.mark.parametrize("centred", [0, 1])
def test_non_max_suppression_against_onnxruntime(centred: int) -> None:
    """Batches, classes without candidates, chains of overlaps, limits of a run: only two counts leave the device."""
    runtime = pytest.importorskip("onnxruntime")
    inputs = {
        "boxes": (TensorProto.FLOAT, ["b", "n", 4]), "scores": (TensorProto.FLOAT, ["b", 3, "n"]),
        "most": (TensorProto.INT64, [1]), "overlap": (TensorProto.FLOAT, [1]), "least": (TensorProto.FLOAT, [1]),
    }  # fmt: skip
    node = helper.make_node("NonMaxSuppression", list(inputs), ["y"], center_point_box=centred)
    given = [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()]
    wanted = [helper.make_tensor_value_info("y", TensorProto.INT64, ["k", 3])]
    graph = helper.make_graph([node], "nms", given, wanted)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    engine = tilewright.compile(model)
    assert [call.function for call in engine.program.calls] == ["sizes", "sizes"]
    reference = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(4)
    with engine.session("emulator", checked=True) as session:
        for batch, count, most, overlap, least in ((2, 40, 5, 0.4, 0.2), (1, 1, 3, 0.5, 0.0), (2, 40, 40, 0.1, 0.99)):
            corner = generator.random((batch, count, 2))
            boxes = np.concatenate([corner, corner + generator.random((batch, count, 2))], axis=2).astype(np.float32)
            values = {
                "boxes": boxes, "scores": generator.random((batch, 3, count)).astype(np.float32),
                "most": np.array([most]), "overlap": np.array([overlap], np.float32),
                "least": np.array([least], np.float32),
            }  # fmt: skip
            np.testing.assert_array_equal(session.run(values)["y"], reference.run(None, values)[0])
