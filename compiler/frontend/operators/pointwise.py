"""Operators of one tensor, element by element.

In: one tensor and attributes. Out: one map. Most are a row of a table: name and scalar function.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from mlir import ir

from ....dialects.narrow import ROUNDINGS, encode, is_narrow, is_narrow_float
from ....dialects.scalar import Scalar, is_float
from ....runtime.dtypes import DTYPES
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Tensor
from .random import seed_of, uniform


def _function(name: str) -> Callable[[Scalar], Scalar]:
    return lambda x: x.function(name)


FUNCTIONS = (
    *("Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cos", "Cosh", "Sin", "Sinh", "Tan", "Tanh"),
    *("Exp", "Log", "Sqrt", "Erf", "Floor", "Ceil", "Round"),
)
UNARY: dict[str, Callable[[Scalar], Scalar]] = {
    **{name: _function(name.lower()) for name in FUNCTIONS},
    "Abs": Scalar.abs,
    "Neg": lambda x: -x,
    "Not": lambda x: ~x,
    "BitwiseNot": lambda x: ~x,
    "Reciprocal": Scalar.reciprocal,
    "Sigmoid": Scalar.sigmoid,
    "Sign": Scalar.sign,
    "IsNaN": Scalar.is_nan,
    "Relu": lambda x: x.maximum(0),
    "Softplus": Scalar.softplus,
    "Softsign": lambda x: x / (1.0 + x.abs()),
    "Mish": lambda x: x * x.softplus().tanh(),
    "HardSwish": lambda x: x * (x * (1.0 / 6.0) + 0.5).clip(0.0, 1.0),
}


def _register(name: str, function: Callable[[Scalar], Scalar]) -> None:
    @onnx_operator(name)
    def import_unary(node: Node) -> ir.Value:
        return node.map([node.input(0)], function)


for _name, _body in UNARY.items():
    _register(_name, _body)


@onnx_operator("LeakyRelu")
def leaky_relu(node: Node) -> ir.Value:
    alpha = node.get("alpha", 0.01)
    return node.map([node.input(0)], lambda x: x.lt(0.0).select(x * alpha, x))


@onnx_operator("Elu")
def elu(node: Node) -> ir.Value:
    alpha = node.get("alpha", 1.0)
    return node.map([node.input(0)], lambda x: x.lt(0.0).select((x.exp() - 1.0) * alpha, x))


@onnx_operator("Celu")
def celu(node: Node) -> ir.Value:
    alpha = node.get("alpha", 1.0)
    return node.map([node.input(0)], lambda x: x.maximum(0.0) + (((x / alpha).exp() - 1.0) * alpha).minimum(0.0))


@onnx_operator("Selu")
def selu(node: Node) -> ir.Value:
    alpha = node.get("alpha", 1.67326319217681884765625)
    gamma = node.get("gamma", 1.05070102214813232421875)
    return node.map([node.input(0)], lambda x: x.gt(0.0).select(x * gamma, (x.exp() * alpha - alpha) * gamma))


@onnx_operator("HardSigmoid")
def hard_sigmoid(node: Node) -> ir.Value:
    alpha, beta = node.get("alpha", 0.2), node.get("beta", 0.5)
    return node.map([node.input(0)], lambda x: (x * alpha + beta).clip(0.0, 1.0))


@onnx_operator("ThresholdedRelu")
def thresholded_relu(node: Node) -> ir.Value:
    alpha = node.get("alpha", 1.0)
    return node.map([node.input(0)], lambda x: x.gt(alpha).select(x, 0.0))


@onnx_operator("Shrink")
def shrink(node: Node) -> ir.Value:
    bias, limit = node.get("bias", 0.0), node.get("lambd", 0.5)

    def body(x: Scalar) -> Scalar:
        wide = x if is_float(x.dtype) else x.cast("f32")
        inner = wide.gt(limit).select(wide - bias, 0.0)
        return wide.lt(-limit).select(wide + bias, inner).cast(x.dtype)

    return node.map([node.input(0)], body)


@onnx_operator("Gelu")
def gelu(node: Node) -> ir.Value:
    """0.5 x (1 + erf(x / sqrt 2)), or the tanh approximation of Hendrycks and Gimpel."""

    def exact(x: Scalar) -> Scalar:
        wide = x.cast("f32") if x.dtype in ("f16", "bf16") else x
        return (wide * 0.5 * ((wide * math.sqrt(0.5)).erf() + 1.0)).cast(x.dtype)

    def approximate(x: Scalar) -> Scalar:
        wide = x.cast("f32") if x.dtype in ("f16", "bf16") else x
        inner = (wide + wide * wide * wide * 0.044715) * math.sqrt(2.0 / math.pi)
        return (wide * 0.5 * (inner.tanh() + 1.0)).cast(x.dtype)

    return node.map([node.input(0)], approximate if node.get("approximate", "none") == "tanh" else exact)


@onnx_operator("Swish")
def swish(node: Node) -> ir.Value:
    alpha = node.get("alpha", 1.0)
    return node.map([node.input(0)], lambda x: x * (x * alpha).sigmoid())


@onnx_operator("IsInf")
def is_infinite(node: Node) -> ir.Value:
    negative, positive = node.get("detect_negative", 1), node.get("detect_positive", 1)

    def body(x: Scalar) -> Scalar:
        wide = x.cast("f32") if x.dtype in ("f16", "bf16") else x
        low = wide.eq(-math.inf) if negative else Scalar.constant(0, "i1")
        return low | (wide.eq(math.inf) if positive else Scalar.constant(0, "i1"))

    return node.map([node.input(0)], body)


@onnx_operator("Clip")
def clip(node: Node) -> ir.Value:
    """Bounds are attributes up to opset 10 and optional inputs since."""
    inputs: list[Tensor] = [node.input(0)]
    present = [position for position in (1, 2) if node.has(position)]
    inputs += [node.input(position) for position in present]
    lowest, highest = node.get("min"), node.get("max")

    def body(x: Scalar, *bounds: Scalar) -> Scalar:
        given = dict(zip(present, bounds, strict=True))
        low, high = given.get(1, lowest), given.get(2, highest)
        x = x.maximum(low) if low is not None else x
        return x.minimum(high) if high is not None else x

    return node.map(inputs, body)


@onnx_operator("Cast", "CastLike")
def cast(node: Node) -> ir.Value:
    target = node.dtype(1) if node.operator == "CastLike" else node.importer.element_name(_target(node))
    saturate, rounding = bool(node.get("saturate", 1)), node.get("round_mode", "up")
    if rounding not in ROUNDINGS:
        raise Unsupported(f"{node.operator} with round_mode '{rounding}'", ", ".join(ROUNDINGS))
    if is_narrow_float(target):
        return node.map([node.input(0)], lambda x: encode(x.cast("f32"), target, saturate, rounding))
    return node.map([node.input(0)], lambda x: x.cast(target))


def _dropped(node: Node) -> list[Tensor | ir.Value]:
    """Training: elements are zero with the probability `ratio`, the others grow by as much as is lost."""
    x, key = node.input(0), seed_of(node)
    ratio = node.input(1) if node.has(1) else node.literal(np.array(0.5, np.float32), "f32")
    mask = node.map([ratio], lambda r: uniform(x.shape, key).ge(r.cast("f32")), shape=x.shape)

    def body(v: Scalar, kept: Scalar, r: Scalar) -> Scalar:
        return kept.select(v.cast("f32") / (1.0 - r.cast("f32")), 0.0).cast(v.dtype)

    return [node.map([x, mask, ratio], body, shape=x.shape), mask]


def _target(node: Node) -> int:
    """Opset 1 spells the type as text."""
    import onnx

    kind = node.get("to")
    return onnx.TensorProto.DataType.Value(kind.upper()) if isinstance(kind, str) else int(kind)


@onnx_operator("Identity", host=True)
def identity(node: Node) -> Tensor:
    return node.input(0)


@onnx_operator("BitCast")
def bit_cast(node: Node) -> ir.Value:
    """The same bits as another type of the same width."""
    target = node.importer.element_name(_target(node))
    if DTYPES[target].bytes != DTYPES[node.dtype(0)].bytes or is_narrow(target) or is_narrow(node.dtype(0)):
        raise Unsupported(f"BitCast from {node.dtype(0)} to {target}", "types of the same width, from 8 bits on")

    def body(x: Scalar) -> Scalar:
        if x.dtype == "i1":
            return x.cast("ui8").retyped(target)
        return x.cast("i1") if target == "i1" else x.bitcast(target)

    return node.map([node.input(0)], body)


@onnx_operator("Dropout")
def dropout(node: Node) -> list[Tensor | ir.Value]:
    """Inference: the input itself. The mask, when somebody wants it, is all true."""
    training = node.constant(2)
    if node.has(2) and training is None:
        raise Unsupported("Dropout with a computed training mode", "a constant", node.input(2).sources)
    if training is not None and bool(training):
        return _dropped(node)
    outputs: list[Tensor | ir.Value] = [node.input(0)]
    if node.wants(1):
        kind = "i1" if node.version >= 10 else node.dtype(0)
        outputs.append(node.map([], lambda: Scalar.constant(1, kind), shape=node.shape(0)))
    return outputs
