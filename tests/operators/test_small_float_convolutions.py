"""Convolutions of 8-bit floats on tensor cores: QuantizeLinear and DequantizeLinear around Conv, two in a row."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tilewright
from tilewright.runtime.sanitizing import parse_order, sanitize

Array = np.ndarray
E4M3, E5M2 = TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2
NUMPY = {E4M3: ml_dtypes.float8_e4m3fn, E5M2: ml_dtypes.float8_e5m2}
SCALE, BETWEEN, FIRST = 0.25, 8.0, 0.5  # powers of two: what lies between both layers is then exact
PADS = 1


@dataclass(frozen=True)
class Case:
    """Two convolutions of 3x3, the second with stride 2: `channels` of the image, between them and at the end."""

    kind: int = E4M3
    channels: tuple[int, int, int] = (64, 64, 40)
    size: int = 12
    target: str = "sm_90a"
    instruction: str = "wgmma.mma_async.sync.aligned.m64n"
    # Products are exact, and on the emulator so are sums but for f32's 2**-24 a step; a GPU keeps fewer bits of them.
    error: float = 2**-20

    @property
    def weights(self) -> tuple[Array, Array]:
        """Eighths between -1 and 1."""
        rng = np.random.default_rng(0)
        first, between, last = self.channels
        shapes = (between, first, 3, 3), (last, between, 3, 3)
        return tuple((rng.integers(-8, 9, shape) / 8).astype(NUMPY[self.kind]) for shape in shapes)  # type: ignore[return-value]

    @property
    def scales(self) -> Array:
        """Of the second weights, one a channel."""
        return np.linspace(0.01, 0.05, self.channels[2], dtype=np.float32)

    def model(self) -> onnx.ModelProto:
        """From an image in channels-last, as a layer in the middle of a model finds its input."""
        first, _, last = self.channels
        zero, stored = helper.make_tensor("zero", self.kind, (), b"\0", raw=True), []
        for name, array in zip(("v", "w"), self.weights, strict=True):
            stored.append(helper.make_tensor(name, self.kind, array.shape, array.tobytes(), raw=True))
        numbers = {"scale": SCALE, "between": BETWEEN, "first": FIRST, "scales": self.scales}
        stored += [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in numbers.items()]
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
            helper.make_node("Transpose", ["q"], ["image"], perm=[0, 3, 1, 2]),
            helper.make_node("DequantizeLinear", ["image", "scale", "zero"], ["a"]),
            helper.make_node("DequantizeLinear", ["v", "first", "zero"], ["vd"]),
            helper.make_node("Conv", ["a", "vd"], ["c"], pads=[PADS] * 4),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("QuantizeLinear", ["r", "between", "zero"], ["q2"]),
            helper.make_node("DequantizeLinear", ["q2", "between", "zero"], ["a2"]),
            helper.make_node("DequantizeLinear", ["w", "scales"], ["wd"], axis=0),
            helper.make_node("Conv", ["a2", "wd"], ["y"], pads=[PADS] * 4, strides=[2, 2]),
        ]
        size = self.size
        values = [
            helper.make_tensor_value_info("x", 1, [1, size, size, first]),
            helper.make_tensor_value_info("y", 1, [1, last, size // 2, size // 2]),
        ]
        graph = helper.make_graph(nodes, "small_floats", values[:1], values[1:], [zero, *stored])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)

    def expected(self, x: Array) -> Array:
        """In float64, of the numbers that the bytes stand for."""
        first, second = (weight.astype(np.float64) for weight in self.weights)
        image = self._quantised(x.transpose(0, 3, 1, 2), SCALE)
        between = self._quantised(np.maximum(_convolution(image, first * FIRST, 1), 0), BETWEEN)
        return _convolution(between, second * self.scales[:, None, None, None], 2)

    def _quantised(self, values: Array, scale: float) -> Array:
        largest = float(ml_dtypes.finfo(NUMPY[self.kind]).max)
        return np.clip(values / scale, -largest, largest).astype(NUMPY[self.kind]).astype(np.float64) * scale


def _convolution(image: Array, weight: Array, stride: int) -> Array:
    padded = np.pad(image, [(0, 0), (0, 0), (PADS, PADS), (PADS, PADS)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], axis=(2, 3))
    return np.einsum("nchwij,ocij->nohw", windows[:, :, ::stride, ::stride], weight)


HALVES, BYTES = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16", "mma.sync.aligned.m16n8k32.row.col.f32"
CASES = {
    "whole lines of channels behind half of one": Case(),
    "e5m2, channels that are padded": Case(E5M2, (32, 80, 32)),
    "few pixels": Case(size=4, instruction=f"{BYTES}.e4m3.e4m3"),
    "odd channels": Case(E4M3, (9, 9, 8), 6, instruction=HALVES, error=2**-11),
    "Ada": Case(E5M2, (32, 32, 16), 6, "sm_89", instruction=f"{BYTES}.e5m2.e5m2"),
    "Blackwell's cards": Case(E4M3, (32, 32, 16), 6, "sm_120", instruction=f"{BYTES}.e4m3.e4m3"),
    # Weights are halves there, with their scales: 2**-11 of each.
    "Ampere": Case(E4M3, (32, 32, 16), 6, "sm_80", instruction=HALVES, error=2**-11),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_quantised_convolutions(case: Case) -> None:
    engine = tilewright.compile(case.model(), target=case.target, precision="f16")
    products = [engine.ptx(name) for name, kernel in engine.kernels.items() if kernel.kind == "dot"]
    assert len(products) == 2 and all(case.instruction in ptx for ptx in products)
    is_boxed = case.instruction.startswith("wgmma")
    assert all(("im2col" in ptx) == is_boxed for ptx in products)
    x = np.random.default_rng(1).standard_normal((1, case.size, case.size, case.channels[0])).astype(np.float32)
    outputs, report = sanitize(engine, [{"x": x}], parse_order("random:2"))
    assert "nothing found" in str(report)
    expected = case.expected(x)
    np.testing.assert_allclose(outputs[0]["y"], expected, rtol=0, atol=case.error * float(np.abs(expected).max()))
