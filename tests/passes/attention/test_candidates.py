"""Schedules that a tuning may choose: every one of them gives the same answers, spills included or not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import tilewright
from tilewright.compiler.api import compile_fully
from tilewright.compiler.compilation import Options
from tilewright.runtime.emulator.device import EmulatorDevice
from tilewright.runtime.tuning import Tuning


def model(operator: str, shapes: dict[str, tuple[int, ...]], result: tuple[int, ...], **attributes: Any) -> Any:
    """One operator in f16."""
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, shape) for name, shape in shapes.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT16, result)
    node = helper.make_node(operator, list(shapes), ["y"], operator, **attributes)
    graph = helper.make_graph([node], "candidates", inputs, [output])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


QUERIES, KEYS = (1, 1, 70, 16), (1, 1, 70, 16)
CASES = {
    "attention": ("sm_80", model("Attention", {"q": QUERIES, "k": KEYS, "v": KEYS}, QUERIES)),
    "attention_wgmma": ("sm_90a", model("Attention", {"q": QUERIES, "k": KEYS, "v": KEYS}, QUERIES, is_causal=1)),
    "row": ("sm_90a", model("Softmax", {"x": (3, 1000)}, (3, 1000))),
    "loop": ("sm_80", model("Sigmoid", {"x": (3, 1000)}, (3, 1000))),
    "row across": ("sm_90a", model("Softmax", {"x": (50, 32)}, (50, 32), axis=0)),
}


@pytest.mark.parametrize("name", CASES)
def test_every_candidate_answers_alike(name: str) -> None:
    target, source = CASES[name]
    rng = np.random.default_rng(0)
    inputs = {
        own.name: rng.standard_normal([size.dim_value for size in own.type.tensor_type.shape.dim]).astype(np.float16)
        for own in source.graph.input
    }
    answers, variant, count, seen = [], 0, 1, set()
    while variant < count:
        options = Options(target=target, precision="f16", tuning=Tuning(target, variant=variant))
        compilation = compile_fully(source, options)
        (decision,) = compilation.unit.tuning.decisions
        assert decision.problem.startswith(name.split()[0] + ":")
        count = decision.candidates
        seen.add(decision.schedule)
        assert compilation.engine is not None
        with tilewright.Session(compilation.engine, device=EmulatorDevice(), checked=True) as session:
            answers.append(np.asarray(session.run(inputs)["y"], np.float64))
        variant += 1 + count // 3  # some of them
    assert len(seen) == len(answers) > 1
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], atol=2e-3)  # results near 1 of 11 bits, and weights so
