"""Decoding with shared keys: the heads of a group are rows of one problem, so that keys are read once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import tilewright
from tilewright.runtime.sanitizing import sanitize

BATCH, HEADS, SIZE = 2, 8, 64


def decode(shared: int, keys: int, queries: int = 1) -> Any:
    """Attention of `HEADS` heads with a mask by batch; `shared` heads of keys."""
    kinds = {"q": TensorProto.FLOAT16, "k": TensorProto.FLOAT16, "v": TensorProto.FLOAT16, "mask": TensorProto.BOOL}
    cached = (BATCH, shared, keys, SIZE)
    shapes = {"q": (BATCH, HEADS, queries, SIZE), "k": cached, "v": cached, "mask": (BATCH, 1, queries, keys)}
    graph = helper.make_graph(
        [helper.make_node("Attention", list(shapes), ["y"], "attention")],
        "decode",
        [helper.make_tensor_value_info(name, kinds[name], shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, shapes["q"])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("shared", [2, 1])
def test_a_block_for_each_head_of_keys(target: str, shared: int) -> None:
    engine = tilewright.compile(decode(shared, 70), target=target, precision="f16")
    launch = engine.program.launches[-1]
    assert launch.kernel == "attention_0" and launch.grid[0].evaluate({}) == BATCH * shared
    rng = np.random.default_rng(shared)
    q = rng.standard_normal((BATCH, HEADS, 1, SIZE)).astype(np.float16)
    k, v = (rng.standard_normal((BATCH, shared, 70, SIZE)).astype(np.float16) for _ in range(2))
    mask = rng.random((BATCH, 1, 1, 70)) < 0.7
    outputs, report = sanitize(engine, [{"q": q, "k": k, "v": v, "mask": mask}])
    assert not report.findings, report
    own, keys, values = (array.astype(np.float64) for array in (q, k, v))
    keys, values = (np.repeat(array, HEADS // shared, axis=1) for array in (keys, values))
    scores = np.where(mask, own @ keys.swapaxes(2, 3) / np.sqrt(SIZE), -np.inf)
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    # weights and the result are rounded to 11 bits; values near 1
    np.testing.assert_allclose(outputs[0]["y"], powers / powers.sum(-1, keepdims=True) @ values, atol=2e-3)


def test_heads_of_their_own_and_several_queries_stay_apart() -> None:
    for model, blocks in ((decode(HEADS, 70), BATCH * HEADS), (decode(2, 70, queries=3), BATCH * HEADS)):
        engine = tilewright.compile(model, target="sm_80", precision="f16")
        assert engine.program.launches[-1].grid[0].evaluate({}) == blocks
