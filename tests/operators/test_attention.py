"""The standard domain's Attention: one kernel for every mask that positions decide, and its answers in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import tilewright
from tilewright.runtime.emulator.device import EmulatorDevice

# f32 products and sums of 16 to 48 terms near 1, and libdevice's exp and tanh, each within a few units of 2^-24.
TOLERANCE = 3e-6
KINDS = {"f": TensorProto.FLOAT, "b": TensorProto.BOOL, "i": TensorProto.INT64}

RNG = np.random.default_rng(7)


def randn(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def reference(q: Any, k: Any, v: Any, seen: Any = None, bias: Any = 0.0, cap: float = 0.0) -> Any:
    """softmax(q k' / sqrt(size)) v in float64; `seen` tells which keys a query sees, broadcast."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    k, v = (np.repeat(x, q.shape[1] // x.shape[1], axis=1) for x in (k, v))
    scores = q @ k.swapaxes(2, 3) / np.sqrt(q.shape[-1])
    scores = np.tanh(scores / cap) * cap if cap else scores
    scores = np.where(True if seen is None else seen, scores + bias, -np.inf)
    top = scores.max(-1, keepdims=True)
    powers = np.exp(scores - np.where(np.isfinite(top), top, 0))
    total = powers.sum(-1, keepdims=True)
    return powers / np.where(total == 0, 1, total) @ v


def model(arrays: dict[str, Any], rank: int = 4, outputs: int = 1, opset: int = 24, **attributes: Any) -> Any:
    """One node; inputs are named as in the specification, outputs are Y and the caches."""
    names = ["Q", "K", "V", "attn_mask", "past_key", "past_value", "nonpad_kv_seqlen"]
    last = max(names.index(name) for name in arrays)
    given = [name if name in arrays else "" for name in names[: last + 1]]
    results = ["Y", "present_key", "present_value"][:outputs]
    graph = helper.make_graph(
        [helper.make_node("Attention", given, results, "attention", **attributes)],
        "attention",
        [helper.make_tensor_value_info(name, KINDS[array.dtype.kind], array.shape) for name, array in arrays.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank) for name in results],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def run(arrays: dict[str, Any], **options: Any) -> list[Any]:
    """The outputs on the emulator; what computes Y is one kernel."""
    engine = tilewright.compile(model(arrays, **options))
    assert [name for name in engine.kernels if name.startswith(("attention", "dot", "row"))] == ["attention_0"]
    with tilewright.Session(engine, device=EmulatorDevice()) as session:
        outputs = session.run(arrays)
    return [np.asarray(outputs[name]) for name in outputs]


QUERIES, KEYS = np.arange(9)[:, None], np.arange(13)[None, :]
MASK = np.random.default_rng(3).random((2, 1, 9, 13)) < 0.6
MASK[1, 0, 4] = False  # a query that sees nothing: its result is zero
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}, {}),
    "causal": ({}, {"is_causal": 1}, {"seen": KEYS <= QUERIES}),
    "softcap": ({}, {"softcap": 2.0}, {"cap": 2.0}),
    "mask": ({"attn_mask": MASK}, {}, {"seen": MASK}),
    "bias": ({"attn_mask": randn(9, 13)}, {"is_causal": 1}, {"seen": KEYS <= QUERIES}),
    "window": (
        {}, {"left_window_size": 3, "right_window_size": 1, "opset": 25}, {"seen": abs(KEYS - QUERIES + 1) <= 2}
    ),
    "lengths": (
        {"nonpad_kv_seqlen": np.array([5, 12])},
        {"is_causal": 1},
        {"seen": np.stack([QUERIES + length - 9 >= KEYS for length in (5, 12)])[:, None]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_one_kernel(name: str) -> None:
    extra, attributes, meaning = CASES[name]
    q, k, v = randn(2, 4, 9, 16), randn(2, 2, 13, 16), randn(2, 2, 13, 24)
    (result,) = run({"Q": q, "K": k, "V": v, **extra}, **attributes)
    bias = extra["attn_mask"] if name == "bias" else 0.0
    np.testing.assert_allclose(result, reference(q, k, v, bias=bias, **meaning), atol=TOLERANCE)


def test_heads_in_the_last_dimension_and_a_cache() -> None:
    q, k, v = randn(1, 3, 4 * 8), randn(1, 3, 2 * 8), randn(1, 3, 2 * 8)
    past_key, past_value = randn(1, 2, 10, 8), randn(1, 2, 10, 8)
    arrays = {"Q": q, "K": k, "V": v, "past_key": past_key, "past_value": past_value}
    result, key, value = run(arrays, rank=3, outputs=3, is_causal=1, q_num_heads=4, kv_num_heads=2)

    def split(x: Any, heads: int) -> Any:
        return x.reshape(1, 3, heads, 8).swapaxes(1, 2)

    keys, values = (np.concatenate(pair, 2) for pair in ((past_key, split(k, 2)), (past_value, split(v, 2))))
    np.testing.assert_array_equal(key, keys)
    np.testing.assert_array_equal(value, values)
    seen = np.arange(13) <= np.arange(3)[:, None] + 10
    wanted = reference(split(q, 4), keys, values, seen).swapaxes(1, 2).reshape(1, 3, 32)
    np.testing.assert_allclose(result, wanted, atol=TOLERANCE)


def test_causal_masks_are_no_constants() -> None:
    """16384 tokens: a mask of them would have a gigabyte."""
    shape = (1, 1, 16384, 64)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Attention", ["q", "k", "v"], ["y"], "attention", is_causal=1)],
        "attention",
        [value(name, TensorProto.FLOAT16, shape) for name in "qkv"],
        [value("y", TensorProto.FLOAT16, shape)],
    )
    engine = tilewright.compile(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10), precision="f16"
    )
    assert list(engine.kernels) == ["attention_0"]
    assert "weight" not in engine.ir("fuse")
