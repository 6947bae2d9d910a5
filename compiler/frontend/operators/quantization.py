"""Linear quantisation.

In: floats or small integers with scales and zero points, for the whole tensor, one an axis or one a block.
Out: maps; products of quantised tensors are computed in i32 and rescaled.
"""

from __future__ import annotations

import numpy as np
from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.narrow import FLOATS, encode, integer_range, is_narrow_float
from ....dialects.scalar import Scalar
from ....runtime.symbolic import Expression
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Tensor
from .convolution import convolve
from .matrix import product_of, shifted, zero_of

QUANTIZED = ("i8", "ui8", "i16", "ui16", "i4", "ui4", "i2", "ui2")


def parameter(node: Node, tensor: Tensor, x: Tensor) -> Tensor:
    """A scale or zero point shaped to broadcast against `x`."""
    if tensor.size == 1:
        return node.reshaped(tensor, [])
    axis = node.axis(node.get("axis", 1), x.rank)
    block = int(node.get("block_size", 0))
    if tensor.rank == 1 and not block:
        shape: list[Expression | int] = [1] * x.rank
        shape[axis] = tensor.shape[0]
        return node.reshaped(tensor, shape)
    if not block or tensor.rank != x.rank:
        raise Unsupported(f"{node.operator} with a scale of rank {tensor.rank}", "scalars, vectors and blocks")
    spread: list[Expression | int] = [*tensor.shape[: axis + 1], block, *tensor.shape[axis + 1 :]]
    inner: list[Expression | int] = [*tensor.shape[: axis + 1], 1, *tensor.shape[axis + 1 :]]
    merged = list(tensor.shape)
    merged[axis] = tensor.shape[axis] * block
    value = build.reshape(build.broadcast(node.reshaped(tensor, inner).value, spread), merged)
    if merged[axis] != x.shape[axis]:
        value = build.slice(value, [0] * x.rank, x.shape)
    return node.tensor(value)


def saturated(x: Scalar, dtype: str) -> Scalar:
    """A float, already rounded, as an integer of that dtype, clamped to its range; no number is the least, as in
    onnxruntime.
    """
    low, high = integer_range(dtype)
    return x.maximum_number(float(low)).minimum(float(high)).cast("i32").cast(dtype)


@onnx_operator("QuantizeLinear")
def quantize_linear(node: Node) -> ir.Value:
    """saturate(round(x / scale) + zero point)"""
    x = node.input(0)
    kind = node.get("output_dtype", 0)
    dtype = node.dtype(2) if node.has(2) else node.importer.element_name(kind) if kind else "ui8"
    if dtype not in QUANTIZED and dtype not in FLOATS:
        raise Unsupported(f"QuantizeLinear to {dtype}", ", ".join((*QUANTIZED, *FLOATS)))
    precision = node.importer.element_name(node.get("precision")) if node.get("precision", 0) else "f32"
    saturate = bool(node.get("saturate", 1))
    inputs = [x, parameter(node, node.input(1), x)]
    if node.has(2):
        inputs.append(parameter(node, node.input(2), x))

    def body(v: Scalar, scale: Scalar, *zero: Scalar) -> Scalar:
        result = v.cast(precision) / scale.cast(precision)
        if dtype in FLOATS:
            result = result + zero[0].cast(precision) if zero else result
            return encode(result.cast("f32"), dtype, saturate)
        result = result.cast("f32").round()
        return saturated(result + zero[0].cast("f32") if zero else result, dtype)

    return node.map(inputs, body, shape=x.shape)


@onnx_operator("DequantizeLinear")
def dequantize_linear(node: Node) -> ir.Value:
    """(x - zero point) * scale"""
    x = node.input(0)
    kind = node.get("output_dtype", 0)
    dtype = node.importer.element_name(kind) if kind else node.dtype(1)
    inputs = [x, parameter(node, node.input(1), x)]
    zeros = [parameter(node, node.input(2), x)] if node.has(2) else []
    if not node.has(2) or not _changes_nothing(node.input(2)):
        inputs += zeros

    def body(v: Scalar, scale: Scalar, *zero: Scalar) -> Scalar:
        wide = "f32" if is_narrow_float(v.dtype) else "i32"
        centred = v.cast(wide) - zero[0].cast(wide) if zero else v.cast(wide)
        return (centred.cast("f32") * scale.cast("f32")).cast(dtype)

    return node.map(inputs, body, shape=x.shape)


