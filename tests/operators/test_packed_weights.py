"""DequantizeLinear of weights of a few bits before a MatMul, as quantizers write it since opset 21.

The weights stay packed in the engine, and the product makes its operand of them while it reads: no float copy.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tilewright

Array = np.ndarray[Any, Any]
ROWS, DEPTH, COLUMNS, BLOCK = 5, 288, 71, 32  # an odd number of columns: the last byte of a row is not full
OPSETS = {"float4_e2m1fn": 23, "uint2": 25}
PER_BYTE = {"int4": 2, "uint4": 2, "float4_e2m1fn": 2, "uint2": 4, "int8": 1}


def numbers(kind: str, shape: tuple[int, ...]) -> Array:
    """Every value of the type."""
    generator = np.random.default_rng(3)
    codes = generator.integers(0, 256, shape).astype(np.uint8)
    dtype = np.dtype(getattr(ml_dtypes, kind, None) or kind)
    if PER_BYTE[kind] == 1:
        return codes.view(dtype)
    return (codes % (1 << (8 // PER_BYTE[kind]))).view(dtype).astype(np.float32).astype(dtype)


def model_of(weights: Array, zeros: Array | None, axis: int) -> tuple[onnx.ModelProto, Array]:
    """x @ dequantised weights, and these weights in float64; scales and zero points for blocks along `axis`."""
    blocks = tuple(-(-size // BLOCK) if place == axis else size for place, size in enumerate(weights.shape))
    scales = np.random.default_rng(4).uniform(0.05, 0.2, blocks).astype(np.float32)
    given = {"w": weights, "s": scales} | ({"z": zeros} if zeros is not None else {})
    nodes = [
        helper.make_node("DequantizeLinear", list(given), ["f"], axis=axis, block_size=BLOCK),
        helper.make_node("MatMul", ["x", "f"], ["y"]),
    ]
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
        for name, size in zip("xy", weights.shape, strict=True)
    )
    tensors = [numpy_helper.from_array(array, name) for name, array in given.items()]
    opset = helper.make_opsetid("", OPSETS.get(weights.dtype.name, 21))
    model = helper.make_model(helper.make_graph(nodes, "packed", [x], [y], tensors), opset_imports=[opset])
    place = tuple(slice(0, size) for size in weights.shape)
    spread = [np.repeat(part.astype(np.float64), BLOCK, axis)[place] for part in given.values() if part is not weights]
    wide = weights.astype(np.float64) - (spread[1] if zeros is not None else 0)
    return model, wide * spread[0]


@pytest.mark.parametrize(("kind", "axis"), [("int4", 0), ("uint4", 1), ("float4_e2m1fn", 0), ("uint2", 0)])
def test_weights_stay_packed(kind: str, axis: int) -> None:
    weights = numbers(kind, (DEPTH, COLUMNS))
    blocks = (DEPTH // BLOCK, COLUMNS) if axis == 0 else (DEPTH, -(-COLUMNS // BLOCK))
    zeros = numbers(kind, blocks) if kind.startswith("uint") else None
    model, wide = model_of(weights, zeros, axis)
    engine = tilewright.compile(model)
    assert [kernel.kind for kernel in engine.kernels.values()] == ["dot"]
    assert not [buffer for buffer in engine.buffers if buffer.kind == "temporary"]
    packed = DEPTH * -(-COLUMNS // PER_BYTE[kind])
    others = 4 * int(np.prod(blocks)) + (zeros.size if zeros is not None else 0)
    assert sum(buffer.nbytes or 0 for buffer in engine.buffers if buffer.kind == "weight") <= packed + others + 1024
    x = np.random.default_rng(5).standard_normal((ROWS, DEPTH)).astype(np.float32)
    with engine.session("emulator", checked=True) as session:
        got = session.run({"x": x})["y"]
    want = x.astype(np.float64) @ wide
    np.testing.assert_allclose(got, want, rtol=0, atol=np.abs(want).max() * 1e-5)  # float32 sums of 288 products


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
def test_packed_weights_on_tensor_cores(target: str) -> None:
    model, wide = model_of(numbers("int4", (128, 64)), None, 0)
    engine = tilewright.compile(model, target=target, precision="f16")
    assert any("mma" in engine.ptx(name) for name in engine.kernels)
    assert not [buffer for buffer in engine.buffers if buffer.kind == "temporary"]
    x = np.random.default_rng(6).standard_normal((16, 128)).astype(np.float32)
    with engine.session("emulator", checked=True) as session:
        got = session.run({"x": x})["y"]
    want = x.astype(np.float64) @ wide
    np.testing.assert_allclose(got, want, rtol=0, atol=np.abs(want).max() * 2**-9)  # operands of 11 bits


def test_bytes_in_blocks_are_not_expanded() -> None:
    """8-bit weights with blocked scales are read by the product, too; only small ones become floats before."""
    model, wide = model_of(numbers("int8", (512, 544)), None, 0)
    engine = tilewright.compile(model)
    assert [kernel.kind for kernel in engine.kernels.values()] == ["dot"]
    assert {buffer.dtype: buffer.nbytes for buffer in engine.buffers if buffer.kind == "weight"}["i8"] == 512 * 544
    x = np.random.default_rng(7).standard_normal((2, 512)).astype(np.float32)
    with engine.session("emulator") as session:
        got = session.run({"x": x})["y"]
    want = x.astype(np.float64) @ wide
    np.testing.assert_allclose(got, want, rtol=0, atol=np.abs(want).max() * 1e-5)  # float32 sums of 512 products


def test_weights_read_by_others_keep_a_byte_an_element() -> None:
    """A table of words: its rows are gathered, not read in order."""
    table = numbers("int4", (200, 64))
    nodes = [
        helper.make_node("Gather", ["w", "ids"], ["rows"]),
        helper.make_node("DequantizeLinear", ["rows", "s"], ["y"]),
    ]
    given = [numpy_helper.from_array(table, "w"), numpy_helper.from_array(np.float32(0.5), "s")]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 64])
    graph = helper.make_graph(nodes, "table", [ids], [y], given)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    places = np.array([3, 199, 0])
    with tilewright.compile(model).session("emulator", checked=True) as session:
        np.testing.assert_array_equal(session.run({"ids": places})["y"], table[places].astype(np.float32) * 0.5)
