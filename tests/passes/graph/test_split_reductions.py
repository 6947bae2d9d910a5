"""Long reductions in two steps: the same answers, and fewer idle multiprocessors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from mlir import ir
from onnx import TensorProto, helper
from tests.passes.graph.programs import build, check_passes, count

import tilewright
from tilewright.dialects import graph_builder as g
from tilewright.passes.graph.split_reductions import split_reductions
from tilewright.runtime.emulator.device import EmulatorDevice


@pytest.mark.parametrize(
    ("shape", "axes", "kind", "expected"),
    [
        ((1 << 15, 64), [0], "sum", 2),
        ((1024, 3, 1024), [0, 2], "max", 2),
        ((3, 7, 100003), [1, 2], "sum", 1),  # no dimension that divides into parts of eight at least
        ((512, 4096), [1], "sum", 1),  # a block a line: lines enough
    ],
)
def test_answers_stay(shape: tuple[int, ...], axes: list[int], kind: str, expected: int) -> None:
    def body(x: ir.Value, weight: Callable[[str], ir.Value]) -> list[ir.Value]:
        return [g.reduce(g.map([x], lambda e: e * e), kind, axes)]

    unit = build({"x": shape}, body)
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    check_passes(unit, {"x": x}, [split_reductions])
    assert count(unit, "graph.reduce") == expected


def test_a_sum_of_all_elements_on_the_emulator() -> None:
    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["x"], ["y"], "sum")],
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, (256, 4096))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, (1, 1))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    engine = tilewright.compile(model, precision="f16")
    assert len(engine.kernels) == 2
    x = np.random.default_rng(1).standard_normal((256, 4096)).astype(np.float16)
    with tilewright.Session(engine, device=EmulatorDevice(), checked=True) as session:
        found = np.asarray(session.run({"x": x})["y"], np.float64)
    # A sum in f32 of a million values, each below 5; the result, some hundreds or thousands, has 11 bits.
    np.testing.assert_allclose(found, x.astype(np.float64).sum(keepdims=True), rtol=1e-3, atol=0.1)
