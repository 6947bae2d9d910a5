"""com.microsoft's attention over entries without padding, which onnxruntime has on GPUs only: against float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import tilewright

Array = np.ndarray[Any, Any]
LENGTHS, STEPS, HEADS, SIZE, WIDTH = (5, 9, 1), 9, 2, 8, 24
TOKENS, HIDDEN = sum(LENGTHS), HEADS * SIZE
# f32: sums of at most 24 terms near 1, exp of libdevice, a mean of values up to 10.
TOLERANCE = 1e-5


def entries(lengths: tuple[int, ...]) -> dict[str, Array]:
    """Where tokens stood in the padded batch, those that are there first, and where entries begin."""
    there = np.arange(STEPS)[None, :] < np.array(lengths)[:, None]
    places = np.concatenate([np.flatnonzero(there), np.flatnonzero(~there)]).reshape(there.shape)
    return {
        "offsets": places.astype(np.int32),
        "starts": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
    }


def expected(q: Array, k: Array, v: Array, added: Array) -> Array:
    """Every entry by itself, in float64."""
    results, first = [], 0
    for entry, length in enumerate(LENGTHS):
        rows = slice(first, first + length)
        own = (part[rows].astype(np.float64).reshape(length, HEADS, -1).swapaxes(0, 1) for part in (q, k, v))
        query, key, value = own
        scores = query @ key.swapaxes(1, 2) / np.sqrt(SIZE) + added[entry % len(added), :, :length, :length]
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        results.append((powers / powers.sum(-1, keepdims=True) @ value).swapaxes(0, 1).reshape(length, -1))
        first += length
    return np.concatenate(results)


def run(operator: str, arrays: dict[str, Array], **attributes: Any) -> Array:
    kinds = {"f": TensorProto.FLOAT, "i": TensorProto.INT32}
    inputs = [
        helper.make_tensor_value_info(name, kinds[array.dtype.kind], array.shape) for name, array in arrays.items()
    ]
    node = helper.make_node(operator, list(arrays), ["y"], operator, domain="com.microsoft", **attributes)
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "packed", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("com.microsoft", 1)], ir_version=10)
    engine = tilewright.compile(model)
    assert sum(launch.kernel.startswith("attention") for launch in engine.program.launches) == 1
    with engine.session("emulator", checked=True) as session:
        return np.asarray(session.run(arrays)["y"])


@pytest.mark.parametrize("values", [HIDDEN, 2 * HIDDEN])
def test_three_tensors(values: int) -> None:
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((TOKENS, width), np.float32) for width in (HIDDEN, HIDDEN, values))
    bias = rng.standard_normal(2 * HIDDEN + values, np.float32)
    added = rng.standard_normal((1, HEADS, STEPS, STEPS), np.float32)
    result = run(
        "PackedMultiHeadAttention",
        {"q": q, "k": k, "v": v, "bias": bias, **entries(LENGTHS), "added": added},
        num_heads=HEADS,
    )
    pieces = np.split(bias, [HIDDEN, 2 * HIDDEN])
    wanted = expected(*(part + own for part, own in zip((q, k, v), pieces, strict=True)), added)
    np.testing.assert_allclose(result, wanted, atol=TOLERANCE)


def test_projection() -> None:
    rng = np.random.default_rng(1)
    x, weights = rng.standard_normal((TOKENS, WIDTH), np.float32), rng.standard_normal((WIDTH, 3 * HIDDEN), np.float32)
    weights, bias = weights / np.float32(np.sqrt(WIDTH)), rng.standard_normal(3 * HIDDEN, np.float32)
    result = run(
        "PackedAttention", {"x": x, "weights": weights, "bias": bias, **entries(LENGTHS)}, num_heads=HEADS
    )
    projected = x.astype(np.float64) @ weights + bias
    wanted = expected(*np.split(projected, 3, axis=1), np.zeros((1, HEADS, STEPS, STEPS)))
    np.testing.assert_allclose(result, wanted, atol=TOLERANCE)


def test_packed_in_one_tensor_is_a_clear_error() -> None:
    with pytest.raises(tilewright.UnsupportedError, match=r"of packed queries, keys and values(.|\n)*three tensors"):
        run(
            "PackedMultiHeadAttention",
            {"qkv": np.zeros((TOKENS, HEADS, 3, SIZE), np.float32)},
            num_heads=HEADS,
        )
