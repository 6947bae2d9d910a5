"""Few long lines: blocks of a cluster share them, under the sanitizer and against onnxruntime; nothing of it where the
target has no clusters.
"""

from __future__ import annotations

import re

import numpy as np
import onnxruntime
import pytest
from onnx import parser

import tilewright
from tilewright.passes.target import find_target
from tilewright.passes.tile.row_schedule import RowProblem, row_schedules
from tilewright.runtime.emulator.observer import Order
from tilewright.runtime.sanitizing import sanitize
from tilewright.runtime.symbolic import expression

GROUPS = "g = GroupNormalization <num_groups = 2> (x, s, t)  h = Sigmoid(g)  y = Mul(g, h)"
MEANS = "m = ReduceMean <keepdims = 1, axes = [1]> (x)  y = Sub(x, m)"
CASES = {
    # name: (opset, input, nodes, outputs, blocks that share a line, whether it stays in registers)
    "group norm, channels first": (21, "x[1, 8, 50, 40]", GROUPS, ["y"], 8, True),
    "softmax, odd length": (21, "x[3, 20011]", "y = Softmax <axis = 1> (x)", ["y"], 8, True),
    "softmax, in pieces": (21, "x[1, 70000]", "y = Softmax <axis = 1> (x)", ["y"], 8, False),
    "columns": (13, "x[1, 3000, 12]", MEANS, ["y", "m"], 8, True),
    "mean and rest, dynamic": (13, "x[n, s]", MEANS, ["y", "m"], 8, False),
}
HINTS = {"n": 2, "s": 9001}


def _weights(nodes: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    return {name: rng.standard_normal(8).astype(np.float32) for name in ("s", "t") if f", {name}" in nodes}


@pytest.mark.parametrize("name", CASES)
def test_blocks_share_lines(name: str) -> None:
    opset, given, nodes, outputs, split, whole = CASES[name]
    weights = _weights(nodes)
    inputs = ", ".join([f"float{given[1:]} x", *(f"float[8] {weight}" for weight in weights)])
    results = ", ".join(f"float[?] {output}" for output in outputs)
    text = f'<ir_version: 8, opset_import: ["": {opset}]> lines ({inputs}) => ({results}) {{ {nodes} }}'
    model = parser.parse_model(text)
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    engine = tilewright.compile(model, target="sm_90a", hints=HINTS if "n" in given else {})
    programs = engine.ir("pipeline")
    assert re.findall(r"tile.cluster = (\d+)", programs) == [str(split)]
    assert ("scf.for" not in programs) == whole
    shape = [HINTS.get(size) or int(size) for size in re.findall(r"\w+", given)[1:]]
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    (found,), report = sanitize(engine, [{"x": x, **weights}], Order("random", 7))
    assert not report.findings, str(report)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for output, wanted in zip(outputs, session.run(outputs, {"x": x, **weights}), strict=True):
        # Sums of up to 70,000 f32 terms in another order, and exponentials within 2 ulp.
        np.testing.assert_allclose(found[output], wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("target,expected", [("sm_90a", 2), ("sm_80", 1)])
def test_a_group_norm_of_64_groups_fills_the_card(target: str, expected: int) -> None:
    """40960 halves each: two blocks for a group are nearly all multiprocessors, and a launch is not worth more."""
    problem = RowProblem(expression(64), expression(40960), expression(40960), False, 2)
    assert row_schedules(problem, find_target(target))[0].split >= expected


def test_many_lines_are_not_shared() -> None:
    problem = RowProblem(expression(4096), expression(4096), expression(4096), False, 2)
    assert row_schedules(problem, find_target("sm_90a"))[0].split == 1
