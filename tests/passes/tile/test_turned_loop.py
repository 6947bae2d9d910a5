"""Transposes read and store whole lines, by way of shared memory; what stands around them stays in their kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import tilewright
from tilewright.runtime.emulator.device import EmulatorDevice
from tilewright.runtime.sanitizing import sanitize

SHAPES = [
    ((100, 72), (1, 0)),
    ((3, 130, 66), (0, 2, 1)),  # accesses of two elements
    ((2, 14, 14, 64), (0, 3, 1, 2)),  # channels-last to channels-first: two dimensions are one
    ((2, 64, 14, 14), (0, 2, 3, 1)),
    ((64, 3, 96), (2, 1, 0)),
]


def transposed(shape: tuple[int | str, ...], order: tuple[int, ...], dtype: Any, around: bool) -> Any:
    """y = transpose(x), or with what may stand around it: relu(transpose(-x) + z)."""
    kind, result = helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), [shape[axis] for axis in order]
    make = helper.make_node
    nodes = [make("Transpose", ["x"], ["y"], "transpose", perm=order)]
    if around:
        nodes = [
            make("Neg", ["x"], ["minus"], "minus"),
            make("Transpose", ["minus"], ["turned"], "transpose", perm=order),
            make("Add", ["turned", "z"], ["sum"], "add"),
            make("Relu", ["sum"], ["y"], "relu"),
        ]
    inputs = {"x": shape, "z": result} if around else {"x": shape}
    graph = helper.make_graph(
        nodes,
        "turned",
        [helper.make_tensor_value_info(name, kind, own) for name, own in inputs.items()],
        [helper.make_tensor_value_info("y", kind, result)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


CASES = [(*SHAPES[0], dtype) for dtype in (np.float32, np.int8, np.int64)] + [(*own, np.float16) for own in SHAPES]


@pytest.mark.parametrize(("shape", "order", "dtype"), CASES, ids=str)
def test_moves_every_element(shape: tuple[int, ...], order: tuple[int, ...], dtype: Any) -> None:
    engine = tilewright.compile(transposed(shape, order, dtype, around=False))
    assert list(engine.kernels) == ["loop_0"]
    x = np.random.default_rng(0).integers(-100, 100, shape).astype(dtype)
    with tilewright.Session(engine, device=EmulatorDevice(), checked=True) as session:
        np.testing.assert_array_equal(session.run({"x": x})["y"], x.transpose(order))


def test_what_stands_around_joins_and_the_sanitizer_finds_nothing() -> None:
    engine = tilewright.compile(transposed((100, 72), (1, 0), np.float32, around=True))
    assert list(engine.kernels) == ["loop_0"] and "tile.turn" in engine.ir("pipeline")
    rng = np.random.default_rng(1)
    inputs = {"x": rng.standard_normal((100, 72), np.float32), "z": rng.standard_normal((72, 100), np.float32)}
    outputs, report = sanitize(engine, [inputs])
    assert not report.findings, report
    np.testing.assert_array_equal(outputs[0]["y"], np.maximum(-inputs["x"].T + inputs["z"], 0))


def test_results_may_be_narrower_than_what_is_turned() -> None:
    """An access to the result has 16 bytes, one to the square 64: fewer threads than elements in pieces of 4."""
    model = transposed((64, 96), (1, 0), np.float32, around=False)
    model.graph.node[0].output[0] = "turned"
    model.graph.node.append(helper.make_node("Cast", ["turned"], ["y"], "narrow", to=onnx.TensorProto.INT8))
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT8
    engine = tilewright.compile(model)
    assert list(engine.kernels) == ["loop_0"] and "tile.turn" in engine.ir("pipeline")
    x = np.random.default_rng(3).integers(-100, 100, (64, 96)).astype(np.float32)
    outputs, report = sanitize(engine, [{"x": x}])
    assert not report.findings, report
    np.testing.assert_array_equal(outputs[0]["y"], x.T.astype(np.int8))


def test_short_lines_stay_as_they_are() -> None:
    """Three channels would leave most of a square empty."""
    engine = tilewright.compile(transposed((2, 3, 32, 32), (0, 2, 3, 1), np.float32, around=False))
    assert "tile.turn" not in engine.ir("pipeline")


def test_any_size() -> None:
    """Sizes that only the run knows: single elements an access, and lines that end inside a square."""
    engine = tilewright.compile(transposed(("m", "n"), (1, 0), np.float32, around=False))
    assert "tile.turn" in engine.ir("pipeline")
    for m, n in ((33, 70), (1, 5), (0, 4)):
        x = np.random.default_rng(2).standard_normal((m, n), np.float32)
        with tilewright.Session(engine, device=EmulatorDevice(), checked=True) as session:
            np.testing.assert_array_equal(session.run({"x": x})["y"], x.T)