def _changes_nothing(zero: Tensor) -> bool:
    """Zeros of narrow floats, which exporters write for each channel or block: products of such floats multiply those
    that a scale alone decodes. Integers with such zeros are recognised as they are.
    """
    return is_narrow_float(zero.dtype) and zero.is_constant and not np.any(zero.array())


@onnx_operator("DynamicQuantizeLinear")
def dynamic_quantize_linear(node: Node) -> list[ir.Value]:
    """Quantise to ui8 with the scale and zero point of the tensor's own range, which includes 0."""
    x = node.input(0)
    axes = list(range(x.rank))
    low = build.reshape(build.reduce(x.value, "min", axes), [])
    high = build.reshape(build.reduce(x.value, "max", axes), [])
    scale = node.map([low, high], lambda a, b: (b.maximum(0.0) - a.minimum(0.0)) / 255.0)
    zero = node.map([low, scale], lambda a, s: saturated((0.0 - a.minimum(0.0) / s).clip(0.0, 255.0).round(), "ui8"))
    value = node.map([x, scale, zero], lambda v, s, z: saturated((v / s).round() + z.cast("f32"), "ui8"), shape=x.shape)
    return [value, scale, zero]


def _requantized(node: Node, value: ir.Value, scales: list[Tensor], zero: Tensor, dtype: str) -> ir.Value:
    """saturate(round(value * a_scale * b_scale / y_scale) + zero point)"""

    def body(v: Scalar, a: Scalar, b: Scalar, y: Scalar, z: Scalar) -> Scalar:
        factor = a.cast("f32") * b.cast("f32") / y.cast("f32")
        return saturated((v.cast("f32") * factor).round() + z.cast("f32"), dtype)

    return node.map([value, *scales, zero], body, shape=build.shape_of(value))


@onnx_operator("QLinearMatMul")
def quantized_matmul(node: Node) -> ir.Value:
    a, b = node.input(0), node.input(3)
    row, column = max(a.rank - 2, 0), b.rank - 1
    first = shifted(node, a, zero_of(node, 2, a.rank, row))
    second = shifted(node, b, zero_of(node, 5, b.rank, column))
    scales = [zero_of(node, 1, a.rank, row), zero_of(node, 4, b.rank, column), zero_of(node, 6, 1, 0)]
    value = product_of(node, first, second, "i32")
    zero = node.input(7)
    given = [scale for scale in scales if scale is not None]
    return _requantized(node, value, given, node.reshaped(zero, []), zero.dtype)


def _kernel_zero(node: Node, position: int, weight: Tensor) -> Tensor | None:
    """A weight's zero point: a scalar or one an output channel."""
    zero = node.optional(position)
    if zero is None or zero.size == 1:
        return None if zero is None else node.reshaped(zero, [])
    return node.reshaped(zero, [zero.shape[0], *[1] * (weight.rank - 1)])


@onnx_operator("ConvInteger")
def convolution_integer(node: Node) -> ir.Value:
    x, weight = node.input(0), node.input(1)
    first = shifted(node, x, zero_of(node, 2, x.rank, 1))
    second = shifted(node, weight, _kernel_zero(node, 3, weight))
    return convolve(node, x, weight, (first.value, second.value), "i32")[0]


@onnx_operator("QLinearConv")
def quantized_convolution(node: Node) -> ir.Value:
    x, weight = node.input(0), node.input(3)
    first = shifted(node, x, zero_of(node, 2, x.rank, 1))
    second = shifted(node, weight, _kernel_zero(node, 5, weight))
    value, _ = convolve(node, x, weight, (first.value, second.value), "i32")
    if node.has(8):
        bias = node.per_channel(node.input(8), x.rank)
        value = node.map([value, bias], lambda v, b: v + b)
    weight_scale = node.input(4)
    by_channel = node.reshaped(weight_scale, []) if weight_scale.size == 1 else node.per_channel(weight_scale, x.rank)
    scales = [node.reshaped(node.input(1), []), by_channel, node.reshaped(node.input(6), [])]
    zero = node.input(7)
    return _requantized(node, value, scales, node.reshaped(zero, []), zero.dtype)
