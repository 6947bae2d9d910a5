"""Attention at its borders: runs without any key, and scores that the model itself rounds to 16 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.parser
import pytest
from onnx import ModelProto, TensorProto, helper

import tilewright

Array = np.ndarray[Any, Any]
FLOATS = {np.float16: TensorProto.FLOAT16, np.float32: TensorProto.FLOAT}


def spelled_out(kind: type[np.floating[Any]]) -> ModelProto:
    """softmax(q k') v of 2 heads of 64 with m queries and n keys, every step in `kind`, as exporters write it."""
    nodes = [
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["q", "kt"], ["s"]),
        helper.make_node("Softmax", ["s"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "v"], ["y"]),
    ]
    return model(nodes, kind, 17)


def one_operator(kind: type[np.floating[Any]]) -> ModelProto:
    """The same as ai.onnx Attention."""
    return model([helper.make_node("Attention", ["q", "k", "v"], ["y"], scale=1.0)], kind, 23)


def model(nodes: list[Any], kind: type[np.floating[Any]], opset: int) -> ModelProto:
    shapes = {"q": [1, 2, "m", 64], "k": [1, 2, "n", 64], "v": [1, 2, "n", 64]}
    inputs = [helper.make_tensor_value_info(name, FLOATS[kind], shape) for name, shape in shapes.items()]
    outputs = [helper.make_tensor_value_info("y", FLOATS[kind], shapes["q"])]
    graph = helper.make_graph(nodes, "attention", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def arrays(kind: type[np.floating[Any]], queries: int, keys: int) -> dict[str, Array]:
    rng = np.random.default_rng(3)
    sizes = {"q": queries, "k": keys, "v": keys}
    return {name: rng.standard_normal((1, 2, size, 64)).astype(kind) for name, size in sizes.items()}


@pytest.mark.parametrize(
    ("build", "kind", "target", "precision"),
    [
        (spelled_out, np.float32, "sm_80", "strict"),
        (spelled_out, np.float32, "sm_80", "f16"),
        (one_operator, np.float16, "sm_90", "f16"),
    ],
)
def test_no_keys_give_zeros(build: Any, kind: Any, target: str, precision: str) -> None:
    engine = tilewright.compile(build(kind), target=target, precision=precision)
    with engine.session("emulator", checked=True) as session:
        # What onnxruntime's and numpy's matrix products of no columns with no rows are.
        result = session.run(arrays(kind, 70, 0))["y"]
        assert result.shape == (1, 2, 70, 64) and not result.any()
        assert session.run(arrays(kind, 0, 5))["y"].shape == (1, 2, 0, 64)
        given = arrays(kind, 70, 5)
        np.testing.assert_allclose(session.run(given)["y"], expected(given), rtol=2e-2, atol=2e-2)  # f16: as below


def test_no_keys_by_way_of_tensor_maps_are_a_clear_error() -> None:
    engine = tilewright.compile(one_operator(np.float16), target="sm_90a")
    message = r"(?s)kernel 'attention_0': buffer '[kv]' has no elements in this run: \[.*0.*\].* such as sm_90, run"
    with engine.session("emulator") as session:
        with pytest.raises(tilewright.DeviceError, match=message):
            session.run(arrays(np.float16, 70, 0))
        assert session.run(arrays(np.float16, 0, 0))["y"].shape == (1, 2, 0, 64)  # nothing is launched
        assert session.run(arrays(np.float16, 3, 4))["y"].shape == (1, 2, 3, 64)


@pytest.mark.parametrize(
    ("precision", "instruction", "tolerance"),
    # Scores up to 30 rounded to f16 are off by 2^-7, and so are, relatively, the weights. Unrounded ones are good to
    # 2^-18; weights and results are rounded once each, by up to 2^-11.
    [("strict", "mma.sync", 2e-2), ("f16", "wgmma.mma_async", 2e-3)],
)
def test_scores_of_a_model_in_f16_on_hopper(precision: str, instruction: str, tolerance: float) -> None:
    engine = tilewright.compile(spelled_out(np.float16), target="sm_90a", precision=precision)
    assert instruction in engine.ptx("attention_0")
    given = arrays(np.float16, 20, 40)
    with engine.session("emulator", checked=True) as session:
        np.testing.assert_allclose(session.run(given)["y"], expected(given), rtol=tolerance, atol=tolerance)


CAUSAL_IN_F16 = """
<ir_version: 10, opset_import: ["" : 20]>
attention (float16[1, 2, m, 64] q, float16[1, 2, n, 64] k, float16[1, 2, n, 64] v) => (float16[1, 2, m, 64] y)
<int64 zero = {0}, int64 one = {1}, int64[1] last = {1}, float shown = {0}, float low = {-65504}> {
    t = Transpose <perm = [0, 1, 3, 2]> (k)
    s = MatMul (q, t)
    queries = Shape <start = 2, end = 3> (q)
    keys = Shape <start = 2, end = 3> (k)
    m0 = Squeeze (queries)
    n0 = Squeeze (keys)
    rows = Range (zero, m0, one)
    columns = Range (zero, n0, one)
    row = Unsqueeze (rows, last)
    before = LessOrEqual (columns, row)
    chosen = Where (before, shown, low)
    mask = Cast <to = 10> (chosen)
    masked = Add (s, mask)
    p = Softmax <axis = -1> (masked)
    y = MatMul (p, v)
}
"""


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
def test_the_lowest_half_hides_keys(target: str) -> None:
    """What exports in f16 add to scores that are hidden. Tiles in which all are hidden are not read."""
    engine = tilewright.compile(onnx.parser.parse_model(CAUSAL_IN_F16), target=target, precision="f16")
    given = arrays(np.float16, 70, 300)
    with engine.session("emulator", checked=True) as session:
        want = expected(given, causal=True)
        given["k"][:, :, 128:] = given["v"][:, :, 128:] = np.nan
        np.testing.assert_allclose(session.run(given)["y"], want, rtol=2e-3, atol=2e-3)  # as above


def expected(given: dict[str, Array], causal: bool = False) -> Array:
    """In float64."""
    q, k, v = (given[name].astype(np.float64) for name in "qkv")
    powers = np.exp(q @ k.swapaxes(2, 3))
    powers *= np.tri(*powers.shape[-2:]) if causal else 1
    result: Array = powers / powers.sum(-1, keepdims=True) @ v
    return result
