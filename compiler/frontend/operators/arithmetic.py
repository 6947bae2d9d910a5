"""Operators of several tensors, element by element with broadcasting.

In: two or more tensors. Out: one map. Old opsets broadcast by attributes (`broadcast`, `axis`), newer ones
as numpy does.
"""

from __future__ import annotations

from collections.abc import Callable

from mlir import ir

from ....dialects.scalar import Scalar, is_float
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Tensor
from .text import string_equal

BINARY: dict[str, Callable[[Scalar, Scalar], Scalar]] = {
    "Add": lambda x, y: x + y,
    "Sub": lambda x, y: x - y,
    "Mul": lambda x, y: x * y,
    "Div": lambda x, y: x / y,
    "Pow": lambda x, y: x.power(y),
    "Greater": Scalar.gt,
    "GreaterOrEqual": Scalar.ge,
    "Less": Scalar.lt,
    "LessOrEqual": Scalar.le,
    "And": lambda x, y: x & y,
    "Or": lambda x, y: x | y,
    "Xor": lambda x, y: x ^ y,
    "BitwiseAnd": lambda x, y: x & y,
    "BitwiseOr": lambda x, y: x | y,
    "BitwiseXor": lambda x, y: x ^ y,
}
VARIADIC: dict[str, Callable[[Scalar, Scalar], Scalar]] = {
    "Sum": lambda x, y: x + y,
    "Max": Scalar.maximum,
    "Min": Scalar.minimum,
    "Mean": lambda x, y: x + y,
}


def _register_binary(name: str, function: Callable[[Scalar, Scalar], Scalar]) -> None:
    @onnx_operator(name)
    def import_binary(node: Node) -> ir.Value:
        return node.map([node.input(0), _aligned(node)], function)


def _register_variadic(name: str, function: Callable[[Scalar, Scalar], Scalar]) -> None:
    @onnx_operator(name)
    def import_variadic(node: Node) -> ir.Value:
        count = len(node.inputs)

        def body(*scalars: Scalar) -> Scalar:
            result = scalars[0]
            for scalar in scalars[1:]:
                result = function(result, scalar)
            return result / count if name == "Mean" else result

        return node.map([node.input(position) for position in range(count)], body)


for _name, _body in BINARY.items():
    _register_binary(_name, _body)
@onnx_operator("Equal", host=True)
def equal(node: Node) -> ir.Value:
    """Of numbers by a map, of strings on the host."""
    return string_equal(node) if node.dtype(0) == "string" else node.map([node.input(0), _aligned(node)], Scalar.eq)


for _name, _body in VARIADIC.items():
    _register_variadic(_name, _body)


def _aligned(node: Node) -> Tensor:
    """The second input; up to opset 6 its dimensions match the first's from `axis` on."""
    second = node.input(1)
    if node.version >= 7 or not node.get("broadcast", 0) or "axis" not in node.attributes:
        return second
    axis = node.axis(node.get("axis"), node.rank(0))
    trailing = node.rank(0) - axis - second.rank
    return node.reshaped(second, [*second.shape, *[1] * max(trailing, 0)])


@onnx_operator("Mod")
def modulo(node: Node) -> ir.Value:
    """`fmod`=1 takes the dividend's sign, otherwise the divisor's."""
    c_style = node.get("fmod", 0)
    return node.map([node.input(0), node.input(1)], lambda x, y: x.remainder(y) if c_style else x % y)


@onnx_operator("BitShift")
def bit_shift(node: Node) -> ir.Value:
    left = node.get("direction") == "LEFT"
    return node.map([node.input(0), node.input(1)], lambda x, y: x.shift_left(y) if left else x.shift_right(y))


@onnx_operator("PRelu")
def parametric_relu(node: Node) -> ir.Value:
    """Before opset 7 the slope is one value a channel."""
    slope = node.input(1)
    if node.version < 7 and slope.rank == 1 and node.rank(0) > 2:
        slope = node.per_channel(slope, node.rank(0))
    return node.map([node.input(0), slope], lambda x, a: x.lt(0).select(x * a, x))


@onnx_operator("Where")
def where(node: Node) -> ir.Value:
    return node.map([node.input(0), node.input(1), node.input(2)], lambda c, x, y: c.select(x, y))


@onnx_operator("SwiGLU")
def swiglu(node: Node) -> ir.Value:
    """Gated linear unit with swish: the operator's function body is used for anything but two float
    inputs.
    """
    alpha: float = node.get("alpha", 1.0)

    def body(x: Scalar, y: Scalar) -> Scalar:
        assert is_float(x.dtype)
        return x * (x * alpha).sigmoid() * y

    return node.map([node.input(0), node.input(1)], body)
