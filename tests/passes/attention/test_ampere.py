"""Attention on mma.sync: pipelined copies, queries and weights in registers; against float64, with the sanitizer on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import tilewright
from tilewright.runtime.sanitizing import parse_order, sanitize


@dataclass(frozen=True)
class Case:
    """One attention: `marks` are what its tile program has to contain."""

    heads: int
    queries: int
    keys: int
    size: int
    causal: bool
    precision: str
    marks: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.queries}x{self.keys}x{self.size}-{self.precision}"

    def model(self) -> Any:
        """The ONNX operator, in f32."""
        shapes = dict.fromkeys("kv", (1, self.heads, self.keys, self.size))
        shapes["q"] = (1, self.heads, self.queries, self.size)
        graph = helper.make_graph(
            [helper.make_node("Attention", ["q", "k", "v"], ["y"], "attention", is_causal=int(self.causal))],
            "attention",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in "qkv"],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, shapes["q"])],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


CASES = [
    Case(1, 100, 90, 64, True, "f16", ("tile.fragments", "tile.pack", "[128, 64]")),  # 32 queries a warp
    Case(1, 66, 40, 128, False, "bf16", ("tile.pack", "[128, 32]")),  # queries stay in shared memory, tiles of 32 keys
    Case(1, 40, 130, 80, True, "f16", ("tile.fragments", "tile.pack", "[64, 64]")),
    Case(1, 5, 70, 256, False, "f16", ("tile.pack", "[16, 32]")),
    Case(1, 13, 40, 112, True, "f16", ("tile.pack", "[16, 64]")),
    Case(1, 3, 40, 96, False, "bf16", ("tile.pack", "[16, 64]")),
    Case(1, 40, 50, 32, True, "tf32", ("tile.put", "m16n8k8.tf32")),  # weights by way of shared memory
    Case(1, 20, 50, 20, False, "strict", ("tile.put", "fma")),
]
# Operands and weights of 11 (f16, tf32) or 8 bits, in sums of weights that add up to 1 of values near 1.
TOLERANCES = {"f16": 3e-3, "tf32": 3e-3, "bf16": 2e-2, "strict": 3e-6}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_against_float64(case: Case) -> None:
    engine = tilewright.compile(case.model(), target="sm_80", precision=case.precision)
    assert engine.kernels["attention_0"].spills == 0
    assert all(mark in engine.ir("pipeline") for mark in case.marks)
    rng = np.random.default_rng(case.queries)
    lines = {"q": case.queries, "k": case.keys, "v": case.keys}
    arrays = {
        name: rng.standard_normal((1, case.heads, count, case.size), np.float32) for name, count in lines.items()
    }
    outputs, report = sanitize(engine, [arrays], parse_order("random:1"))
    assert not report.findings, report
    q, k, v = (arrays[name].astype(np.float64) for name in "qkv")
    scores = q @ k.swapaxes(2, 3) / np.sqrt(case.size)
    if case.causal:
        scores = np.where(np.tri(case.queries, case.keys, dtype=bool), scores, -np.inf)
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    expected = powers / powers.sum(-1, keepdims=True) @ v
    np.testing.assert_allclose(outputs[0]["y"], expected, atol=TOLERANCES[case.precision])
