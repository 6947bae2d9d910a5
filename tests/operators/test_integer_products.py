"""Integer products with zero points everywhere, exactly as onnxruntime computes them, at sizes down to one pixel.

The convolutions' channels times taps reach the depth from which integers are multiplied as they are stored.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import tilewright

Array = np.ndarray[Any, Any]
WINDOWS: dict[str, dict[str, Any]] = {
    "plain": {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
    "uneven": {"kernel_shape": [3, 2], "pads": [0, 1, 2, 0], "strides": [2, 1]},
    "dilated": {"kernel_shape": [2, 3], "pads": [2, 2, 2, 2], "dilations": [2, 2], "strides": [1, 3]},
}
# Channels come last, as from a convolution before this one: tensor cores read several bytes of k at a time.
FIRST = helper.make_node("Transpose", ["x"], ["first"], perm=[0, 3, 1, 2])


def model(nodes: list[onnx.NodeProto], inputs: dict[str, tuple[int, list[Any]]], **weights: Array) -> onnx.ModelProto:
    """A model with the output "y"."""
    graph = helper.make_graph(
        nodes,
        "integers",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def compare(proto: onnx.ModelProto, batches: list[dict[str, Array]]) -> tilewright.Engine:
    """Equal integers, for all inputs; returns the engine."""
    reference = onnxruntime.InferenceSession(proto.SerializeToString())
    engine = tilewright.compile(proto, target="sm_80")
    with engine.session("emulator") as session:
        for batch in batches:
            np.testing.assert_array_equal(session.run(batch)["y"], reference.run(None, batch)[0])
    return engine


def uses_tensor_cores(engine: tilewright.Engine) -> bool:
    return any("mma.sync.aligned.m16n8k32" in engine.ptx(name) for name in engine.kernels)


@pytest.mark.parametrize("centre", [0, 131])
@pytest.mark.parametrize("window", WINDOWS)
def test_padding_is_no_zero_point(window: str, centre: int) -> None:
    """ConvInteger with a zero point of the input that only a run knows; free sizes, some smaller than the window.

    Weights are signed, or unsigned with a zero point as onnxruntime's dynamic quantisation writes them.
    """
    generator = np.random.default_rng(1)
    numbers = generator.integers(-128, 128, (8, 16, *WINDOWS[window]["kernel_shape"]))
    weights: dict[str, Array] = {"w": numbers.astype(np.int8)}
    if centre:
        weights = {"w": (numbers + 128).astype(np.uint8), "wz": np.array(centre, np.uint8)}
    names = ["first", "w", "zero", *list(weights)[1:]]
    nodes = [FIRST, helper.make_node("ConvInteger", names, ["y"], **WINDOWS[window])]
    kind = TensorProto.UINT8
    proto = model(nodes, {"x": (kind, ["n", "h", "w", 16]), "zero": (kind, [])}, **weights)
    batches = [
        {"x": generator.integers(0, 256, (2, *size, 16)).astype(np.uint8), "zero": np.array(zero, np.uint8)}
        for size, zero in (((9, 7), 131), ((5, 12), 0), ((3, 3), 255), ((1, 2), 17))
    ]
    assert uses_tensor_cores(compare(proto, batches[:3] if window == "uneven" else batches))


@pytest.mark.parametrize(("kind", "zero"), [(np.int8, 0), (np.uint8, 128)])
def test_fixed_sizes_have_a_smaller_table(kind: type, zero: int) -> None:
    """QLinearConv as a ResNet has it: one scale for each channel, a known zero point, known sizes, a bias."""
    generator = np.random.default_rng(2)
    numbers = generator.integers(-128, 128, (24, 16, 3, 3)) + zero
    weights = {
        "xs": np.float32(0.02), "xz": np.uint8(117), "w": numbers.astype(kind),
        "ws": generator.uniform(0.001, 0.01, 24).astype(np.float32), "wz": np.full(24, zero, kind),
        "ys": np.float32(0.07), "yz": np.uint8(101), "b": generator.integers(-900, 900, 24).astype(np.int32),
    }  # fmt: skip
    nodes = [FIRST, helper.make_node("QLinearConv", ["first", *weights], ["y"], pads=[1, 1, 1, 1])]
    proto = model(nodes, {"x": (TensorProto.UINT8, [2, 8, 8, 16])}, **weights)
    engine = compare(proto, [{"x": generator.integers(0, 256, (2, 8, 8, 16)).astype(np.uint8)}])
    assert uses_tensor_cores(engine)
    tables = [buffer for buffer in engine.buffers if buffer.kind == "weight" and buffer.dtype == "i32"]
    assert max(int(np.prod([int(str(size)) for size in table.shape])) for table in tables) == 7 * 7 * 24


def test_weights_with_a_zero_point_without_padding() -> None:
    """One pixel or nine a result: sums of the weights are the same everywhere, those of the input are not."""
    generator = np.random.default_rng(4)
    kind = TensorProto.UINT8
    for size in (1, 3):
        weights = {"w": generator.integers(0, 256, (12, 16, size, size)).astype(np.uint8), "wz": np.array(97, np.uint8)}
        nodes = [FIRST, helper.make_node("ConvInteger", ["first", "w", "zero", "wz"], ["y"])]
        proto = model(nodes, {"x": (kind, ["n", 8, "w", 16]), "zero": (kind, [])}, **weights)
        batch = {"x": generator.integers(0, 256, (2, 8, 5, 16)).astype(np.uint8), "zero": np.array(201, np.uint8)}
        assert uses_tensor_cores(compare(proto, [batch]))


@pytest.mark.parametrize(("left", "right"), [(np.uint8, np.int8), (np.uint8, np.uint8), (np.int8, np.int8)])
def test_both_zero_points(left: type, right: type) -> None:
    """MatMulInteger of a constant and of an input whose sums over k a run computes."""
    generator = np.random.default_rng(3)

    def draw(kind: type, *shape: int) -> Array:
        limits = np.iinfo(kind)
        return generator.integers(limits.min, limits.max + 1, shape).astype(kind)

    zeros = {"az": np.array(5, left), "bz": np.array(9, right)}
    node = helper.make_node("MatMulInteger", ["a", "b", "az", "bz"], ["y"])
    types = {name: helper.np_dtype_to_tensor_dtype(np.dtype(kind)) for name, kind in (("a", left), ("b", right))}
    a = (types["a"], ["n", "m", 64])
    constant = model([node], {"a": a}, b=draw(right, 64, 40), **zeros)
    batches = [{"a": draw(left, *shape, 64)} for shape in ((2, 33), (1, 1))]
    assert uses_tensor_cores(compare(constant, batches))
    given = model([node], {"a": a, "b": (types["b"], ["n", 64, "k"])}, **zeros)
    compare(given, [{**batch, "b": draw(right, len(batch["a"]), 64, 7)} for batch in batches])
