"""Recognition of quantised operands: maps that compute (q - zero point) * scale from a tensor of 8-bit integers.

In: an operand of a contraction. Out: a `Quantized`: the integers and what is known of zero point and scale, or None.
The pattern is that of the importers of DequantizeLinear, MatMulInteger, QLinearConv and their kin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from mlir import ir

from ...dialects import graph_builder as build
from ...dialects.scalar import Scalar
from ...dialects.tensors import element_of, shape_of
from ..unit import WeightStore
from .rewriting import body_of, constant_array, operations_of, producer, string, yielded

_WIDENINGS = ("arith.extsi", "arith.extui", "arith.extf")


@dataclass(frozen=True)
class Parameter:
    """A zero point or scale: one number, or a tensor that broadcasts against the operand."""

    number: int | float | None
    tensor: ir.Value | None = None

    @property
    def is_scalar(self) -> bool:
        """One value for the whole operand."""
        return self.tensor is None or all(size == 1 for size in shape_of(self.tensor))

    def captured(self) -> list[ir.Value]:
        """What a map has to capture for it: the tensor, a single element without dimensions."""
        if self.tensor is None:
            return []
        return [build.reshape(self.tensor, []) if self.is_scalar else self.tensor]


@dataclass(frozen=True)
class Quantized:
    """The operand is ``(values - zero) * scale``; without `scale` it is an integer."""

    values: ir.Value
    zero: Parameter
    scale: Parameter | None

    @property
    def is_unsigned(self) -> bool:
        return element_of(self.values) == "ui8"


def quantized(value: ir.Value, weights: WeightStore) -> Quantized | None:
    """The operand as 8-bit integers with their parameters, or None."""
    owner = producer(value)
    if owner is None or owner.name != "graph.map":
        return None
    result = _through(yielded(owner)[0], "arith.truncf")
    product = producer(result)
    scale: Parameter | None = None
    if product is not None and product.name == "arith.mulf":
        whole, factor = product.operands
        converted = producer(whole)
        if converted is None or converted.name != "arith.sitofp":
            return None
        scale = parameter_of(factor)
        if scale is None:
            return None
        result = converted.operands[0]
    return _integers(owner, result, scale, weights)


def _integers(owner: ir.Operation, result: ir.Value, scale: Parameter | None, weights: WeightStore) -> Quantized | None:
    """The part (q - zero point) of the pattern, in i32."""
    if str(result.type) != "i32":
        return None
    zero: Parameter | None = Parameter(0)
    difference = producer(result)
    if difference is not None and difference.name == "arith.subi":
        result, zero = difference.operands[0], _zero_point(difference.operands[1], weights)
    element = producer(_through(result, *_WIDENINGS))
    if zero is None or element is None or element.name != "graph.element" or len(operations_of(body_of(owner))) > 9:
        return None
    values = element.operands[0]
    if element_of(values) not in ("i8", "ui8") or shape_of(values) != shape_of(owner.results[0]):
        return None
    return Quantized(values, zero, scale)


def _through(value: ir.Value, *names: str) -> ir.Value:
    owner = producer(value)
    return owner.operands[0] if owner is not None and owner.name in names else value


def _zero_point(value: ir.Value, weights: WeightStore) -> Parameter | None:
    """A constant tensor of equal elements is a literal: exporters write one zero for each channel."""
    parameter = parameter_of(value)
    if parameter is None or parameter.tensor is None:
        return parameter
    array = known_array(parameter.tensor, weights)
    equal = array is not None and array.size and np.all(array == array.flat[0])
    return Parameter(array.flat[0].item()) if array is not None and equal else parameter


def parameter_of(value: ir.Value) -> Parameter | None:
    """A literal, or a captured tensor."""
    owner = producer(_through(value, *_WIDENINGS))
    if owner is None:
        return None
    if owner.name == "arith.constant":
        if str(owner.results[0].type) == "i8":  # signed or not, the number does not say
            return None
        attribute = owner.attributes["value"]
        literal = ir.FloatAttr if isinstance(value.type, ir.FloatType) else ir.IntegerAttr
        return Parameter(literal(attribute).value)
    return Parameter(None, owner.operands[0]) if owner.name == "graph.element" else None


def known_array(value: ir.Value, weights: WeightStore) -> np.ndarray | None:
    """The array of a weight or constant."""
    owner = producer(value)
    if owner is not None and owner.name == "graph.weight":
        return weights.get(string(owner, "handle"))
    return constant_array(owner) if owner is not None and owner.name == "graph.constant" else None


def number_or(parameter: Parameter, given: list[Scalar], convert: Callable[[Scalar], Scalar]) -> Scalar | int | float:
    """In a map: the literal, or the next of the captured scalars, converted."""
    return parameter.number if parameter.number is not None else convert(given.pop(0))
