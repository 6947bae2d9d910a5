"""Normalisations, decomposed into maps and reductions that fusion later puts into one kernel.

In: a tensor, scale and bias. Out: the normalised tensor in its dtype; statistics are computed in f32.
"""

from __future__ import annotations

import numpy as np
from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.errors import ModelError
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Array, Tensor
from .reduction import lp_norm, wide, widened


@onnx_operator("BatchNormalization")
def batch_normalization(node: Node) -> ir.Value | list[ir.Value]:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias with the statistics of training."""
    if node.get("training_mode", 0) or (node.version >= 9 and any(node.wants(position) for position in range(1, 5))):
        return _trained(node)
    if node.version < 9 and not node.get("spatial", 1):
        raise Unsupported("BatchNormalization with spatial=0", "statistics for each channel")
    epsilon: float = node.get("epsilon", 1e-5)
    x, rank = node.input(0), node.rank(0)
    statistics = [node.input(position) for position in range(1, 5)]
    if all(tensor.is_constant for tensor in statistics):
        scale, offset = (node.per_channel(node.literal(array, wide(x.dtype)), rank) for array in _affine(node, epsilon))
        return node.map([widened(node, x), scale, offset], lambda v, s, o: v * s + o, element=x.dtype)
    channels = [node.per_channel(node.tensor(widened(node, tensor)), rank) for tensor in statistics]

    def body(v: Scalar, s: Scalar, b: Scalar, m: Scalar, variance: Scalar) -> Scalar:
        return (v - m) / (variance + epsilon).sqrt() * s + b

    return node.map([widened(node, x), *channels], body, element=x.dtype)


def _trained(node: Node) -> list[ir.Value]:
    """With the statistics of this batch; the running ones move towards them by 1 - momentum.

    Before opset 14 the batch's own statistics follow as two more outputs.
    """
    x, epsilon, momentum = node.input(0), node.get("epsilon", 1e-5), node.get("momentum", 0.9)
    axes = [axis for axis in range(x.rank) if axis != 1]
    value = widened(node, x)
    centred, mean, inverse = _statistics(node, value, axes, epsilon)
    variance = build.mean(node.map([centred], lambda d: d * d), axes)
    scale, bias = (node.per_channel(node.tensor(widened(node, node.input(place))), x.rank) for place in (1, 2))
    result = node.map([centred, inverse, scale, bias], lambda v, i, s, b: v * i * s + b, element=x.dtype)
    current = [build.reshape(item, [x.shape[1]]) for item in (mean, variance)]
    running = [
        node.map(
            [node.input(3 + place), item],
            lambda old, new: (old.cast(new.dtype) * momentum + new * (1.0 - momentum)).cast(old.dtype),
        )
        for place, item in enumerate(current)
    ]
    return [result, *running] if node.version >= 14 else [result, *running, *current]


def _affine(node: Node, epsilon: float) -> tuple[Array, Array]:
    """Scale and offset of the whole operator, computed in f64 from the constants."""
    scale, bias, mean, variance = (node.input(i).array().astype(np.float64) for i in range(1, 5))
    if len({array.shape for array in (scale, bias, mean, variance)}) > 1:
        raise ModelError("scale, bias, mean and variance of different sizes")
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + epsilon)
    target = np.float64 if node.dtype(0) == "f64" else np.float32
    return factor.astype(target), (bias - mean * factor).astype(target)


def _statistics(node: Node, value: ir.Value, axes: list[int], epsilon: float) -> tuple[ir.Value, ir.Value, ir.Value]:
    """(value - mean, mean, 1 / sqrt(variance + epsilon)) over `axes`."""
    mean = build.mean(value, axes)
    centred = node.map([value, mean], lambda x, m: x - m)
    return centred, mean, _inverse_deviation(node, centred, axes, epsilon)


def _inverse_deviation(node: Node, centred: ir.Value, axes: list[int], epsilon: float) -> ir.Value:
    squares = build.mean(node.map([centred], lambda d: d * d), axes)
    return node.map([squares], lambda v: 1.0 / (v + epsilon).sqrt())


@onnx_operator("LayerNormalization")
def layer_normalization(node: Node) -> list[ir.Value]:
    """Over all dimensions from `axis` on. Outputs: normalised, mean, inverse standard deviation."""
    x = node.input(0)
    axes = list(range(node.axis(node.get("axis", -1), x.rank), x.rank))
    centred, mean, inverse = _statistics(node, widened(node, x), axes, node.get("epsilon", 1e-5))
    result = _scaled(node, centred, inverse, x.dtype)
    return [result, mean, inverse]


def _scaled(node: Node, centred: ir.Value, inverse: ir.Value, dtype: str) -> ir.Value:
    """centred * inverse * scale + bias (the bias is optional)."""
    kind = wide(dtype)
    parameters = [node.input(1)] + ([node.input(2)] if node.has(2) else [])

    def body(d: Scalar, i: Scalar, scale: Scalar, *bias: Scalar) -> Scalar:
        result = d * i * scale.cast(kind)
        return result + bias[0].cast(kind) if bias else result

    return node.map([centred, inverse, *parameters], body, element=dtype)


@onnx_operator("SimplifiedLayerNormalization", "RMSNormalization")
def rms_normalization(node: Node) -> ir.Value:
    x = node.input(0)
    axes = list(range(node.axis(node.get("axis", -1), x.rank), x.rank))
    value = widened(node, x)
    return _scaled(node, value, _inverse_deviation(node, value, axes, node.get("epsilon", 1e-5)), x.dtype)


@onnx_operator("InstanceNormalization")
def instance_normalization(node: Node) -> ir.Value:
    x = node.input(0)
    axes = list(range(2, x.rank))
    centred, _, inverse = _statistics(node, widened(node, x), axes, node.get("epsilon", 1e-5))
    return _per_channel_affine(node, centred, inverse, node.input(1), node.input(2), x)


def _per_channel_affine(
    node: Node, centred: ir.Value, inverse: ir.Value, scale: Tensor, bias: Tensor, x: Tensor
) -> ir.Value:
    kind = wide(x.dtype)
    parameters = [node.per_channel(tensor, x.rank) for tensor in (scale, bias)]
    return node.map(
        [centred, inverse, *parameters], lambda d, i, s, b: d * i * s.cast(kind) + b.cast(kind), element=x.dtype
    )


@onnx_operator("GroupNormalization", since=18)
def group_normalization(node: Node) -> ir.Value:
    """Scale and bias are one a group in opset 18 and one a channel since 21.

    Groups are joined lines, as PyTorch exports them: passes/graph/unfold_reshapes.py finds the shape that what comes
    before and after can follow.
    """
    x, groups = node.input(0), int(node.get("num_groups"))
    batch, channels, *spatial = x.shape
    joined = build.reshape(x.value, [batch, groups, channels // groups * build.product(spatial)])
    kind = wide(x.dtype)
    centred, _, inverse = _statistics(node, build.cast(joined, kind), [2], node.get("epsilon", 1e-5))
    scale, bias = node.input(1), node.input(2)
    if node.version >= 21 or (scale.shape[0] == channels and channels != groups):
        normal = build.reshape(node.map([centred, inverse], lambda d, i: d * i), x.shape)
        parameters = [node.per_channel(tensor, x.rank) for tensor in (scale, bias)]
        return node.map([normal, *parameters], lambda n, s, b: n * s.cast(kind) + b.cast(kind), element=x.dtype)
    parameters = [node.reshaped(tensor, [groups, 1]) for tensor in (scale, bias)]
    result = node.map(
        [centred, inverse, *parameters], lambda d, i, s, b: d * i * s.cast(kind) + b.cast(kind), element=x.dtype
    )
    return build.reshape(result, x.shape)


@onnx_operator("MeanVarianceNormalization")
def mean_variance_normalization(node: Node) -> ir.Value:
    x = node.input(0)
    axes = node.axes(node.get("axes", [0, 2, 3]), x.rank)
    value = widened(node, x)
    centred = node.map([value, build.mean(value, axes)], lambda v, m: v - m)
    deviation = node.map([build.mean(node.map([centred], lambda d: d * d), axes)], lambda v: v.sqrt() + 1e-9)
    return node.map([centred, deviation], lambda d, s: d / s, element=x.dtype)


@onnx_operator("LpNormalization")
def lp_normalization(node: Node) -> ir.Value:
    """x / |x|_p along one axis; zero where the norm is zero."""
    x = node.input(0)
    axis = node.axis(node.get("axis", -1), x.rank)
    norm = lp_norm(node, x, [axis], node.get("p", 2))
    return node.map([x, norm], lambda v, n: n.eq(0.0).select(0.0, v / n))


@onnx_operator("LRN")
def local_response_normalization(node: Node) -> ir.Value:
    """x / (bias + alpha/size * sum of squares over `size` neighbouring channels)^beta."""
    x, size = node.input(0), int(node.get("size"))
    alpha, beta, bias = node.get("alpha", 1e-4), node.get("beta", 0.75), node.get("bias", 1.0)
    low, high = (size - 1) // 2, size // 2
    batch, channels, *spatial = x.shape
    squares = node.map([widened(node, x)], lambda v: v * v)
    flat = build.reshape(squares, [batch, 1, channels, build.product(spatial)])
    window = build.pool(flat, "sum", [size, 1], [1, 1], [low, 0, high, 0], [1, 1])
    total = build.reshape(window, x.shape)
    return node.map(
        [widened(node, x), total],
        lambda v, s: v / (s * (alpha / size) + bias).power(beta),
        element=x.dtype,
    )
