"""Pass `multiply-integers`: contractions of dequantised tensors multiply the 8-bit integers themselves.

In: a matmul or convolution whose operands are (q - zero point) * scale, as QDQ models, QLinear operators and dynamic
quantisation write them. Out: the contraction of the integers with sums in i32, which tensor cores do, and one map that
subtracts what the zero points add and multiplies by the scales; fusion makes it the epilogue. No float copy of a
weight remains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from mlir import ir

from ...dialects import graph_builder as build
from ...dialects.scalar import Scalar
from ...dialects.tensors import element_of, rank_of, shape_of, tensor_type
from ...runtime.symbolic import Expression
from ..unit import Unit, WeightStore, register_pass
from .quantized_operands import Parameter, Quantized, known_array, number_or, quantized
from .rewriting import (
    blocks_within,
    building_before,
    erase_dead,
    expressions,
    functions,
    integer,
    integers,
    is_constant,
    operations_of,
    producer,
    string,
)
from .rewriting import replace as substitute
from .zero_point_tables import MOST_ENTRIES, sum_inside, table_entries, weight_sums

LEAST_DEPTH = 16  # of k: below, as in depthwise convolutions, a tensor core has nothing to do
HALF_RANGE = 128  # unsigned weights around this zero point are signed ones


@register_pass("multiply-integers", requires="graph", ensures="graph")
def multiply_integers(unit: Unit) -> None:
    """Multiply integers where both operands are dequantised ones.

    before::

        %a = "graph.map"() ({ (element(%x) - 3) * 0.02 })     // %x: tensor<?x64xui8>
        %b = "graph.map"() ({ element(%w) * element(%s) })    // %w: tensor<64x32xi8>, %s: tensor<32xf32>
        %0 = "graph.matmul"(%a, %b) : ... -> tensor<?x32xf32>

    after::

        %c = "graph.matmul"(%x, %t) : (tensor<?x64xui8>, tensor<32x64xi8>) -> tensor<?x32xi32>
        %0 = "graph.map"() ({ (element(%c) - 3 * element(%sums)) * (0.02 * element(%s)) })
    """
    with unit.module.context, ir.Location.unknown():
        main = functions(unit.module)["main"]
        for block in blocks_within(main):
            for operation in operations_of(block):
                if operation.name in ("graph.matmul", "graph.convolution"):
                    _rewrite(operation, unit.weights)
        erase_dead(main)


# In a map: the sums after a correction, made of the sums before it and of captured elements, which it takes off a list.
Apply = Callable[[Scalar, list[Scalar]], Scalar]


@dataclass(frozen=True)
class Correction:
    """What zero points add to the integer sums is taken away: `apply` in a map that captures `tensors`."""

    apply: Apply
    tensors: list[ir.Value]


def _rewrite(operation: ir.Operation, weights: WeightStore) -> None:
    left, right = (quantized(operand, weights) for operand in operation.operands)
    if left is None or right is None or (left.scale is None) != (right.scale is None):
        return
    with building_before(operation):
        right = _signed(right, weights)
        if not _is_supported(operation, left, right):
            return
        sums = _product(operation, left, right)
        corrections = _corrections(operation, left, right, weights)
        substitute(operation, [_finished(operation, sums, corrections, _scales(operation, left, right))])


def _signed(right: Quantized, weights: WeightStore) -> Quantized:
    """Unsigned weights around 128 as signed ones around 0: nothing has to be corrected for them."""
    owner = producer(right.values)
    around = right.is_unsigned and right.zero.number == HALF_RANGE
    if not around or owner is None or owner.name != "graph.weight":
        return right
    handle = string(owner, "handle")
    fresh = weights.add(handle, lambda: (weights.get(handle).astype(np.int16) - HALF_RANGE).astype(np.int8))
    return replace(right, values=build.weight(fresh, shape_of(right.values), "i8"), zero=Parameter(0))


def _is_supported(operation: ir.Operation, left: Quantized, right: Quantized) -> bool:
    parameters = [left.zero, right.zero, *([left.scale] if left.scale is not None else [])]
    if not all(parameter.is_scalar for parameter in parameters):
        return False
    if right.scale is not None and not _is_by_output(operation, right.scale):
        return False
    if operation.name == "graph.matmul":
        depth = _matmul_depth(operation).as_constant()
        return depth is None or depth >= LEAST_DEPTH
    shape = shape_of(right.values)
    depth = int(np.prod([size.as_constant() or 0 for size in shape[1:]]))
    padded = any(pad != "0" for pad in _pads(operation))
    tabled = is_constant(right.values) and table_entries(operation) <= MOST_ENTRIES
    borders = tabled or not padded or left.zero.number == 0
    # The sums of inputs that a zero point of weights asks for are those of all channels.
    centred = right.zero.number == 0 or (right.zero.number is not None and integer(operation, "groups") == 1)
    return centred and depth >= LEAST_DEPTH and borders


def _is_by_output(operation: ir.Operation, scale: Parameter) -> bool:
    """The scale is one number, or one for each column or output channel."""
    if scale.tensor is None or scale.is_scalar:
        return True
    rank = rank_of(operation.operands[1])
    own = rank - rank_of(scale.tensor)
    axis = 0 if operation.name == "graph.convolution" else rank - 1 - integer(operation, "transpose_right")
    return all(size == 1 or place + own == axis for place, size in enumerate(shape_of(scale.tensor)))


def _matmul_depth(operation: ir.Operation) -> Expression:
    return shape_of(operation.operands[0])[-2 if integer(operation, "transpose_left") else -1]


def _pads(operation: ir.Operation) -> list[str]:
    return [ir.StringAttr(item).value for item in ir.ArrayAttr(operation.attributes["pads"])]


# The product ----------------------------------------------------------------------------------------------------
def _product(operation: ir.Operation, left: Quantized, right: Quantized) -> ir.Value:
    """The same contraction of the integers."""
    return ir.Operation.create(
        operation.name,
        results=[tensor_type(shape_of(operation.results[0]), "i32")],
        operands=[left.values, right.values],
        attributes={name: operation.attributes[name] for name in operation.attributes},
    ).result


# What the zero points add -----------------------------------------------------------------------------------------
def _corrections(operation: ir.Operation, left: Quantized, right: Quantized, weights: WeightStore) -> list[Correction]:
    """sum (a - za)(b - zb) = sum ab - za sum b - zb sum a + K za zb"""
    if operation.name == "graph.convolution":
        return _convolution_corrections(operation, left, right, weights)
    found: list[Correction] = []
    if left.zero.number != 0:
        found.append(_sum_correction(left.zero, _right_sums(operation, right)))
    if right.zero.number != 0:
        found.append(_sum_correction(right.zero, _left_sums(operation, left)))
        if left.zero.number != 0:
            found.append(_constant_correction(left.zero, right.zero, _matmul_depth(operation)))
    return found


def _convolution_corrections(
    operation: ir.Operation, left: Quantized, right: Quantized, weights: WeightStore
) -> list[Correction]:
    """sum (a - za)(b - zb) = sum ab - za sum (b - zb) - zb sum a"""
    found: list[Correction] = []
    if left.zero.number != 0:
        if any(pad != "0" for pad in _pads(operation)):
            found.append(_border_correction(operation, left, right, weights))
        else:
            found.append(_sum_correction(left.zero, _right_sums(operation, right)))
    if right.zero.number != 0:
        found.append(_sum_correction(right.zero, _window_sums(operation, left)))
    return found


def _sum_correction(zero: Parameter, sums: ir.Value) -> Correction:
    def apply(total: Scalar, given: list[Scalar]) -> Scalar:
        return total - given.pop(0) * number_or(zero, given, _as_integer)

    return Correction(apply, [sums, *zero.captured()])


def _constant_correction(first: Parameter, second: Parameter, depth: Expression) -> Correction:
    def apply(total: Scalar, given: list[Scalar]) -> Scalar:
        one, two = number_or(first, given, _as_integer), number_or(second, given, _as_integer)
        return total + build.dimension(depth).cast("i32") * one * two

    return Correction(apply, [*first.captured(), *second.captured()])


def _border_correction(operation: ir.Operation, left: Quantized, right: Quantized, weights: WeightStore) -> Correction:
    """Padding is zero, not the zero point: at the borders only the taps inside the image count."""
    array = known_array(right.values, weights)
    assert array is not None
    assert right.zero.number is not None
    table = weight_sums(operation, array.astype(np.int32) - int(right.zero.number), weights)

    def apply(total: Scalar, given: list[Scalar]) -> Scalar:
        return total - sum_inside(operation, table) * number_or(left.zero, given, _as_integer)

    return Correction(apply, left.zero.captured())


def _as_integer(value: Scalar) -> Scalar:
    return value.cast("i32")


def _right_sums(operation: ir.Operation, right: Quantized) -> ir.Value:
    """The sums of the right operand over k, shaped to broadcast against the result; of a convolution's, less its zero
    point.
    """
    wide = build.cast(right.values, "i32")
    rank = rank_of(wide)
    if operation.name == "graph.convolution":
        if right.zero.number:
            wide = build.map([wide], lambda weight: weight - int(right.zero.number or 0))
        sums = build.reduce(wide, "sum", list(range(1, rank)))
        return build.reshape(sums, [shape_of(sums)[0], *[1] * (rank - 2)])
    turned = integer(operation, "transpose_right")
    sums = build.reduce(wide, "sum", [rank - 1 if turned else rank - 2])
    shape = shape_of(sums)
    return build.reshape(sums, [*shape[:-2], 1, shape[-2]]) if turned else sums


def _left_sums(operation: ir.Operation, left: Quantized) -> ir.Value:
    """The sums of a matmul's left operand over k, a column."""
    wide = build.cast(left.values, "i32")
    rank = rank_of(wide)
    turned = integer(operation, "transpose_left")
    sums = build.reduce(wide, "sum", [rank - 2 if turned else rank - 1])
    shape = shape_of(sums)
    return build.reshape(sums, [*shape[:-2], shape[-1], 1]) if turned else sums


