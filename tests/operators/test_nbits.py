"""Products with weights of a few bits, against onnxruntime: one kernel that dequantises what it multiplies.

Weights are inputs of the model here, so that nothing can be computed beforehand, as with weights of a real size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

import tilewright

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(11)
ROWS, DEPTH, COLUMNS, BLOCK = 5, 72, 24, 16  # the last block is not full
BLOCKS = -(-DEPTH // BLOCK)


def model_of(inputs: dict[str, Array], bits: int, dtype: Any) -> onnx.ModelProto:
    """MatMulNBits; an input that is not given is left out."""
    names = ["x", "b", "scales", "zeros", "groups", "bias"]
    node = helper.make_node(
        "MatMulNBits",
        [name if name in inputs else "" for name in names],
        ["y"],
        domain="com.microsoft",
        K=DEPTH,
        N=COLUMNS,
        bits=bits,
        block_size=BLOCK,
    )
    given = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in inputs.items()
    ]
    wanted = [helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), None)]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(helper.make_graph([node], "nbits", given, wanted), ir_version=9, opset_imports=opsets)


def arrays_of(bits: int, zeros: str, dtype: Any) -> dict[str, Array]:
    per_byte = 8 // bits
    arrays = {
        "x": RNG.standard_normal((ROWS, DEPTH)).astype(dtype),
        "b": RNG.integers(0, 256, (COLUMNS, BLOCKS, BLOCK // per_byte)).astype(np.uint8),
        "scales": RNG.uniform(0.01, 0.1, COLUMNS * BLOCKS).astype(dtype),
    }
    if zeros == "packed":
        arrays["zeros"] = RNG.integers(0, 256, COLUMNS * -(-BLOCKS // per_byte)).astype(np.uint8)
    elif zeros == "float":
        arrays["zeros"] = RNG.uniform(4, 12, COLUMNS * BLOCKS).astype(dtype)
    return arrays


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("bits", "zeros"), [(4, ""), (4, "packed"), (8, "packed")])
def test_weights_are_made_where_they_are_read(bits: int, zeros: str, dtype: str) -> None:
    arrays = arrays_of(bits, zeros, dtype)
    model = model_of(arrays, bits, dtype)
    engine = tilewright.compile(model)
    assert [kernel.kind for kernel in engine.kernels.values()] == ["dot"]
    assert not [buffer for buffer in engine.buffers if buffer.kind == "temporary"]
    with engine.session("emulator", checked=True) as session:
        got = session.run(arrays)["y"].astype(np.float64)
    want = onnxruntime.InferenceSession(model.SerializeToString()).run(None, arrays)[0].astype(np.float64)
    # float32 sums of 72 products; in float16 onnxruntime also rounds the weights, to 11 bits.
    np.testing.assert_allclose(got, want, rtol=0, atol=np.abs(want).max() * (1e-5 if dtype == "float32" else 2**-9))


def test_two_bits_and_groups_by_definition() -> None:
    """onnxruntime's CPU provider takes neither; the definition does."""
    arrays = arrays_of(2, "float", "float32")
    arrays["groups"] = RNG.integers(0, BLOCKS, DEPTH).astype(np.int32)
    arrays["bias"] = RNG.standard_normal(COLUMNS).astype(np.float32)
    fields = (arrays["b"].reshape(COLUMNS, -1, 1) >> np.arange(0, 8, 2)) & 3
    place = arrays["groups"]
    scales, zeros = (arrays[name].reshape(COLUMNS, BLOCKS).astype(np.float64)[:, place] for name in ("scales", "zeros"))
    weights = (fields.reshape(COLUMNS, -1)[:, :DEPTH] - zeros) * scales
    want = arrays["x"].astype(np.float64) @ weights.T + arrays["bias"]
    with tilewright.compile(model_of(arrays, 2, "float32")).session("emulator", checked=True) as session:
        got = session.run(arrays)["y"]
    np.testing.assert_allclose(got, want, rtol=0, atol=np.abs(want).max() * 1e-5)  # float32 sums of 72 products
