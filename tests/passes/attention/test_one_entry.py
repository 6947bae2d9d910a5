"""Attention of a batch of one, as torch's dynamo exporter writes it: queries and keys scaled by a root each, keys turned
within a tensor without the batch.
"""

from __future__ import annotations

import numpy as np
import onnx.parser

import tilewright

HEADS, TOKENS, SIZE = 2, 70, 64
ROOT = SIZE**-0.25
MODEL = f"""
<ir_version: 10, opset_import: ["" : 20]>
attention (float16[1, {TOKENS}, {HEADS}, {SIZE}] q, float16[1, {TOKENS}, {HEADS}, {SIZE}] k,
           float16[1, {TOKENS}, {HEADS}, {SIZE}] v) => (float16[1, {HEADS}, {TOKENS}, {SIZE}] y)
<int64[3] flat = {{{HEADS}, {TOKENS}, {SIZE}}}, int64[4] whole = {{1, {HEADS}, {SIZE}, {TOKENS}}}, float wide = {{{ROOT}}}> {{
    root = Cast <to = 10> (wide)
    queries = Transpose <perm = [0, 2, 1, 3]> (q)
    keys = Transpose <perm = [0, 2, 1, 3]> (k)
    values = Transpose <perm = [0, 2, 1, 3]> (v)
    joined = Reshape (keys, flat)
    turned = Transpose <perm = [0, 2, 1]> (joined)
    again = Reshape (turned, whole)
    left = Mul (queries, root)
    right = Mul (again, root)
    scores = MatMul (left, right)
    weights = Softmax <axis = -1> (scores)
    y = MatMul (weights, values)
}}
"""


def test_runs_on_wgmma() -> None:
    engine = tilewright.compile(onnx.parser.parse_model(MODEL), target="sm_90a", precision="f16")
    attention = next(name for name in engine.kernels if name.startswith("attention"))
    assert "wgmma.mma_async" in engine.ptx(attention)
    rng = np.random.default_rng(0)
    given = {name: rng.standard_normal((1, TOKENS, HEADS, SIZE)).astype(np.float16) for name in "qkv"}
    query, key, value = (given[name][0].astype(np.float64).transpose(1, 0, 2) for name in "qkv")
    scores = query @ key.transpose(0, 2, 1) / np.sqrt(SIZE)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    expected = weights / weights.sum(-1, keepdims=True) @ value
    with engine.session("emulator", checked=True) as session:
        # Weights and results rounded to f16, 2^-11 each of values up to 4; the factors of f16 too, twice.
        np.testing.assert_allclose(session.run(given)["y"][0], expected, atol=5e-3)