def _window_sums(operation: ir.Operation, left: Quantized) -> ir.Value:
    """The sums of a convolution's input over all channels and the taps of each window, [n, 1, ...]."""
    values, kernel = left.values, shape_of(operation.operands[1])
    over_channels = build.reduce(build.cast(values, "i32"), "sum", [1])
    ones = build.splat(1, [1, 1, *kernel[2:]], "i32")
    strides, dilations = integers(operation, "strides"), integers(operation, "dilations")
    return build.convolution(over_channels, ones, 1, strides, expressions(operation, "pads"), dilations)


# Scales ---------------------------------------------------------------------------------------------------------
def _scales(operation: ir.Operation, left: Quantized, right: Quantized) -> list[Parameter]:
    """Both scales, the right one shaped to broadcast against the result."""
    if left.scale is None or right.scale is None:
        return []
    second = right.scale
    if second.tensor is not None and not second.is_scalar:
        size = max(shape_of(second.tensor), key=lambda extent: extent != 1)
        spatial = rank_of(operation.results[0]) - 2 if operation.name == "graph.convolution" else 0
        second = Parameter(None, build.reshape(second.tensor, [size, *[1] * spatial]))
    return [left.scale, second]


def _finished(
    operation: ir.Operation,
    sums: ir.Value,
    corrections: Sequence[Correction],
    scales: Sequence[Parameter],
) -> ir.Value:
    """One map: the corrected sums, times the product of the scales, in the type of the contraction's result."""
    captured = [value for correction in corrections for value in correction.tensors]
    captured += [value for scale in scales for value in scale.captured()]
    shape, element = shape_of(sums), element_of(operation.results[0])

    def body(total: Scalar, *rest: Scalar) -> Scalar:
        given = list(rest)
        for correction in corrections:
            total = correction.apply(total, given)
        if scales:
            factors = [number_or(scale, given, lambda value: value.cast("f32")) for scale in scales]
            total = total.cast("f32") * (Scalar.constant(1.0, "f32") * factors[0] * factors[1])
        return total.cast(element)

    if not captured and not corrections and not scales:
        return sums
    return build.map([sums, *captured], body, shape=shape)
