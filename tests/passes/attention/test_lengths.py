"""Numbers of keys that entries have at run time: tiles of keys that nobody sees are not even read."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from onnx import helper

import tilewright

Array = np.ndarray[Any, Any]
# f32: sums of 16 terms near 1 and exp of libdevice. f16: operands, weights and results of 11 bits, values up to 4.
TOLERANCES = {("sm_80", "float32"): 3e-6, ("sm_90a", "float16"): 4e-3}  # in f16 by wgmma
KEYS, TILE = 400, 128  # the largest tile of keys of these targets


def expected(q: Array, k: Array, v: Array, seen: Array) -> Array:
    """softmax(q k' / sqrt(size)) v in float64; zeros for queries that see no key."""
    q, k, v = (own.astype(np.float64) for own in (q, k, np.nan_to_num(v)))
    scores = np.where(seen, q @ k.swapaxes(2, 3) / np.sqrt(q.shape[-1]), -np.inf)
    top = scores.max(-1, keepdims=True)
    powers = np.exp(scores - np.where(np.isfinite(top), top, 0))
    total = powers.sum(-1, keepdims=True)
    result: Array = powers / np.where(total == 0, 1, total) @ v
    return result


def model(domain: str, operator: str, arrays: dict[str, Array], outputs: int, **attributes: Any) -> Any:
    """One node over named inputs."""
    given = [helper.make_tensor_value_info(name, _kind(array), array.shape) for name, array in arrays.items()]
    kind = _kind(next(iter(arrays.values())))
    made = [helper.make_tensor_value_info(f"y{number}", kind, None) for number in range(outputs)]
    names = [value.name for value in made]
    inputs = ["q", "k", "v", "", "", "", "lengths"] if operator == "Attention" else list(arrays)
    node = helper.make_node(operator, inputs, names, operator, domain=domain, **attributes)
    graph = helper.make_graph([node], "lengths", given, made)
    imports = [helper.make_opsetid("", 25), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def _kind(array: Array) -> int:
    return int(helper.np_dtype_to_tensor_dtype(array.dtype))


@pytest.mark.parametrize(("target", "kind"), TOLERANCES)
def test_entries_with_few_keys(target: str, kind: str) -> None:
    rng = np.random.default_rng(0)
    shapes = {"q": (5, 2, 9, 16), "k": (5, 1, KEYS, 16), "v": (5, 1, KEYS, 16)}
    arrays = {name: rng.standard_normal(shape).astype(kind) for name, shape in shapes.items()}
    lengths = arrays["lengths"] = np.array([KEYS, 20, 0, -3, 1 << 40])  # of which the last two say none, and all
    engine = tilewright.compile(model("", "Attention", arrays, 1, is_causal=1), target=target)
    assert ("wgmma" in engine.ptx("attention_0")) == (kind == "float16")
    queries, keys = np.arange(9)[:, None], np.arange(KEYS)[None, :]
    # A query stands before the end of its entry's keys; where keys are left out, NaN that is not read says so.
    seen = np.stack([(keys <= queries + length - 9) & (keys < length) for length in lengths])[:, None]
    arrays["v"][1, :, TILE:] = np.nan
    with engine.session("emulator", checked=True) as session:
        result = session.run(arrays)["y0"]
    wanted = expected(arrays["q"], *(np.repeat(arrays[name], 2, 1) for name in "kv"), seen)
    np.testing.assert_allclose(result, wanted, atol=TOLERANCES[target, kind])


@pytest.mark.parametrize(("target", "kind"), TOLERANCES)
def test_caches_with_a_window(target: str, kind: str) -> None:
    rng = np.random.default_rng(1)
    heads, groups, size, steps, window = 4, 2, 16, 1, 10
    shapes = {
        "query": (2, steps, heads * size), "key": (2, steps, groups * size), "value": (2, steps, groups * size),
        "past_key": (2, groups, KEYS, size), "past_value": (2, groups, KEYS, size),
    }  # fmt: skip
    arrays = {name: rng.standard_normal(shape).astype(kind) for name, shape in shapes.items()}
    last = np.array([30, KEYS - 1], np.int32)  # the new key's place
    arrays |= {"seqlens_k": last, "total": np.array(KEYS, np.int32)}
    source = model(
        "com.microsoft", "GroupQueryAttention", arrays, 3, num_heads=heads, kv_num_heads=groups, local_window_size=window
    )
    engine = tilewright.compile(source, target=target)
    arrays["past_value"][0, :, TILE:] = np.nan
    arrays["past_value"][1, :, : KEYS - 2 * TILE] = np.nan
    with engine.session("emulator", checked=True) as session:
        result = session.run(arrays)["y0"]

    def filled(past: str, new: str) -> Array:
        joined = np.concatenate([arrays[past], np.zeros((2, groups, steps, size), np.float32)], 2)
        for entry, place in enumerate(last):
            joined[entry, :, place] = arrays[new][entry, 0].reshape(groups, size)
        return np.repeat(joined, heads // groups, 1)

    keys = np.arange(KEYS + steps)
    seen = np.stack([(keys <= place) & (keys > place - window) for place in last])[:, None, None]
    query = arrays["query"].reshape(2, steps, heads, size).swapaxes(1, 2)
    wanted = expected(query, filled("past_key", "key"), filled("past_value", "value"), seen)
    result = np.asarray(result).reshape(2, steps, heads, size).swapaxes(1, 2)
    np.testing.assert_allclose(result, wanted, atol=TOLERANCES[target, kind])


@pytest.mark.parametrize("size", [64, 128])
def test_limits_of_a_query_take_few_registers(size: int) -> None:
    """Lengths, a causal mask and a window at once, over many queries: two comparisons a score in 32 bits, no spills."""
    shapes = {"q": (2, 4, 1000, size), "k": (2, 4, 1000, size), "v": (2, 4, 1000, size)}
    arrays = {name: np.zeros(shape, np.float16) for name, shape in shapes.items()} | {"lengths": np.zeros(2, np.int64)}
    source = model("", "Attention", arrays, 1, is_causal=1, left_window_size=256)
    engine = tilewright.compile(source, target="sm_90a")
    assert "wgmma" in engine.ptx("attention_0") and engine.kernels["attention_0"].spills == 0
    assert not re.findall(r"setp\.\w+\.s64", engine.ptx("attention_0"))
