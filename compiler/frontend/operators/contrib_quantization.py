"""onnxruntime's quantised operators (com.microsoft): 4-bit weights, dynamic quantisation, QLinear arithmetic.

In: integers with scales and zero points. Out: integer products in i32, or maps over dequantised values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy

from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.errors import ModelError
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Tensor
from .contrib import DOMAIN
from .contrib_layouts import channels_moved_last, channels_moved_second
from .matrix import product_of, shifted, zero_of
from .pooling import average_pool
from .quantization import dynamic_quantize_linear, saturated
from .reduction import softmax_of

ScalarFunction = Callable[..., Scalar]


@onnx_operator("MatMulNBits", domain=DOMAIN)
def matmul_n_bits(node: Node) -> ir.Value:
    """A x dequantised(B)': B holds [N, blocks, bytes] of 2, 4 or 8-bit weights, a scale and zero point a block.

    What a weight is made of is moved to its place, so that the product can compute it while it reads:
    no float copy of the weights is stored.
    """
    a, packed, scales = node.input(0), node.input(1), node.input(2)
    depth, columns, block = (int(node.get(name)) for name in ("K", "N", "block_size"))
    bits = int(node.get("bits", 4))
    if bits not in (2, 4, 8):
        raise Unsupported(f"MatMulNBits with {bits} bits", "2, 4, 8")
    blocks, per_byte = -(-depth // block), 8 // bits
    in_row = node.reshaped(packed, [columns, blocks * block // per_byte])
    factors = node.reshaped(scales, [columns, blocks])
    zeros = _zero_points(node, columns, blocks, bits)
    parts = [_repeated(node, in_row, per_byte, depth), _of_blocks(node, factors, block, depth)]
    if zeros is not None:
        parts.append(_of_blocks(node, zeros, block, depth))

    def weight(byte: Scalar, factor: Scalar, *zero: Scalar) -> Scalar:
        value = _field(byte, build.index(1), bits)
        middle = zero[0].cast("f32") if zero else float(1 << (bits - 1))
        return ((value.cast("f32") - middle) * factor.cast("f32")).cast(a.dtype)

    weights = node.map(parts, weight)
    value = build.matmul(a.value, weights, transpose_right=True, unify=node.unify)
    return node.map([value, node.input(5)], lambda v, b: v + b) if node.has(5) else value


def _field(byte: Scalar, number: Scalar, bits: int) -> Scalar:
    """Field `number` of a packed row, from the byte that holds it, as i32."""
    if bits == 8:
        return byte.cast("i32")
    place = number.cast("i32") & (8 // bits - 1)
    return byte.cast("i32").shift_right(place * bits) & ((1 << bits) - 1)


def _zero_points(node: Node, columns: int, blocks: int, bits: int) -> Tensor | None:
    """[N, blocks], unpacked where they are packed as the weights are."""
    zeros = node.optional(3)
    if zeros is None or zeros.dtype != "ui8":
        return None if zeros is None else node.reshaped(zeros, [columns, blocks])
    per_byte = 8 // bits
    packed = node.reshaped(zeros, [columns, -(-blocks // per_byte)])
    spread = _repeated(node, packed, per_byte, blocks)
    return node.tensor(node.map([spread], lambda byte: _field(byte, build.index(1), bits).cast("ui8")))


def _repeated(node: Node, table: Tensor, times: int, length: int) -> Tensor:
    """Every column of a matrix `times` times, cut off after `length` columns."""
    rows, columns = table.shape
    spread = build.broadcast(build.expand_dimensions(table.value, [2]), [rows, columns, times])
    return node.tensor(build.slice(build.reshape(spread, [rows, columns * times]), [0, 0], [rows, length]))


def _of_blocks(node: Node, table: Tensor, block: int, length: int) -> Tensor:
    """What stands for each block of a row, at each of `length` weights; `g_idx` says which block where it is given."""
    groups = node.optional(4)
    if groups is None:
        return _repeated(node, table, block, length)
    last = table.shape[1] - 1

    def chosen() -> Scalar:
        group = build.element_at(groups.value, [build.index(1)]).cast("i64")
        return build.element_at(table.value, [build.index(0), group.clip(0, build.dimension(last))])

    return node.tensor(node.map([], chosen, shape=build.expressions([table.shape[0], length])))


@onnx_operator("DynamicQuantizeMatMul", domain=DOMAIN)
def dynamic_quantize_matmul(node: Node) -> ir.Value:
    """A is quantised to ui8 with the scale of its own range; B has a scale and zero point, for all or a column."""
    a, scale, zero = (node.tensor(value) for value in dynamic_quantize_linear(node))
    b = node.input(1)
    product = product_of(node, shifted(node, a, zero), shifted(node, b, zero_of(node, 3, b.rank, b.rank - 1)), "i32")
    inputs = [node.tensor(product), scale, _columns(node, 2)]
    return _scaled(node, inputs, node.optional(4), "f32")


@onnx_operator("MatMulIntegerToFloat", domain=DOMAIN)
def matmul_integer_to_float(node: Node) -> ir.Value:
    a, b = node.input(0), node.input(1)
    first = shifted(node, a, zero_of(node, 4, a.rank, a.rank - 2))
    second = shifted(node, b, zero_of(node, 5, b.rank, b.rank - 1))
    inputs = [node.tensor(product_of(node, first, second, "i32")), _columns(node, 2), _columns(node, 3)]
    return _scaled(node, inputs, node.optional(6), node.dtype(2))


def _columns(node: Node, position: int) -> Tensor:
    """A scale for all columns or one each."""
    tensor = node.input(position)
    return node.reshaped(tensor, []) if tensor.size == 1 else tensor


def _scaled(node: Node, inputs: list[Tensor], bias: Tensor | None, dtype: str) -> ir.Value:
    """product * scale * scale + bias"""

    def body(v: Scalar, a: Scalar, b: Scalar, *rest: Scalar) -> Scalar:
        value = v.cast("f32") * (a.cast("f32") * b.cast("f32"))
        return (value + rest[0].cast("f32") if rest else value).cast(dtype)

    return node.map([*inputs, *([bias] if bias is not None else [])], body)


# QLinear: dequantise, compute, quantise ---------------------------------------------------------------------
def dequantised(x: Scalar, scale: Scalar, *zero: Scalar) -> Scalar:
    """(x - zero point) * scale"""
    centred = x.cast("i32") - zero[0].cast("i32") if zero else x.cast("i32")
    return centred.cast("f32") * scale.cast("f32")


def quantised(value: Scalar, dtype: str, scale: Scalar, *zero: Scalar) -> Scalar:
    """saturate(round(value / scale) + zero point)"""
    rounded = (value / scale.cast("f32")).round()
    return saturated(rounded + zero[0].cast("f32") if zero else rounded, dtype)


def parameters(node: Node, scale: int, zero: int) -> list[Tensor]:
    """A scalar scale and, where it is given, zero point."""
    tensors = [node.input(scale)] + ([node.input(zero)] if node.has(zero) else [])
    if any(tensor.size != 1 for tensor in tensors):
        raise Unsupported(f"{node.operator} with a scale for each channel", "one scale for the tensor")
    return [node.reshaped(tensor, []) for tensor in tensors]


def read(node: Node, position: int, scale: int, zero: int) -> ir.Value:
    """An input dequantised to f32."""
    return node.map([node.input(position), *parameters(node, scale, zero)], dequantised)


def write(node: Node, value: ir.Value, scale: int, zero: int, dtype: str) -> ir.Value:
    """An f32 tensor quantised to that dtype."""
    return node.map([value, *parameters(node, scale, zero)], lambda v, *rest: quantised(v, dtype, *rest))


BINARY: dict[str, ScalarFunction] = {"QLinearAdd": lambda a, b: a + b, "QLinearMul": lambda a, b: a * b}
UNARY: dict[str, ScalarFunction] = {"QLinearSigmoid": Scalar.sigmoid}


@onnx_operator("QLinearAdd", "QLinearMul", domain=DOMAIN)
def q_linear_binary(node: Node) -> ir.Value:
    values = [read(node, 0, 1, 2), read(node, 3, 4, 5)]
    return write(node, node.map(values, BINARY[node.operator]), 6, 7, node.dtype(0))


@onnx_operator("QLinearWhere", domain=DOMAIN)
def q_linear_where(node: Node) -> ir.Value:
    chosen = node.map([node.input(0), read(node, 1, 2, 3), read(node, 4, 5, 6)], lambda c, a, b: c.select(a, b))
    return write(node, chosen, 7, 8, node.dtype(1))


@onnx_operator("QLinearSigmoid", "QLinearLeakyRelu", domain=DOMAIN)
def q_linear_unary(node: Node) -> ir.Value:
    alpha = float(node.get("alpha", 0.01))
    function = UNARY.get(node.operator, lambda x: x.lt(0.0).select(x * alpha, x))
    return write(node, node.map([read(node, 0, 1, 2)], function), 3, 4, node.dtype(0))


@onnx_operator("QLinearSoftmax", domain=DOMAIN)
def q_linear_softmax(node: Node) -> ir.Value:
    rank = node.rank(0)
    axis = node.axis(node.get("axis", -1), rank)
    axes = [axis] if int(node.get("opset", 13)) >= 13 else list(range(axis, rank))
    return write(node, softmax_of(node, read(node, 0, 1, 2), axes, "f32"), 3, 4, node.dtype(0))


@onnx_operator("QLinearGlobalAveragePool", domain=DOMAIN)
def q_linear_global_average_pool(node: Node) -> ir.Value:
    rank = node.rank(0)
    axes = list(range(1, rank - 1)) if node.get("channels_last", 0) else list(range(2, rank))
    return write(node, build.mean(read(node, 0, 1, 2), axes), 3, 4, node.dtype(0))


@onnx_operator("QLinearAveragePool", domain=DOMAIN)
def q_linear_average_pool(node: Node) -> ir.Value:
    last = bool(node.get("channels_last", 0))
    inner = copy(node)
    real = read(node, 0, 1, 2)
    inner.inputs = [node.tensor(channels_moved_second(real) if last else real)]
    pooled = average_pool(inner)
    return write(node, channels_moved_last(pooled) if last else pooled, 3, 4, node.dtype(0))


@onnx_operator("QLinearReduceMean", domain=DOMAIN)
def q_linear_reduce_mean(node: Node) -> ir.Value:
    axes = node.axes(node.get("axes") or range(node.rank(0)), node.rank(0))
    value = build.mean(read(node, 0, 1, 2), axes)
    return write(node, value if node.get("keepdims", 1) else build.remove_dimensions(value, axes), 3, 4, node.dtype(0))


@onnx_operator("QLinearConcat", domain=DOMAIN)
def q_linear_concat(node: Node) -> ir.Value:
    """Scale and zero point of the result, then a tensor, scale and zero point for each part."""
    places: Sequence[int] = range(2, len(node.inputs), 3)
    if not places:
        raise ModelError(f"node '{node.name}' (QLinearConcat) has no parts")
    parts = [read(node, place, place + 1, place + 2) for place in places]
    axis = node.axis(node.get("axis", 0), node.rank(2))
    return write(node, build.concatenate(parts, axis, node.unify), 0, 1, node.dtype(2))


@onnx_operator("QGemm", domain=DOMAIN)
def q_gemm(node: Node) -> ir.Value:
    """alpha * A' x B' + C with C in units of the product's scale; a float result where no output scale is given."""
    first, second = (
        shifted(node, node.input(place), zero_of(node, place + 2, 2, axis)) for place, axis in ((0, 0), (3, 1))
    )
    flags = bool(node.get("transA", 0)), bool(node.get("transB", 0))
    value = build.matmul(first.value, second.value, *flags, element="i32", unify=node.unify)
    if node.has(6):
        value = node.map([value, node.input(6)], lambda v, c: v + c)
    alpha = float(node.get("alpha", 1.0))
    factors = [_columns(node, 1), _columns(node, 4)]
    result = node.map([value, *factors], lambda v, a, b: v.cast("f32") * (a.cast("f32") * b.cast("f32") * alpha))
    return write(node, result, 7, 8, node.dtype(8) if node.has(8) else node.dtype(0)) if node.has(7) else result
