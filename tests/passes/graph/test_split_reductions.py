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


def test_group_normalisation_of_few_groups_on_the_emulator() -> None:
    """Three kernels; the mean is a thousand deviations, which sums of squares would not survive."""
    group = helper.make_node("GroupNormalization", ["x", "scale", "bias"], ["y"], num_groups=2, epsilon=1e-5)
    shape = (1, 8, 128, 256)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, (8,)) for name in ("scale", "bias")]
    graph = helper.make_graph([group], "group", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    engine = tilewright.compile(model, precision="strict", target="sm_90a")
    assert len(engine.kernels) == 3
    rng = np.random.default_rng(2)
    x = (1000 + rng.standard_normal(shape)).astype(np.float32)
    scale, bias = rng.standard_normal((2, 8)).astype(np.float32)
    with tilewright.Session(engine, device=EmulatorDevice(), checked=True) as session:
        found = session.run({"x": x, "scale": scale, "bias": bias})["y"]
    grouped = x.astype(np.float64).reshape(1, 2, -1)
    centred = grouped - grouped.mean(-1, keepdims=True)
    normal = (centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)).reshape(shape)
    expected = normal * scale[:, None, None] + bias[:, None, None]
    # The mean in f32 is good to 2^-24 of a thousand, x too: some 1e-4, times a scale of up to 3.
    np.testing.assert_allclose(found, expected, atol=5e-4)
