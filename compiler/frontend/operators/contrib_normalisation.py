"""onnxruntime's operators (com.microsoft) that its optimisers write for diffusion models and for masked softmax.

In: tensors with the channels last, unless the node says otherwise. Out: group normalisations with what is added before
and the activation after, biases with gates, and a softmax of a sum.
"""

from __future__ import annotations

from typing import Any

from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Tensor
from .contrib import DOMAIN, ScalarFunction, gelu
from .contrib_layouts import channels_moved_last, channels_moved_second
from .reduction import softmax_of, wide

ACTIVATIONS: dict[int, ScalarFunction] = {0: lambda x: x, 1: lambda x: x * x.sigmoid()}


@onnx_operator("GroupNorm", domain=DOMAIN)
def group_norm(node: Node) -> ir.Value:
    """[N, spatial..., C], each group of channels normalised, times gamma, plus beta; perhaps with SiLU after."""
    return _grouped(node, node.input(0))


@onnx_operator("SkipGroupNorm", domain=DOMAIN)
def skip_group_norm(node: Node) -> list[ir.Value]:
    """The sum of input, skip and bias, normalised, and the sum itself. A skip [N, C] is the same everywhere."""
    x, skip, bias = node.input(0), node.input(3), node.optional(4)
    last = bool(node.get("channels_last", 1))
    if skip.rank == 2:
        batch, channels = skip.shape
        ones = [1] * (x.rank - 2)
        skip = node.reshaped(skip, [batch, *ones, channels] if last else [batch, channels, *ones])
    parts = [x, skip]
    if bias is not None:
        parts.append(bias if last else node.per_channel(bias, x.rank))
    total = _sum(node, parts)
    return [_grouped(node, node.tensor(total)), total]


def _sum(node: Node, parts: list[Tensor]) -> ir.Value:
    kind, dtype = wide(parts[0].dtype), parts[0].dtype
    return node.map(parts, lambda first, *rest: sum((item.cast(kind) for item in rest), first.cast(kind)).cast(dtype))


def _grouped(node: Node, x: Tensor) -> ir.Value:
    activation = ACTIVATIONS.get(int(node.get("activation", 0)))
    if activation is None:
        raise Unsupported(f"{node.operator} with activation {node.get('activation')}", "0 (none), 1 (SiLU)")
    last = bool(node.get("channels_last", 1))
    first = channels_moved_second(x.value) if last else x
    options: dict[str, Any] = {"num_groups": int(node.get("groups")), "epsilon": float(node.get("epsilon", 1e-5))}
    scales = [node.tensor(build.cast(node.value(place), x.dtype)) for place in (1, 2)]
    (normal,) = node.apply("GroupNormalization", [first, *scales], version=21, **options)
    value = node.map([normal], lambda v: activation(v.cast(wide(x.dtype))).cast(x.dtype))
    return channels_moved_last(value) if last else value


@onnx_operator("BiasAdd", domain=DOMAIN)
def bias_add(node: Node) -> ir.Value:
    """Input, a bias for each channel, and a skip connection."""
    return _sum(node, [node.input(place) for place in range(3)])


@onnx_operator("BiasSplitGelu", domain=DOMAIN)
def bias_split_gelu(node: Node) -> ir.Value:
    """Of input plus bias, [N, places, 2 C], the first half of each row times the Gelu of the second."""
    total = node.map([node.input(0), node.input(1)], lambda x, b: x + b)
    *places, channels = build.shape_of(total)
    shape, half = [*places, channels // 2], channels // 2
    left, right = (build.slice(total, [*[0] * len(places), start], shape) for start in (0, half))
    kind = wide(node.dtype(0))
    return node.map([left, right], lambda a, b: a.cast(kind) * gelu(b.cast(kind)), element=node.dtype(0))


@onnx_operator("BiasSoftmax", domain=DOMAIN)
def bias_softmax(node: Node) -> ir.Value:
    """The softmax of input plus bias, over the axes from `axis` on."""
    dtype, rank = node.dtype(0), node.rank(0)
    kind = wide(dtype)

    def total(x: Scalar, bias: Scalar) -> Scalar:
        return x.cast(kind) + bias.cast(kind)

    axes = list(range(node.axis(node.get("axis", 1), rank), rank))
    return softmax_of(node, node.map([node.input(0), node.input(1)], total), axes, dtype)
