"""onnxruntime's mixtures of experts (com.microsoft): a router sends each row to the best `k` of `E` small networks.

In: rows, the router's scores, weights of all experts, as floats or packed integers. Out: every expert's products for
every row, batched, of which the router's weights keep the chosen: a static program that does E / k times their work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.symbolic import Expression
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Tensor
from .contrib import DOMAIN, ScalarFunction, fast_gelu
from .reduction import softmax_of, wide

ACTIVATIONS: dict[str, ScalarFunction] = {
    "relu": lambda x: x.maximum(0.0),
    "gelu": fast_gelu,
    "silu": lambda x: x * x.sigmoid(),
    "identity": lambda x: x,
}


@dataclass(frozen=True)
class Layer:
    """A layer of all experts: weights [E, outputs, inputs], biases [E, outputs] or none."""

    weights: ir.Value
    bias: Tensor | None

    def of(self, node: Node, rows: ir.Value) -> ir.Value:
        """[E, rows, outputs], of rows [E, rows, inputs]; wide dtype."""
        element = wide(build.element_of(rows))
        value = build.matmul(rows, self.weights, transpose_right=True, element=element, unify=node.unify)
        if self.bias is None:
            return value
        count, outputs = self.bias.shape
        bias = node.reshaped(self.bias, [count, 1, outputs])
        return node.map([value, bias], lambda v, b: v + b.cast(element))


@onnx_operator("MoE", domain=DOMAIN)
def mixture_of_experts(node: Node) -> ir.Value:
    layers = [
        Layer(node.value(place), node.optional(place + 1)) if node.has(place) else None for place in (2, 4, 6)
    ]
    return _mixed(node, layers, None)


@onnx_operator("QMoE", domain=DOMAIN)
def quantised_mixture_of_experts(node: Node) -> ir.Value:
    """The same with weights of 2, 4 or 8 bits, whose rows have a scale each, or one for every block."""
    kind = node.get("quant_type", "int")
    if kind != "int" or int(node.get("weights_prepacked", -1)) == 1:
        what = f"quant_type '{kind}'" if kind != "int" else "weights in the layout of one machine"
        raise Unsupported(f"QMoE with {what}", "quant_type 'int', weights that are not prepacked")
    layers = [_quantised(node, number) if node.has(2 + 3 * number) else None for number in range(3)]
    return _mixed(node, layers, node.optional(14))


def _quantised(node: Node, number: int) -> Layer:
    """Layer `number` with its weights dequantised where the product reads them."""
    packed, scales = node.input(2 + 3 * number), node.input(3 + 3 * number)
    zeros, bias = node.optional(11 + number), node.optional(4 + 3 * number)
    bits = int(node.get(f"fc{number + 1}_expert_weight_bits") or node.get("expert_weight_bits", 4))
    if bits not in (2, 4, 8):
        raise Unsupported(f"QMoE with weights of {bits} bits", "2, 4, 8")
    per_byte = 8 // bits
    experts, outputs, stored = packed.shape
    depth = stored * per_byte
    block = Expression.constant(int(node.get("block_size", 0))) if scales.rank == 3 else depth

    def field(table: Tensor, places: Sequence[Scalar]) -> Scalar:
        """An element of a packed row, as f32."""
        *row, place = places
        byte = build.element_at(table.value, [*row, place / per_byte]).cast("i32")
        shift = (place % per_byte).cast("i32") * bits
        return (byte.shift_right(shift) & ((1 << bits) - 1)).cast("f32")

    def weight() -> Scalar:
        expert, output, place = (build.index(axis) for axis in range(3))
        group = place / build.dimension(block)
        where = [expert, output, group] if scales.rank == 3 else [expert, output]
        scale = build.element_at(scales.value, where).cast("f32")
        middle = field(zeros, where) if zeros is not None else float(1 << (bits - 1))
        return ((field(packed, [expert, output, place]) - middle) * scale).cast(node.dtype(0))

    return Layer(node.map([], weight, shape=[experts, outputs, depth]), bias)


def _mixed(node: Node, layers: list[Layer | None], weights: Tensor | None) -> ir.Value:
    """The chosen experts' outputs, weighted."""
    first, second, third = layers
    assert first is not None and second is not None
    x = node.input(0)
    experts = build.shape_of(first.weights)[0]
    rows = node.reshaped(x, [build.product(x.shape[:-1]), x.shape[-1]])
    spread = build.broadcast(build.expand_dimensions(rows.value, [0]), [experts, *rows.shape])
    inner = _activated(node, first.of(node, spread), third.of(node, spread) if third else None)
    outer = second.of(node, build.cast(inner, x.dtype))
    shares = build.transpose(_shares(node, weights).value, [1, 0])
    shares = build.expand_dimensions(shares, [2])
    kept = node.map([outer, shares], lambda v, share: share.eq(0.0).select(0.0, v * share.cast(v.dtype)))
    total = build.remove_dimensions(build.reduce(kept, "sum", [0]), [0])
    return build.reshape(build.cast(total, x.dtype), x.shape)


