"""What the work of benchmarks/workloads.py and quantised_workloads.py must answer: some elements of it, in float64.

In: a workload, its inputs and weights as arrays. Out: a `Sample`: places of the result, and the values there. Why: a
product of 16384^3 in float64 takes hours, and an element of every tile says as much about the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from benchmarks.quantised_workloads import BLOCK
from benchmarks.workloads import Workload

Array = np.ndarray[Any, Any]
Tensors = Mapping[str, Array]
ROWS, COLUMNS = 256, 512  # one of every 64 rows and 32 columns of a product of 16384^3: tiles are larger
POSITIONS = 2048  # of a convolution's result, or of queries
LOW, HIGH = -128, 127


@dataclass(frozen=True)
class Sample:
    """`index` picks elements of the result, `values` are the exact ones, before the last rounding."""

    index: Any
    values: Array


Reference = Callable[[tuple[Any, ...], Tensors, np.random.Generator], Sample]


def sample(workload: Workload, tensors: Tensors, seed: int) -> Sample:
    """Elements of the result that the model `workload` has for `tensors`, inputs and weights by name."""
    return _REFERENCES[workload.family](workload.parameters, tensors, np.random.default_rng(seed))


def lines(random: np.random.Generator, count: int, most: int) -> Array:
    """Up to `most` of `count` lines, one at random out of each part of equal size, the first and the last too."""
    if count <= most:
        return np.arange(count)
    edges = np.linspace(0, count, most - 1).astype(np.int64)
    return np.unique([0, *random.integers(edges[:-1], edges[1:]), count - 1])


def exact(array: Array) -> Array:
    """The same values in float64."""
    return array.astype(np.float64)


def _product(left: Array, right: Array, random: np.random.Generator) -> tuple[Any, Array]:
    """Places and values of some rows and columns of a product, of every matrix of a batch."""
    rows, columns = lines(random, left.shape[-2], ROWS), lines(random, right.shape[-1], COLUMNS)
    values = exact(left[..., rows, :]) @ exact(right[..., :, columns])
    return (..., rows[:, None], columns), values


def _matmul(parameters: tuple[Any, ...], tensors: Tensors, random: np.random.Generator) -> Sample:
    return Sample(*_product(tensors["a"], tensors["b"], random))


def _typed(parameters: tuple[Any, ...], tensors: Tensors, random: np.random.Generator) -> Sample:
    operands = [
        tensors[name].swapaxes(-1, -2) if turned else tensors[name]
        for name, turned in zip("ab", parameters[3], strict=True)
    ]
    return Sample(*_product(operands[0], operands[1], random))


def _gelu(x: Array) -> Array:
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def _error_gelu(x: Array) -> Array:
    return x / 2 * (1 + np.vectorize(math.erf, otypes=[np.float64])(x / np.sqrt(2)))


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _fused(parameters: tuple[Any, ...], tensors: Tensors, random: np.random.Generator) -> Sample:
    index, product = _product(tensors["a"], tensors["b"], random)
    values = _gelu(product + exact(tensors["bias"])[index[-1]]) + exact(tensors["residual"][index])
    return Sample(index, values)


def _normalised(parameters: tuple[Any, ...], tensors: Tensors, random: np.random.Generator) -> Sample:
    rows, columns = lines(random, parameters[0], ROWS), lines(random, parameters[3], COLUMNS)
    total = exact(tensors["a"][rows]) @ exact(tensors["b"]) + exact(tensors["bias"]) + exact(tensors["residual"][rows])
    values = _gelu(_layer_norm(total, tensors) @ exact(tensors["c"][:, columns]))
    return Sample((rows[:, None], columns), values)


def _gated(parameters: tuple[Any, ...], tensors: Tensors, random: np.random.Generator) -> Sample:
    state = random.bit_generator.state
    index, gate = _product(tensors["a"], tensors["gate"], random)
    random.bit_generator.state = state  # the same places again
    _, up = _product(tensors["a"], tensors["up"], random)
    return Sample(index, gate * _sigmoid(gate) * up)


def _windows(tensors: Tensors, kernel: int, stride: int, random: np.random.Generator) -> tuple[Any, Array]:
    """Places of results of a convolution, channels-last, and the window of each: [places, kernel, kernel, channels]."""
    images, size, _, _ = tensors["x"].shape
    result = (size + 2 * (kernel // 2) - kernel) // stride + 1
    flat = lines(random, images * result * result, POSITIONS)
    image, row, column = flat // result**2, flat // result % result, flat % result
    reach = np.arange(kernel) - kernel // 2
    rows = (row[:, None] * stride + reach)[:, :, None]
    columns = (column[:, None] * stride + reach)[:, None, :]
    inside = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)
    taken = tensors["x"][image[:, None, None], rows.clip(0, size - 1), columns.clip(0, size - 1)]
    return (image, row, column), exact(taken) * inside[..., None]


def _convolution(parameters: tuple[Any, ...], tensors: Tensors, random: np.random.Generator) -> Sample:
    index, windows = _windows(tensors, *parameters[4:6], random)
    groups = parameters[6] if len(parameters) > 6 else 1
    weights = exact(tensors["w"]).reshape(groups, -1, *tensors["w"].shape[1:])
    parts = np.split(windows, groups, axis=3)
    sums = [np.tensordot(own, weight, ((1, 2, 3), (2, 3, 1))) for own, weight in zip(parts, weights, strict=True)]
    return Sample(index, np.maximum(np.concatenate(sums, axis=-1) + exact(tensors["b"]), 0))


def _depthwise(parameters: tuple[Any, ...], tensors: Tensors, random: np.random.Generator) -> Sample:
    index, windows = _windows(tensors, *parameters[-2:], random)
    weights = exact(tensors["w"])[:, 0].transpose(1, 2, 0)
    return Sample(index, ((windows * weights).sum((1, 2)) + exact(tensors["b"])).clip(0, 6))


def _attention(parameters: tuple[Any, ...], tensors: Tensors, random: np.random.Generator) -> Sample:
    q, k, v = tensors["q"], tensors["k"], tensors["v"]
    batch, heads, queries, width = q.shape
    shared = k.shape[1]
    chosen = lines(random, queries, max(8, POSITIONS // 2 // (batch * heads)))
    values = np.empty((batch, heads, len(chosen), width))
    hidden = np.arange(k.shape[2]) > chosen[:, None] if parameters[-1] is True else False
    for entry in range(batch):
        for head in range(heads):
            own = head * shared // heads
            scores = exact(q[entry, head, chosen]) @ exact(k[entry, own]).T / np.sqrt(width)
            scores = np.where(hidden, -np.inf, scores)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            values[entry, head] = weights @ exact(v[entry, own]) / weights.sum(-1, keepdims=True)
    return Sample((slice(None), slice(None), chosen), values)


def _softmax(x: Array, tensors: Tensors) -> Array:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def _layer_norm(x: Array, tensors: Tensors) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    normal = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return np.asarray(normal * exact(tensors["scale"]) + exact(tensors["shift"]))


def _rms_norm(x: Array, tensors: Tensors) -> Array:
    return np.asarray(x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * exact(tensors["scale"]))


_ROWS = {"Softmax": _softmax, "LayerNormalization": _layer_norm, "RMSNormalization": _rms_norm}


def _memory(parameters: tuple[Any, ...], tensors: Tensors, random: np.random.Generator) -> Sample:
    rows = lines(random, len(tensors["x"]), ROWS)
    x = exact(tensors["x"][rows])
    if parameters[0] in _ROWS:
        return Sample(rows, _ROWS[parameters[0]](x, tensors))
    return Sample(rows, x * _sigmoid(x) + exact(tensors["z"][rows]))


def _group_norm(parameters: tuple[Any, ...], tensors: Tensors, random: np.random.Generator) -> Sample:
    images, _channels, _size, groups = parameters
    x = exact(tensors["x"]).reshape(images, groups, -1)
    centred = x - x.mean(-1, keepdims=True)
    normal = (centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)).reshape(tensors["x"].shape)
    scaled = normal * exact(tensors["scale"])[:, None, None] + exact(tensors["shift"])[:, None, None]
    return Sample(..., scaled * _sigmoid(scaled))


def _transpose(parameters: tuple[Any, ...], tensors: Tensors, random: np.random.Generator) -> Sample:
    turned = tensors["x"].transpose(parameters[1])
    chosen = lines(random, len(turned), ROWS)
    return Sample(chosen, exact(turned[chosen]))


def _sum(parameters: tuple[Any, ...], tensors: Tensors, random: np.random.Generator) -> Sample:
    return Sample(..., tensors["x"].sum(parameters[1], dtype=np.float64, keepdims=True))


def _rounded(x: Array, scale: Array) -> Array:
    """To bytes and back."""
    return np.asarray(np.rint(x / exact(scale)).clip(LOW, HIGH) * exact(scale))


def _feed_forward(parameters: tuple[Any, ...], tensors: Tensors, random: np.random.Generator) -> Sample:
    """In steps of the result's scale, not rounded."""
    *_, activation, rounded = parameters
    index, product = _product(tensors["a"], tensors["b"], random)
    scale = tensors["y scale"]
    product = product * exact(tensors["b scales"])[index[-1]] * exact(tensors["x scale"])
    values = (_rounded(product, scale) if rounded else product) + exact(tensors["bias"])[index[-1]]
    if activation:
        values = _error_gelu(_rounded(values, scale) if rounded else values)
    return Sample(index, (values / exact(scale)).clip(LOW, HIGH))


