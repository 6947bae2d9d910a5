"""The work that kernels are judged by: one small ONNX model each, with its arithmetic and its traffic.

In: nothing. Out: `WORKLOADS`, a list of `Workload`, one table for the static checks here and for measurements on a GPU;
and `VARIANTS`, products in other types and orders of memory, for the static checks alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 23
HALF = TensorProto.FLOAT16
PERIOD = 4099
FULL = TensorProto.FLOAT
KINDS = {  # types of both operands and of the result, and the operator
    "f16": (HALF, HALF, "MatMul"),
    "bf16": (TensorProto.BFLOAT16, TensorProto.BFLOAT16, "MatMul"),
    "tf32": (FULL, FULL, "MatMul"),
    "s8": (TensorProto.INT8, TensorProto.INT32, "MatMulInteger"),
    "u8": (TensorProto.UINT8, TensorProto.INT32, "MatMulInteger"),
    "e4m3": (TensorProto.FLOAT8E4M3FN, HALF, "MatMul"),
    "e5m2": (TensorProto.FLOAT8E5M2, HALF, "MatMul"),
}


@dataclass(frozen=True)
class Workload:
    """`flops` and `nbytes` are what the mathematics needs: multiply-adds twice, every tensor once. `parameters` are
    those of `make`, for benchmarks/gpu_peers.py.
    """

    family: str
    name: str
    build: Callable[..., onnx.ModelProto]
    parameters: tuple[Any, ...]
    flops: float
    nbytes: float
    precision: str = ""  # where it is not that of the run

    @property
    def slug(self) -> str:
        """A file name."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.family} {self.name}".lower()).strip("-")

    def make(self) -> onnx.ModelProto:
        """The model."""
        return self.build(*self.parameters)


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, ...]],
    output: tuple[int, ...],
    weights: dict[str, np.ndarray] | None = None,
) -> onnx.ModelProto:
    """A model in f16 from `inputs` to "y"."""
    graph = helper.make_graph(
        nodes,
        "workload",
        [helper.make_tensor_value_info(name, HALF, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", HALF, output)],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def _random(*shape: int) -> np.ndarray:
    """Weights that repeat after a prime number of elements: lines differ, and a file of many of them packs well."""
    scale = 1 / np.sqrt(np.prod(shape[1:]))
    return np.resize((np.random.default_rng(0).standard_normal(PERIOD) * scale).astype(np.float16), shape)


def _matmul(m: int, n: int, k: int) -> onnx.ModelProto:
    nodes = [helper.make_node("MatMul", ["a", "b"], ["y"], "matmul")]
    return model(nodes, {"a": (m, k), "b": (k, n)}, (m, n))


def _typed_matmul(
    kind: str, left: tuple[int, ...], right: tuple[int, ...], turned: tuple[bool, bool], stored: bool
) -> onnx.ModelProto:
    """A product of two inputs of that type, or with `stored` of an input and a weight; of each, `turned` says whether
    its last two dimensions change places first. 8-bit floats are cast to f16, which the compiler undoes.
    """
    element, result, operator = KINDS[kind]
    nodes, names = [], []
    for name, is_turned, shape in zip("ab", turned, (left, right), strict=True):
        names.append(name)
        if is_turned:
            order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
            nodes.append(helper.make_node("Transpose", [name], [f"{name} turned"], f"turn {name}", perm=order))
            names[-1] = f"{name} turned"
        if kind.startswith("e"):
            nodes.append(helper.make_node("Cast", [names[-1]], [f"{name} wide"], f"widen {name}", to=HALF))
            names[-1] = f"{name} wide"
    nodes.append(helper.make_node(operator, names, ["y"], "product"))
    values = [helper.make_tensor_value_info(name, element, shape) for name, shape in (("a", left), ("b", right))]
    rows, columns = left[-1 if turned[0] else -2], right[-2 if turned[1] else -1]
    weights = []
    if stored:
        values.pop()
        numbers = np.resize(np.random.default_rng(0).integers(0, 120, PERIOD), right)
        array = numbers.astype(helper.tensor_dtype_to_np_dtype(element))
        weights = [helper.make_tensor("b", element, right, array.tobytes(), raw=True)]
    output = helper.make_tensor_value_info("y", result, (*max(left[:-2], right[:-2]), rows, columns))
    graph = helper.make_graph(nodes, "workload", values, [output], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def _fused(m: int, n: int, k: int) -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["a", "b"], ["product"], "matmul"),
        helper.make_node("Add", ["product", "bias"], ["sum"], "bias"),
        helper.make_node("Gelu", ["sum"], ["active"], "gelu", approximate="tanh"),
        helper.make_node("Add", ["active", "residual"], ["y"], "residual"),
    ]
    return model(nodes, {"a": (m, k), "b": (k, n), "residual": (m, n)}, (m, n), {"bias": _random(n)})


def _normalised(m: int, n: int, k: int, inner: int) -> onnx.ModelProto:
    """A product with a residual, and gelu(its layer norm times other weights): where two halves of a transformer's
    layer meet.
    """
    nodes = [
        helper.make_node("MatMul", ["a", "b"], ["first"], "first"),
        helper.make_node("Add", ["first", "bias"], ["biased"], "bias"),
        helper.make_node("Add", ["biased", "residual"], ["sum"], "residual"),
        helper.make_node("LayerNormalization", ["sum", "scale", "shift"], ["normal"], "norm", axis=-1, epsilon=1e-5),
        helper.make_node("MatMul", ["normal", "c"], ["second"], "second"),
        helper.make_node("Gelu", ["second"], ["y"], "gelu", approximate="tanh"),
    ]
    weights = {"b": _random(n, k).T.copy(), "c": _random(inner, n).T.copy()}
    rows = {"bias": _random(n), "scale": 1 + _random(n), "shift": _random(n)}
    return model(nodes, {"a": (m, k), "residual": (m, n)}, (m, inner), {**weights, **rows})


def _gated(m: int, n: int, k: int) -> onnx.ModelProto:
    """SwiGLU: silu(a gate) * (a up)."""
    nodes = [
        helper.make_node("MatMul", ["a", "gate"], ["first"], "gate"),
        helper.make_node("MatMul", ["a", "up"], ["second"], "up"),
        helper.make_node("Sigmoid", ["first"], ["slope"], "sigmoid"),
        helper.make_node("Mul", ["first", "slope"], ["silu"], "silu"),
        helper.make_node("Mul", ["silu", "second"], ["y"], "product"),
    ]
    weights = {"gate": _random(n, k).T.copy(), "up": _random(n, k)[::-1].T.copy()}
    return model(nodes, {"a": (m, k)}, (m, n), weights)


def _convolution(
    images: int, channels: int, size: int, outputs: int, kernel: int, stride: int, groups: int = 1
) -> onnx.ModelProto:
    """In channels-last, as a convolution in the middle of a model finds its input."""
    pad = kernel // 2
    nodes = [
        helper.make_node("Transpose", ["x"], ["first"], "to channels first", perm=[0, 3, 1, 2]),
        helper.make_node(
            "Conv", ["first", "w", "b"], ["sum"], "conv", pads=[pad] * 4, strides=[stride] * 2, group=groups
        ),
        helper.make_node("Relu", ["sum"], ["active"], "relu"),
        helper.make_node("Transpose", ["active"], ["y"], "to channels last", perm=[0, 2, 3, 1]),
    ]
    result = (size + 2 * pad - kernel) // stride + 1
    weights = {"w": _random(outputs, channels // groups, kernel, kernel), "b": _random(outputs)}
    return model(nodes, {"x": (images, size, size, channels)}, (images, result, result, outputs), weights)


def _depthwise(images: int, channels: int, size: int, kernel: int, stride: int) -> onnx.ModelProto:
    """In channels-last, with bias and ReLU6."""
    pad = kernel // 2
    nodes = [
        helper.make_node("Transpose", ["x"], ["first"], "to channels first", perm=[0, 3, 1, 2]),
        helper.make_node(
            "Conv", ["first", "w", "b"], ["sum"], "conv", pads=[pad] * 4, strides=[stride] * 2, group=channels
        ),
        helper.make_node("Clip", ["sum", "low", "high"], ["active"], "relu6"),
        helper.make_node("Transpose", ["active"], ["y"], "to channels last", perm=[0, 2, 3, 1]),
    ]
    result = (size + 2 * pad - kernel) // stride + 1
    weights = {"w": _random(channels, 1, kernel, kernel), "b": _random(channels)}
    limits = {"low": np.array(0, np.float16), "high": np.array(6, np.float16)}
    shape = (images, result, result, channels)
    return model(nodes, {"x": (images, size, size, channels)}, shape, {**weights, **limits})


def _attention(batch: int, heads: int, queries: int, keys: int, width: int, causal: bool) -> onnx.ModelProto:
    shape, cached = (batch, heads, queries, width), (batch, heads, keys, width)
    nodes = [helper.make_node("Attention", ["q", "k", "v"], ["y"], "attention", is_causal=int(causal))]
    return model(nodes, {"q": shape, "k": cached, "v": cached}, shape)


def _grouped_decode(batch: int, heads: int, shared: int, keys: int, width: int) -> onnx.ModelProto:
    """One query for each of `heads`, which share the keys of fewer."""
    query, cached = (batch, heads, 1, width), (batch, shared, keys, width)
    nodes = [helper.make_node("Attention", ["q", "k", "v"], ["y"], "attention")]
    return model(nodes, {"q": query, "k": cached, "v": cached}, query)


def _pointwise(rows: int, columns: int) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["gate"], "sigmoid"),
        helper.make_node("Mul", ["x", "gate"], ["silu"], "multiply"),
        helper.make_node("Add", ["silu", "z"], ["y"], "add"),
    ]
    return model(nodes, {"x": (rows, columns), "z": (rows, columns)}, (rows, columns))


def _rows(operator: str, rows: int, columns: int) -> onnx.ModelProto:
    weights = {} if operator == "Softmax" else {"scale": _random(columns)}
    if operator == "LayerNormalization":
        weights["shift"] = _random(columns)
    return model(
        [helper.make_node(operator, ["x", *weights], ["y"], operator)], {"x": (rows, columns)}, (rows, columns), weights
    )


def _group_norm(images: int, channels: int, size: int, groups: int) -> onnx.ModelProto:
    """With SiLU, as in a diffusion U-Net."""
    nodes = [
        helper.make_node("GroupNormalization", ["x", "scale", "shift"], ["normal"], "norm", num_groups=groups),
        helper.make_node("Sigmoid", ["normal"], ["gate"], "sigmoid"),
        helper.make_node("Mul", ["normal", "gate"], ["y"], "silu"),
    ]
    shape, weights = (images, channels, size, size), {"scale": _random(channels), "shift": _random(channels)}
    return model(nodes, {"x": shape}, shape, weights)


def _transpose(shape: tuple[int, ...], permutation: tuple[int, ...]) -> onnx.ModelProto:
    nodes = [helper.make_node("Transpose", ["x"], ["y"], "transpose", perm=permutation)]
    return model(nodes, {"x": shape}, tuple(shape[axis] for axis in permutation))


def _sum(shape: tuple[int, ...], axes: tuple[int, ...]) -> onnx.ModelProto:
    nodes = [helper.make_node("ReduceSum", ["x", "axes"], ["y"], "sum")]
    result = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return model(nodes, {"x": shape}, result, {"axes": np.array(axes)})


SQUARE = [(size, size, size) for size in (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)]
TALL = [(16384, 512, 512), (8192, 1024, 4096), (4096, 64, 4096), (65536, 256, 256), (2048, 128, 8192)]
WIDE = [(512, 16384, 512), (256, 4096, 1024), (128, 8192, 2048), (64, 16384, 4096), (1024, 3072, 768)]
DECODE = [(1, 4096, 4096), (1, 16384, 4096), (4, 4096, 4096), (8, 8192, 8192), (16, 4096, 16384), (16, 1024, 1024)]
ODD = [(1000, 1000, 1000), (130, 520, 264), (4095, 4096, 1032), (777, 1336, 2000), (12288, 50304, 768)]
# (channels, size, outputs, kernel, stride): the different ones of ResNet-50, and pointwise ones of MobileNetV2
RESNET = [
    (3, 224, 64, 7, 2), (64, 56, 64, 1, 1), (64, 56, 64, 3, 1), (64, 56, 256, 1, 1), (256, 56, 64, 1, 1),
    (128, 56, 128, 3, 2), (128, 28, 128, 3, 1), (256, 56, 512, 1, 2), (256, 14, 256, 3, 1), (1024, 14, 256, 1, 1),
    (512, 7, 512, 3, 1), (2048, 7, 512, 1, 1),
]  # fmt: skip
MOBILENET = [(32, 112, 16, 1, 1), (96, 56, 24, 1, 1), (144, 28, 32, 1, 1), (576, 14, 96, 1, 1), (320, 7, 1280, 1, 1)]
RESNEXT = [(128, 56, 128, 3, 1, 32), (512, 28, 512, 3, 2, 32), (1024, 7, 1024, 3, 1, 32)]  # and groups
# (channels, size, kernel, stride): of MobileNetV2, then of EfficientNet-B0
DEPTHWISE = [
    (32, 112, 3, 1), (96, 112, 3, 2), (144, 56, 3, 1), (192, 28, 3, 1), (576, 14, 3, 1), (576, 14, 3, 2),
    (960, 7, 3, 1), (144, 56, 5, 2), (240, 28, 5, 1), (672, 14, 5, 1), (1152, 7, 5, 1),
]  # fmt: skip
ATTENTION = [
    (batch, heads, tokens, width, causal)
    for width, heads in ((64, 16), (128, 16), (256, 8))
    for batch, tokens in ((16, 512), (2, 4096), (1, 16384))
    for causal in (False, True)
]


DECODE_ATTENTION = [(1, 32, 4096, 128), (1, 32, 16384, 128), (16, 12, 1024, 64), (8, 32, 4096, 128)]  # one query each


# Rows, width, depth of the first product, columns of the second: behind the attention, and behind the feed-forward, of
# ViT-B (197 tokens; 1 and 32 images) and BERT-base (128 tokens, 32 times 384)
NORMALISED = [
    (rows, 768, depth, columns)
    for rows in (197, 32 * 197, 128, 32 * 384)
    for depth, columns in ((768, 3072), (3072, 2304))
]
GATED = [(4096, 5504, 2048), (1024, 3072, 768), (64, 5504, 2048), (16, 5504, 2048), (1, 5504, 2048)]
GROUP_NORM = [(2, 320, 64, 32), (2, 1280, 16, 32), (1, 128, 256, 32)]  # images, channels, size, groups
TRANSPOSES = [
    ((8192, 8192), (1, 0)), ((16, 1024, 16, 64), (0, 2, 1, 3)), ((32, 56, 56, 256), (0, 3, 1, 2)),
    ((64, 512, 768), (0, 2, 1)),
]  # fmt: skip
SUMS = [((8192, 4096), (0,)), ((262144, 64), (0,)), ((32, 56, 56, 256), (1, 2)), ((8192, 4096), (0, 1))]


GROUPED_DECODE = [(1, 32, 8, 8192, 128), (16, 32, 8, 2048, 128), (8, 64, 8, 4096, 128)]  # batch, heads, of keys, keys


def _workloads() -> list[Workload]:
    found = []
    for m, n, k in SQUARE + TALL + WIDE + DECODE + ODD:
        traffic = 2.0 * (m * k + k * n + m * n)
        found.append(Workload("matmul", f"{m}x{n}x{k}", _matmul, (m, n, k), 2.0 * m * n * k, traffic))
    for m, n, k in [(1024, 3072, 768), (4096, 4096, 4096), (8192, 1024, 4096), (128, 8192, 2048)]:
        traffic = 2.0 * (m * k + k * n + 2 * m * n)
        found.append(Workload("matmul + epilogue", f"{m}x{n}x{k}", _fused, (m, n, k), 2.0 * m * n * k, traffic))
    for m, n, k, inner in NORMALISED:
        flops, traffic = 2.0 * m * n * (k + inner), 2.0 * (m * k + k * n + 2 * m * n + n * inner + m * inner)
        name = f"{m}x{n}x{k} to {inner}"
        found.append(Workload("matmul + norm", name, _normalised, (m, n, k, inner), flops, traffic))
    for m, n, k in GATED:
        traffic = 2.0 * (m * k + 2 * k * n + m * n)
        found.append(Workload("gated matmul", f"{m}x{n}x{k}", _gated, (m, n, k), 4.0 * m * n * k, traffic))
    for images in (1, 64):
        for channels, size, outputs, kernel, stride, *groups in [*RESNET, *MOBILENET, *RESNEXT]:
            pixels = images * ((size - 1) // stride + 1) ** 2
            taps = channels // (groups or [1])[0] * kernel * kernel
            traffic = 2.0 * (images * channels * size * size + taps * outputs + pixels * outputs)
            name = f"b{images} {channels}x{size}x{size} to {outputs}, {kernel}x{kernel}/{stride}"
            name += "".join(f", {number} groups" for number in groups)
            parameters = (images, channels, size, outputs, kernel, stride, *groups)
            flops = 2.0 * pixels * outputs * taps
            found.append(Workload("convolution", name, _convolution, parameters, flops, traffic))
        for channels, size, kernel, stride in DEPTHWISE:
            pixels, taps = images * ((size - 1) // stride + 1) ** 2, kernel * kernel
            traffic = 2.0 * channels * (images * size * size + taps + pixels)
            name = f"b{images} {channels}x{size}x{size}, {kernel}x{kernel}/{stride}"
            parameters = (images, channels, size, kernel, stride)
            found.append(Workload("depthwise", name, _depthwise, parameters, 2.0 * pixels * channels * taps, traffic))
    for batch, heads, tokens, width, causal in ATTENTION:
        work = 4.0 * batch * heads * tokens * tokens * width / (2 if causal else 1)
        name = f"{batch}x{heads}x{tokens}x{width}{' causal' if causal else ''}"
        parameters = (batch, heads, tokens, tokens, width, causal)
        found.append(Workload("attention", name, _attention, parameters, work, 8.0 * batch * heads * tokens * width))
    for batch, heads, keys, width in DECODE_ATTENTION:
        size = batch * heads * keys * width
        name = f"{batch}x{heads}x1 of {keys}x{width}"
        parameters = (batch, heads, 1, keys, width, False)
        found.append(Workload("attention decode", name, _attention, parameters, 4.0 * size, 4.0 * size))
    for batch, heads, shared, keys, width in GROUPED_DECODE:
        size = batch * keys * width
        name = f"{batch}x{heads} of {shared}x1 of {keys}x{width}"
        parameters = (batch, heads, shared, keys, width)
        work, traffic = 4.0 * heads * size, 4.0 * shared * size
        found.append(Workload("grouped decode", name, _grouped_decode, parameters, work, traffic))
    for rows, columns in ((4096, 1024), (8192, 4096), (2048, 32768)):
        size = rows * columns
        name = f"silu + add {rows}x{columns}"
        found.append(Workload("memory", name, _pointwise, (rows, columns), 0, 6.0 * size))
        for operator in ("Softmax", "LayerNormalization", "RMSNormalization"):
            name = f"{operator} {rows}x{columns}"
            found.append(Workload("memory", name, _rows, (operator, rows, columns), 0, 4.0 * size))
    for images, channels, size, groups in GROUP_NORM:
        name = f"GroupNormalization + silu {images}x{channels}x{size}x{size}"
        elements = images * channels * size * size
        parameters = (images, channels, size, groups)
        found.append(Workload("group norm", name, _group_norm, parameters, 0, 4.0 * elements))
    for shape, permutation in TRANSPOSES:
        name = f"{'x'.join(map(str, shape))} by {''.join(map(str, permutation))}"
        found.append(Workload("transpose", name, _transpose, (shape, permutation), 0, 4.0 * math.prod(shape)))
    for shape, axes in SUMS:
        name = f"sum of {'x'.join(map(str, shape))} over {', '.join(map(str, axes))}"
        found.append(Workload("sum", name, _sum, (shape, axes), 0, 2.0 * math.prod(shape)))
    return found


# kind, left, right, which of them is turned, whether the right one is a weight
TYPED = [
    *((kind, (4096, 4096), (4096, 4096), (False, False), True) for kind in KINDS if kind != "f16"),
    *((kind, (300, 2048), (2048, 1000), (False, False), True) for kind in ("tf32", "s8", "e5m2")),
    ("f16", (16, 1024, 128), (16, 1024, 128), (False, True), False),
    ("f16", (16, 128, 1024), (16, 128, 1024), (True, False), False),
    ("bf16", (16, 1024, 128), (16, 1024, 128), (False, True), False),
    ("f16", (32, 200, 512), (512, 1024), (False, False), False),
    ("f16", (8, 512, 2048), (8, 2048, 1024), (False, False), True),
    ("f16", (1000, 1001), (1001, 1000), (False, False), False),
    ("f16", (1000, 1000), (1000, 1001), (False, False), False),
]


def _variants() -> list[Workload]:
    """Batches, experts (a batch of weights), operands turned, lines of odd length, types other than f16."""
    found = []
    for kind, left, right, turned, stored in TYPED:
        parameters = (kind, left, right, turned, stored)
        shapes = zip((left, right), turned, strict=True)
        sizes = ["x".join(map(str, shape)) + ("^T" if flag else "") for shape, flag in shapes]
        name = f"{kind} {sizes[0]} by {sizes[1]}{' (weights)' if stored else ''}"
        rows, columns = left[-1 if turned[0] else -2], right[-2 if turned[1] else -1]
        batch, depth = math.prod(left[:-2]), left[-2 if turned[0] else -1]
        width, made = {"s8": (1, 4), "u8": (1, 4), "tf32": (4, 4), "e4m3": (1, 2), "e5m2": (1, 2)}.get(kind, (2, 2))
        traffic = float(width * (math.prod(left) + math.prod(right)) + made * batch * rows * columns)
        precision = kind if kind in ("bf16", "tf32") else ""
        flops = 2.0 * batch * rows * columns * depth
        found.append(Workload("typed matmul", name, _typed_matmul, parameters, flops, traffic, precision))
    return found


WORKLOADS = _workloads()
VARIANTS = _variants()