def _shares(node: Node, weights: Tensor | None) -> Tensor:
    """[rows, E]: how much of each expert a row gets, 0 for those that are not among its best: `weights` where they are
    given, else the softmax of the router's scores.
    """
    if node.get("use_sparse_mixer", 0):
        raise Unsupported(f"{node.operator} with use_sparse_mixer", "the softmax of the router's scores")
    scores = node.input(1)
    wanted = node.literal(np.array([int(node.get("k", 1))], np.int64), "i64")
    _, places = node.apply("TopK", [scores, wanted], 2, axis=1)
    kind = wide(scores.dtype)
    value = softmax_of(node, build.cast(scores.value, kind), [1], kind) if weights is None else weights.value
    best = node.apply("GatherElements", [build.cast(value, kind), places], axis=1)[0]
    if node.get("normalize_routing_weights", 0):
        total = build.reduce(best.value, "sum", [1])
        best = node.tensor(node.map([best, total], lambda v, s: v / s))
    nothing = build.splat(0.0, scores.shape, kind)
    return node.apply("ScatterElements", [nothing, places, best], axis=1)[0]


def _activated(node: Node, value: ir.Value, gate: ir.Value | None) -> ir.Value:
    """The activation of the first layer, times the third one's output where there is one."""
    name = node.get("activation_type", "relu")
    if name == "swiglu":
        return _swiglu(node, value, gate)
    if name not in ACTIVATIONS:
        raise Unsupported(f"{node.operator} with the activation '{name}'", ", ".join([*ACTIVATIONS, "swiglu"]))
    inputs = [value] if gate is None else [value, gate]
    return node.map(inputs, lambda v, *g: ACTIVATIONS[name](v) * g[0] if g else ACTIVATIONS[name](v))


def _swiglu(node: Node, value: ir.Value, linear: ir.Value | None) -> ir.Value:
    """g * sigmoid(alpha * g) * (l + beta); g and l come from two layers, or from one, in turn or in halves."""
    fusion = int(node.get("swiglu_fusion", 0))
    experts, rows, outputs = build.shape_of(value)
    if linear is None and fusion == 0:
        raise Unsupported(f"{node.operator} with swiglu of one layer and swiglu_fusion 0", "a third layer, or 1 or 2")
    if linear is None:
        half = outputs // 2
        step, start = (2, Expression.constant(1)) if fusion == 1 else (1, half)
        shape = [experts, rows, half]
        value, linear = (build.slice(value, [0, 0, first], shape, [1, 1, step]) for first in (0, start))
    alpha, beta = float(node.get("activation_alpha", 1.0)), float(node.get("activation_beta", 0.0))
    limit = node.get("swiglu_limit")

    def body(gate: Scalar, other: Scalar) -> Scalar:
        if limit is not None:
            gate, other = gate.minimum(float(limit)), other.clip(-float(limit), float(limit))
        return gate * (gate * alpha).sigmoid() * (other + beta)

    return node.map([value, linear], body)