def _byte_convolution(parameters: tuple[Any, ...], tensors: Tensors, random: np.random.Generator) -> Sample:
    """In steps of the result's scale, not rounded."""
    index, windows = _windows(tensors, *parameters[-2:], random)
    sums = np.tensordot(windows, exact(tensors["w"]), ((1, 2, 3), (2, 3, 1)))
    values = sums * exact(tensors["w scales"]) * exact(tensors["x scale"]) + exact(tensors["bias"])
    return Sample(index, (np.maximum(values, 0) / exact(tensors["y scale"])).clip(LOW, HIGH))


def _four_bits(parameters: tuple[Any, ...], tensors: Tensors, random: np.random.Generator) -> Sample:
    _, columns, depth = parameters
    chosen = lines(random, columns, COLUMNS)
    packed = tensors["b"].reshape(columns, depth // 2)[chosen]
    numbers = exact(np.stack([packed & 15, packed >> 4], -1)).reshape(len(chosen), depth // BLOCK, BLOCK) - 8
    scales = exact(tensors["scales"]).reshape(columns, depth // BLOCK)[chosen]
    weights = (numbers * scales[..., None]).reshape(len(chosen), depth)
    return Sample((slice(None), chosen), exact(tensors["a"]) @ weights.T)


def _scaled_floats(parameters: tuple[Any, ...], tensors: Tensors, random: np.random.Generator) -> Sample:
    index, product = _product(tensors["a"], tensors["b"], random)
    values = product * exact(tensors["b scales"])[index[-1]] * exact(tensors["x scale"])
    return Sample(index, values / exact(tensors["y scale"]) if parameters[-1] else values)


_REFERENCES: dict[str, Reference] = {
    "matmul": _matmul,
    "matmul + epilogue": _fused,
    "matmul + norm": _normalised,
    "gated matmul": _gated,
    "typed matmul": _typed,
    "convolution": _convolution,
    "depthwise": _depthwise,
    "attention": _attention,
    "attention decode": _attention,
    "grouped decode": _attention,
    "memory": _memory,
    "group norm": _group_norm,
    "transpose": _transpose,
    "sum": _sum,
    "QDQ matmul": _feed_forward,
    "QDQ convolution": _byte_convolution,
    "int4 matmul": _four_bits,
    "scaled e4m3 matmul": _scaled_floats,
}
