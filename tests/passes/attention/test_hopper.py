"""Attention on Hopper: roles, boxes and wgmma, against numpy in float64 on the emulator, and by what ptxas makes of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper

import tilewright
from tilewright.compiler.backend.assemble import assemble, disassemble
from tilewright.passes.target import find_target
from tilewright.runtime.emulator.device import EmulatorDevice
from tilewright.runtime.sanitizing import parse_order, sanitize

Array = np.ndarray[Any, Any]
TARGET = "sm_90a"
TYPES = {
    "f16": (TensorProto.FLOAT16, np.float16, 2.0**-11),
    "bf16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16, 2.0**-8),
}


@dataclass(frozen=True)
class Case:
    """Heads of queries and of keys, tokens of both, sizes of a head of keys and of values."""

    heads: tuple[int, int] = (2, 2)
    tokens: tuple[int, int] = (136, 200)
    sizes: tuple[int, int] = (64, 64)
    batch: int = 1
    element: str = "f16"
    joined: bool = False  # heads in the last dimension
    dynamic: str = ""  # letters of the sizes that are known at run time: n entries, s queries, t keys
    bias: bool = False
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the inputs."""
        (queries, keys), (size, width) = self.tokens, self.sizes
        parts = {
            "q": (self.heads[0], queries, size),
            "k": (self.heads[1], keys, size),
            "v": (self.heads[1], keys, width),
        }
        shapes: dict[str, tuple[int, ...]] = {
            name: (self.batch, tokens, heads * own) if self.joined else (self.batch, heads, tokens, own)
            for name, (heads, tokens, own) in parts.items()
        }
        return shapes | ({"bias": (self.heads[0], queries, keys)} if self.bias else {})

    def model(self) -> Any:
        """One Attention node."""
        kind, attributes = TYPES[self.element][0], dict(self.attributes)
        if self.joined:
            attributes |= {"q_num_heads": self.heads[0], "kv_num_heads": self.heads[1]}
        names = {name: list[Any](shape) for name, shape in self.shapes.items()}
        for name, letters in (("q", "n-s"), ("k", "n-t"), ("v", "n-t")):
            for axis, letter in enumerate(letters):
                if letter in self.dynamic:
                    names[name][axis] = letter
        node = helper.make_node("Attention", list(names), ["y"], "attention", **attributes)
        inputs = [helper.make_tensor_value_info(name, kind, shape) for name, shape in names.items()]
        graph = helper.make_graph([node], "attention", inputs, [helper.make_tensor_value_info("y", kind, None)])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=10)

    def inputs(self) -> dict[str, Array]:
        """Random ones."""
        rng = np.random.default_rng(5)
        return {name: rng.standard_normal(shape).astype(TYPES[self.element][1]) for name, shape in self.shapes.items()}

    def expected(self, inputs: dict[str, Array]) -> Array:
        """softmax(q k' / sqrt(size)) v in float64."""
        q, k, v = (self._split(inputs[name].astype(np.float64), name) for name in "qkv")
        k, v = (np.repeat(x, self.heads[0] // self.heads[1], axis=1) for x in (k, v))
        scores = q @ k.swapaxes(2, 3) * self.attributes.get("scale", self.sizes[0] ** -0.5)
        cap = self.attributes.get("softcap", 0.0)
        scores = np.tanh(scores / cap) * cap if cap else scores
        scores = scores + (inputs["bias"].astype(np.float64) if self.bias else 0.0)
        distance = np.arange(self.tokens[1])[None, :] - np.arange(self.tokens[0])[:, None]
        window = self.attributes.get("left_window_size", -1)
        hidden = (distance > 0) & bool(self.attributes.get("is_causal")) | (distance < -window) & (window >= 0)
        scores = np.where(hidden, -np.inf, scores)
        top = scores.max(-1, keepdims=True)
        powers = np.exp(scores - np.where(np.isfinite(top), top, 0))
        total = powers.sum(-1, keepdims=True)
        result: Array = powers / np.where(total == 0, 1, total) @ v
        return result.swapaxes(1, 2).reshape(self.batch, self.tokens[0], -1) if self.joined else result

    def _split(self, array: Array, name: str) -> Array:
        heads = self.heads[0] if name == "q" else self.heads[1]
        return array.reshape(*array.shape[:2], heads, -1).swapaxes(1, 2) if self.joined else array


CASES = {
    "three groups, edges in both directions": Case(tokens=(200, 300), dynamic="n"),
    "three blocks of a group each": Case(tokens=(150, 130), heads=(1, 1)),
    "causal, keys past the diagonal": Case(tokens=(260, 400), attributes={"is_causal": 1}, sizes=(128, 128), dynamic="n"),
    "fewer keys than queries": Case(tokens=(320, 73), attributes={"is_causal": 1}, dynamic="n"),
    "a window": Case(tokens=(400, 400), attributes={"is_causal": 1, "left_window_size": 50}, heads=(1, 1), dynamic="n"),
    "a window that no key is in": Case(tokens=(400, 100), attributes={"left_window_size": 20}, heads=(1, 1)),
    "four heads of queries for one of keys": Case(heads=(4, 1), batch=2, attributes={"is_causal": 1}),
    "heads in the last dimension": Case(heads=(4, 2), joined=True, sizes=(128, 64), element="bf16"),
    "sizes known at run time": Case(heads=(2, 1), batch=2, dynamic="nst", tokens=(137, 201), bias=True, sizes=(32, 32)),
    "a bias, and scores below a cap": Case(bias=True, attributes={"softcap": 3.0}, sizes=(96, 40)),
    "one query, smaller tiles that more blocks share": Case(tokens=(1, 513)),
    "one query, keys shared by blocks": Case(tokens=(1, 1100), heads=(4, 2), sizes=(128, 128)),
    "few queries, a cache of any length": Case(tokens=(3, 401), heads=(2, 2), dynamic="t", sizes=(64, 96)),
    "seven queries, heads of 80 and values of 112": Case(tokens=(7, 150), heads=(1, 1), sizes=(80, 112)),
    "heads of 256": Case(heads=(1, 1), sizes=(256, 256), attributes={"is_causal": 1}),
    "tiles of 176 keys": Case(heads=(2, 2), tokens=(100, 350), sizes=(128, 128), dynamic="n"),
    "tiles of 80 keys": Case(heads=(2, 2), tokens=(100, 150), sizes=(256, 256), element="bf16", dynamic="n"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_against_float64(case: Case) -> None:
    engine = tilewright.compile(case.model(), target=TARGET, precision=case.element)
    assert list(engine.kernels) == ["attention_0"]
    assert "wgmma" in engine.ptx("attention_0") and "mma.sync" not in engine.ptx("attention_0")
    inputs = case.inputs()
    with tilewright.Session(engine, device=EmulatorDevice()) as session:
        result = np.asarray(session.run(inputs)["y"]).astype(np.float64)
    # Weights are rounded to the element's precision before the second product, a mean of values up to 4; so is the result.
    np.testing.assert_allclose(result, case.expected(inputs), rtol=0, atol=4 * TYPES[case.element][2])


SANITIZED = {
    "groups that take turns": Case(
        tokens=(136, 272), heads=(1, 1), attributes={"is_causal": 1}, sizes=(128, 128), dynamic="n"
    ),
    "keys shared by blocks": Case(tokens=(2, 600), heads=(1, 1), sizes=(64, 64)),
}


@pytest.mark.parametrize("case", SANITIZED.values(), ids=SANITIZED)
def test_the_sanitizer_finds_nothing(case: Case) -> None:
    engine = tilewright.compile(case.model(), target=TARGET, precision="f16")
    _, report = sanitize(engine, [case.inputs()], parse_order("random:2"))
    assert not report.findings, str(report)


@pytest.mark.parametrize(
    ("size", "causal", "groups", "keys"),
    [(64, 1, 3, 128), (128, 1, 2, 128), (128, 0, 2, 176), (256, 1, 2, 64), (256, 0, 2, 80)],
)
def test_the_loop_is_what_hopper_wants(size: int, causal: int, groups: int, keys: int) -> None:
    """Over 16384 tokens: all products by wgmma, no spills, nothing serialised, 16 bytes at a time to memory."""
    case = Case(tokens=(16384, 16384), heads=(16, 16), sizes=(size, size), attributes={"is_causal": causal})
    engine = tilewright.compile(case.model(), target=TARGET, precision="f16")
    kernel = engine.kernels["attention_0"]
    assert kernel.block[0] == (groups + 1) * 128
    assembly = assemble(engine.ptx("attention_0"), find_target(TARGET), keep_cubin=True)
    assert (assembly.spills, assembly.warnings) == (0, ())
    sass = disassemble(assembly.cubin)
    # The first tile, the loop over the diagonal of a causal mask, the loop over the rest; the last values.
    assert len(re.findall(rf"HGMMA\.64x{keys}x16\.F32", sass)) >= (2 + causal) * size // 16
    assert not re.findall(r"\bHMMA", sass)
    assert all(".128" in access for access in re.findall(r"\b(?:STG|LDG)\.\S*", sass))
