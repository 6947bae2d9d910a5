"""Gates: two products of one tensor and what joins them are one kernel, whatever program computes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import tilewright
from tilewright.runtime.emulator.device import EmulatorDevice


@dataclass(frozen=True)
class Case:
    """x (rows x depth) times two weights of `columns`; `layout` is how a thread comes to hold both of a pair."""

    rows: int
    depth: int
    columns: int
    target: str
    precision: str
    layout: str
    is_split: bool = False  # one product in halves, with a bias

    @property
    def element(self) -> type[Any]:
        return np.float16 if self.precision == "f16" else np.float32

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}x{self.depth}-{self.target}-{self.precision}"


CASES = [
    Case(258, 32, 96, "sm_80", "strict", "half<1, fma", True),
    Case(64, 128, 256, "sm_80", "tf32", "half<1, blocked"),  # k shared by warps
    Case(200, 64, 72, "sm_80", "f16", "half<1, mma", True),
    Case(6, 64, 9, "sm_80", "f16", "half<1, mma"),
    Case(2, 256, 512, "sm_80", "strict", "half<1, reduced"),  # few rows, weights across k
    Case(1, 256, 512, "sm_80", "f16", "half<0, reduced", True),  # and along k
    Case(200, 128, 96, "sm_90a", "f16", "half<1, blocked", True),
    Case(16, 128, 128, "sm_90a", "f16", "half<1, blocked"),  # few rows are the columns of wgmma, and turn back
    Case(8, 1024, 64, "sm_90a", "f16", "half<1, blocked", True),  # k shared by a cluster
]


def gate_model(case: Case, weights: dict[str, Any]) -> Any:
    """silu(a) * b of two products, or of the halves of one with a bias."""
    kind = TensorProto.FLOAT16 if case.element is np.float16 else TensorProto.FLOAT
    make = helper.make_node
    if case.is_split:
        nodes = [
            make("MatMul", ["x", "both"], ["product"], "product"),
            make("Add", ["product", "bias"], ["sum"], "bias"),
            make("Split", ["sum"], ["a", "b"], "split", axis=-1, num_outputs=2),
        ]
        arrays = {"both": np.concatenate([weights["a"], weights["b"]], 1), "bias": weights["bias"]}
    else:
        nodes = [make("MatMul", ["x", f"w{name}"], [name], name) for name in "ab"]
        arrays = {f"w{name}": weights[name] for name in "ab"}
    nodes += [
        make("Sigmoid", ["a"], ["gate"], "sigmoid"),
        make("Mul", ["a", "gate"], ["silu"], "silu"),
        make("Mul", ["silu", "b"], ["y"], "gated"),
    ]
    graph = helper.make_graph(
        nodes,
        "gate",
        [helper.make_tensor_value_info("x", kind, (case.rows, case.depth))],
        [helper.make_tensor_value_info("y", kind, (case.rows, case.columns))],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_gate_is_one_kernel(case: Case) -> None:
    rng = np.random.default_rng(case.rows)
    x = rng.standard_normal((case.rows, case.depth)).astype(case.element)
    weights = {
        name: (rng.standard_normal((case.depth, case.columns)) / np.sqrt(case.depth)).astype(case.element)
        for name in "ab"
    }
    weights["bias"] = rng.standard_normal(2 * case.columns).astype(case.element)
    model = gate_model(case, weights)
    engine = tilewright.compile(model, target=case.target, precision=case.precision)
    assert list(engine.kernels) == ["dot_0"]
    assert case.layout in engine.ir("pipeline")
    with tilewright.Session(engine, device=EmulatorDevice(), checked=True) as session:
        found = np.asarray(session.run({"x": x})["y"]).astype(np.float64)
    a, b = (x.astype(np.float64) @ weights[name].astype(np.float64) for name in "ab")
    if case.is_split:
        a, b = (own + part for own, part in zip((a, b), np.split(weights["bias"].astype(np.float64), 2), strict=True))
    # Operands have 11 bits in f16 and tf32; both factors are near 1 and rounded again, and the gate's slope is near 1.
    tolerance = 5e-6 if case.precision == "strict" else 6e-3
    np.testing.assert_allclose(found, a / (1 + np.exp(-a)) * b, rtol=tolerance, atol=tolerance)
