"""Quantised work that kernels are judged by: bytes, int4 weights and scaled 8-bit floats, as ONNX writes them.

In: nothing. Out: `QUANTISED`, a list of `Workload`, and `EVERY`, with those of workloads.py. The forms are those of
exporters: QuantizeLinear and DequantizeLinear around an operator (QDQ), and com.microsoft's MatMulNBits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from benchmarks.workloads import HALF, OPSET, PERIOD, VARIANTS, WORKLOADS, Workload
from onnx import TensorProto, helper, numpy_helper

S8, E4M3 = TensorProto.INT8, TensorProto.FLOAT8E4M3FN
BLOCK = 32  # weights of 4 bits that share a scale
RESULT_SCALE = 0.04  # of results of about 1, so that a few of them are at the ends of the range
X_SCALE = 0.02


def quantised_model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, tuple[int, ...]]],
    output: tuple[int, tuple[int, ...]],
    weights: Sequence[onnx.TensorProto],
) -> onnx.ModelProto:
    """A model from `inputs` to "y", each with its type and shape."""
    values = [helper.make_tensor_value_info(name, *parts) for name, parts in inputs.items()]
    graph = helper.make_graph(
        nodes, "workload", values, [helper.make_tensor_value_info("y", *output)], list(weights)
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _bytes(name: str, *shape: int) -> onnx.TensorProto:
    """Weights of 8 bits that repeat after a prime number of elements."""
    numbers = np.random.default_rng(0).integers(-127, 128, PERIOD).astype(np.int8)
    return numpy_helper.from_array(np.resize(numbers, shape), name)


def _floats(name: str, values: Any, dtype: Any = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def channel_scales(count: int, depth: int) -> np.ndarray:
    """Scales of the channels of a weight, for results of about 1 from bytes below 100 (`random_inputs`)."""
    own = np.resize(np.random.default_rng(1).uniform(0.5, 1.5, PERIOD), count)
    return (own / (57 * 73 * X_SCALE * np.sqrt(depth))).astype(np.float32)


def _zero(name: str) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(0, np.int8), name)


def _between(name: str) -> list[onnx.NodeProto]:
    """What quantizers of models put between two operators: the tensor `name` as bytes and back."""
    return [
        helper.make_node("QuantizeLinear", [name, "y scale", "zero"], [f"{name} q"], f"quantise {name}"),
        helper.make_node("DequantizeLinear", [f"{name} q", "y scale", "zero"], [f"{name} d"], f"dequantise {name}"),
    ]


def _feed_forward(m: int, n: int, k: int, activation: str, rounded: bool) -> onnx.ModelProto:
    """A layer of a quantised BERT: bytes to bytes. `rounded`: the product and the sum are quantised too, as
    onnxruntime's static quantizer writes it.
    """
    nodes = [
        helper.make_node("DequantizeLinear", ["a", "x scale", "zero"], ["x"], "dequantise a"),
        helper.make_node("DequantizeLinear", ["b", "b scales"], ["w"], "dequantise b", axis=1),
        helper.make_node("MatMul", ["x", "w"], ["product"], "matmul"),
        *(_between("product") if rounded else []),
        helper.make_node("Add", ["product d" if rounded else "product", "bias"], ["sum"], "bias"),
    ]
    last = "sum"
    if activation:
        nodes += _between(last) if rounded else []
        nodes.append(helper.make_node(activation, ["sum d" if rounded else "sum"], ["active"], "activation"))
        last = "active"
    nodes.append(helper.make_node("QuantizeLinear", [last, "y scale", "zero"], ["y"], "quantise y"))
    weights = [
        _bytes("b", k, n), _floats("b scales", channel_scales(n, k)), _floats("x scale", X_SCALE), _zero("zero"),
        _floats("bias", np.resize(np.linspace(-1, 1, 97), n)), _floats("y scale", RESULT_SCALE),
    ]  # fmt: skip
    return quantised_model(nodes, {"a": (S8, (m, k))}, (S8, (m, n)), weights)


def _convolution(images: int, channels: int, size: int, outputs: int, kernel: int, stride: int) -> onnx.ModelProto:
    """Channels-last, bytes to bytes, with a scale for each output channel."""
    pad = kernel // 2
    nodes = [
        helper.make_node("Transpose", ["x"], ["first"], "to channels first", perm=[0, 3, 1, 2]),
        helper.make_node("DequantizeLinear", ["first", "x scale", "zero"], ["real"], "dequantise x"),
        helper.make_node("DequantizeLinear", ["w", "w scales"], ["kernels"], "dequantise w", axis=0),
        helper.make_node("Conv", ["real", "kernels", "bias"], ["sum"], "conv", pads=[pad] * 4, strides=[stride] * 2),
        helper.make_node("Relu", ["sum"], ["active"], "relu"),
        helper.make_node("QuantizeLinear", ["active", "y scale", "zero"], ["bytes"], "quantise y"),
        helper.make_node("Transpose", ["bytes"], ["y"], "to channels last", perm=[0, 2, 3, 1]),
    ]
    result = (size + 2 * pad - kernel) // stride + 1
    weights = [
        _bytes("w", outputs, channels, kernel, kernel), _zero("zero"), _floats("x scale", X_SCALE),
        _floats("w scales", channel_scales(outputs, channels * kernel * kernel)), _floats("y scale", RESULT_SCALE),
        _floats("bias", np.resize(np.linspace(-1, 1, 97), outputs)),
    ]  # fmt: skip
    inputs = {"x": (S8, (images, size, size, channels))}
    return quantised_model(nodes, inputs, (S8, (images, result, result, outputs)), weights)


def _four_bits(m: int, n: int, k: int) -> onnx.ModelProto:
    """MatMulNBits: weights of 4 bits in blocks of `BLOCK` along k, each with a scale."""
    packed = np.random.default_rng(0).integers(0, 256, PERIOD).astype(np.uint8)
    scales = np.random.default_rng(1).uniform(0.5, 1.5, PERIOD) / (4.6 * np.sqrt(k))
    node = helper.make_node(
        "MatMulNBits", ["a", "b", "scales"], ["y"], "matmul", "", "com.microsoft", K=k, N=n, bits=4, block_size=BLOCK
    )
    weights = [
        numpy_helper.from_array(np.resize(packed, (n, k // BLOCK, BLOCK // 2)), "b"),
        _floats("scales", np.resize(scales, n * k // BLOCK), np.float16),
    ]
    return quantised_model([node], {"a": (HALF, (m, k))}, (HALF, (m, n)), weights)


def _scaled_floats(m: int, n: int, k: int, quantises: bool) -> onnx.ModelProto:
    """8-bit floats, with one scale on the left and one for each column on the right; f16 or again 8 bits out."""
    numbers = np.resize(np.random.default_rng(0).integers(0, 120, PERIOD), (k, n)).astype(np.uint8)
    b = helper.make_tensor("b", E4M3, (k, n), numbers.tobytes(), raw=True)
    zero = helper.make_tensor("zero", E4M3, (), b"\0", raw=True)
    nodes = [
        helper.make_node("DequantizeLinear", ["a", "x scale", "zero"], ["x"], "dequantise a"),
        helper.make_node("DequantizeLinear", ["b", "b scales"], ["w"], "dequantise b", axis=1),
        helper.make_node("MatMul", ["x", "w"], ["product" if quantises else "y"], "matmul"),
    ]
    if quantises:
        nodes.append(helper.make_node("QuantizeLinear", ["product", "y scale", "zero"], ["y"], "quantise y"))
    scales = np.resize(np.random.default_rng(1).uniform(0.5, 1.5, PERIOD), n) / (75 * np.sqrt(k) / 16)
    weights = [
        b, zero, _floats("x scale", 1 / 16, np.float16), _floats("b scales", scales, np.float16),
        *([_floats("y scale", 0.02, np.float16)] if quantises else []),
    ]  # fmt: skip
    return quantised_model(nodes, {"a": (E4M3, (m, k))}, (E4M3 if quantises else HALF, (m, n)), weights)


FEED_FORWARD = [  # m, n, k, activation, what is between quantised too: BERT-base, and its second layer
    (4096, 3072, 768, "Gelu", False), (128, 3072, 768, "Gelu", False), (4096, 3072, 768, "Gelu", True),
    (4096, 768, 3072, "", False), (128, 768, 3072, "", False),
]  # fmt: skip
CONVOLUTIONS = [  # of ResNet-50, as in workloads.py
    (64, 56, 64, 3, 1), (64, 56, 256, 1, 1), (256, 14, 256, 3, 1), (1024, 14, 256, 1, 1), (256, 56, 512, 1, 2),
]  # fmt: skip
FOUR_BITS = [  # 28672 x 8192 fill more than a GPU's cache
    (1, 4096, 4096), (1, 28672, 8192), (1, 4096, 11008), (1, 11008, 4096), (4, 4096, 4096), (8, 4096, 4096),
    (8, 4096, 11008), (16, 4096, 4096), (16, 28672, 8192),
]  # fmt: skip
SCALED_FLOATS = [(4096, 4096, 4096, False), (4096, 4096, 4096, True), (128, 4096, 4096, False), (16, 4096, 4096, False)]


def _quantised() -> list[Workload]:
    found = []
    for m, n, k, activation, rounded in FEED_FORWARD:
        name = f"s8 {m}x{n}x{k}{f' + {activation.lower()}' if activation else ''}{' each quantised' if rounded else ''}"
        parameters = (m, n, k, activation, rounded)
        traffic = float(m * k + k * n + m * n)
        found.append(Workload("QDQ matmul", name, _feed_forward, parameters, 2.0 * m * n * k, traffic))
    for images in (1, 64):
        for channels, size, outputs, kernel, stride in CONVOLUTIONS:
            pixels, taps = images * ((size - 1) // stride + 1) ** 2, channels * kernel * kernel
            traffic = float(images * channels * size * size + taps * outputs + pixels * outputs)
            name = f"s8 b{images} {channels}x{size}x{size} to {outputs}, {kernel}x{kernel}/{stride}"
            parameters = (images, channels, size, outputs, kernel, stride)
            flops = 2.0 * pixels * outputs * taps
            found.append(Workload("QDQ convolution", name, _convolution, parameters, flops, traffic))
    for m, n, k in FOUR_BITS:
        traffic = 2.0 * (m * k + m * n) + n * k * (1 / 2 + 2 / BLOCK)
        found.append(Workload("int4 matmul", f"{m}x{n}x{k}", _four_bits, (m, n, k), 2.0 * m * n * k, traffic))
    for m, n, k, quantises in SCALED_FLOATS:
        name = f"e4m3 {m}x{n}x{k}{' to e4m3' if quantises else ''}"
        traffic = float(m * k + k * n + (1 if quantises else 2) * m * n)
        parameters = (m, n, k, quantises)
        found.append(Workload("scaled e4m3 matmul", name, _scaled_floats, parameters, 2.0 * m * n * k, traffic))
    return found


QUANTISED = _quantised()
EVERY = (*WORKLOADS, *VARIANTS, *QUANTISED)
