"""Optimizer steps of ai.onnx.preview.training.

In: learning rate, step number, then tensors, gradients and states, each as many as there are tensors. Out: the
new tensors and states: one map each.
"""

from __future__ import annotations

from mlir import ir

from ....dialects.scalar import Scalar
from ....runtime.errors import ModelError
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Tensor

DOMAIN = "ai.onnx.preview.training"


def _groups(node: Node, count: int) -> list[list[Tensor]]:
    """The inputs after rate and step, for each tensor: itself, its gradient, its states."""
    rest = len(node.inputs) - 2
    if rest % count:
        raise ModelError(f"node '{node.name}' ({node.operator}): {rest} tensors are not groups of {count}")
    each = rest // count
    return [[node.input(2 + kind * each + number) for kind in range(count)] for number in range(each)]


def _floats(node: Node, *defaults: tuple[str, float]) -> list[float]:
    return [float(node.get(name, default)) for name, default in defaults]


def _in_order(results: list[list[ir.Value]]) -> list[ir.Value]:
    return [value for column in zip(*results, strict=True) for value in column]


@onnx_operator("Adagrad", domain=DOMAIN)
def adagrad(node: Node) -> list[ir.Value]:
    """Rate over the root of the sum of squared gradients."""
    decay, norm, epsilon = _floats(node, ("decay_factor", 0.0), ("norm_coefficient", 0.0), ("epsilon", 1e-6))
    rate, step = node.input(0), node.input(1)
    results = []
    for x, gradient, squares in _groups(node, 3):
        total = node.map([x, gradient, squares], lambda v, g, h: h + (g + v * norm) * (g + v * norm))

        def moved(v: Scalar, g: Scalar, h: Scalar, r: Scalar, t: Scalar) -> Scalar:
            current = r / (t.cast(r.dtype) * decay + 1.0)
            return v - current * (g + v * norm) / (h.sqrt() + epsilon)

        results.append([node.map([x, gradient, total, rate, step], moved, shape=x.shape), total])
    return _in_order(results)


@onnx_operator("Momentum", domain=DOMAIN)
def momentum(node: Node) -> list[ir.Value]:
    """Plain or Nesterov's; the first step takes the gradient as it is."""
    alpha, beta, norm = _floats(node, ("alpha", 0.0), ("beta", 0.0), ("norm_coefficient", 0.0))
    nesterov = node.get("mode") == "nesterov"
    rate, step = node.input(0), node.input(1)
    results = []
    for x, gradient, velocity in _groups(node, 3):

        def faster(v: Scalar, g: Scalar, m: Scalar, t: Scalar) -> Scalar:
            share = t.gt(0).select(Scalar.constant(beta, v.dtype), Scalar.constant(1.0, v.dtype))
            return m * alpha + share * (g + v * norm)

        new = node.map([x, gradient, velocity, step], faster, shape=x.shape)

        def moved(v: Scalar, g: Scalar, m: Scalar, r: Scalar) -> Scalar:
            return v - r * (g + v * norm + m * alpha if nesterov else m)

        results.append([node.map([x, gradient, new, rate], moved, shape=x.shape), new])
    return _in_order(results)


@onnx_operator("Adam", domain=DOMAIN)
def adam(node: Node) -> list[ir.Value]:
    """Moving averages of the gradient and of its square; the rate is corrected for the first steps."""
    alpha, beta, epsilon = _floats(node, ("alpha", 0.9), ("beta", 0.999), ("epsilon", 1e-6))
    norm, after = _floats(node, ("norm_coefficient", 0.0), ("norm_coefficient_post", 0.0))
    rate, step = node.input(0), node.input(1)
    results = []
    for x, gradient, velocity, squares in _groups(node, 4):
        first = node.map([x, gradient, velocity], lambda v, g, m: m * alpha + (g + v * norm) * (1.0 - alpha))
        second = node.map(
            [x, gradient, squares], lambda v, g, h: h * beta + (g + v * norm) * (g + v * norm) * (1.0 - beta)
        )

        def moved(v: Scalar, m: Scalar, h: Scalar, r: Scalar, t: Scalar) -> Scalar:
            count = t.cast(r.dtype)
            powers = [Scalar.constant(base, r.dtype).power(count) for base in (alpha, beta)]
            corrected = r * (1.0 - powers[1]).sqrt() / (1.0 - powers[0])
            return (v - t.gt(0).select(corrected, r) * m / (h.sqrt() + epsilon)) * (1.0 - after)

        results.append([node.map([x, first, second, rate, step], moved, shape=x.shape), first, second])
    return _in_order(results)
