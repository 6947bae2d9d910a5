"""Pass `fold-affine-into-convolution`: per-channel scales and offsets after a convolution go into its weights
and one bias.

In: convolutions with constant weights followed by maps that are affine in the result, such as an unfolded
BatchNormalization. Out: the same function with scaled weights and at most one map that adds a bias. The new
weights are made when they are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from mlir import ir

from ...dialects import graph_builder
from ...dialects.tensors import element_of, rank_of, shape_of
from ..unit import Unit, WeightStore, register_pass
from .rewriting import (
    blocks_within,
    body_of,
    building_before,
    constant_array,
    erase_dead,
    functions,
    fused_location,
    integer,
    operations_of,
    producer,
    replace,
    string,
    users,
)
from .scalar_semantics import constant_value

Array = np.ndarray[Any, Any]

FLOATS = ("f32", "f64")


@dataclass(frozen=True)
class Affine:
    """``scale * x + offset`` with x the convolution's result; both broadcast against it, in f64."""

    scale: Array
    offset: Array

    def then(self, other: Affine) -> Affine:
        """`other` after this."""
        return Affine(other.scale * self.scale, other.scale * self.offset + other.offset)


@register_pass("fold-affine-into-convolution", requires="graph", ensures="graph")
def fold_affine_into_convolution(unit: Unit) -> None:
    """Fold per-channel multiplications and additions after a convolution into its constant weights.

    before::

        %0 = "graph.convolution"(%x, %w) ...
        %1 = "graph.map"() ({ %0 * %scale + %offset })      // [C, 1, 1] constants

    after::

        %0 = "graph.convolution"(%x, %scaled) ...
        %1 = "graph.map"() ({ %0 + %bias })
    """
    with unit.module.context, ir.Location.unknown(), np.errstate(all="ignore"):
        main = functions(unit.module)["main"]
        for block in blocks_within(main):
            for operation in operations_of(block):
                if operation.name in ("graph.convolution", "graph.convolution_transpose"):
                    _fold(unit.weights, operation)
        erase_dead(main)


def _fold(weights: WeightStore, convolution: ir.Operation) -> None:
    result = convolution.results[0]
    weight = producer(convolution.operands[1])
    axis = _output_axis(convolution)
    channel = rank_of(result) - 1 if string(convolution, "layout") == "channels_last" else 1
    if weight is None or weight.name != "graph.weight" or axis is None:
        return
    # Halves and 8-bit floats would round once more: weights of those kinds keep the scale apart.
    if not {element_of(result), element_of(weight.results[0])} <= {*FLOATS}:
        return
    total = Affine(np.ones(()), np.zeros(()))
    chain: list[ir.Operation] = []
    current = result
    while True:
        following = users(current)
        step = _affine(weights, following[0], current) if len(following) == 1 else None
        if step is None or not _is_per_channel(step, rank_of(result), channel):
            break
        total = total.then(step)
        chain.append(following[0])
        current = following[0].results[0]
    if not chain or (len(chain) == 1 and np.all(total.scale == 1)):
        return
    _rewrite(weights, convolution, weight, axis, channel, total, chain)


def _output_axis(convolution: ir.Operation) -> int | None:
    """The weight's axis of output channels; None where a transposed convolution splits it over groups."""
    last = string(convolution, "layout") == "channels_last"
    if convolution.name == "graph.convolution":
        return rank_of(convolution.operands[1]) - 1 if last else 0
    if integer(convolution, "groups") != 1:
        return None
    return rank_of(convolution.operands[1]) - 1 if last else 1


def _is_per_channel(step: Affine, rank: int, channel: int) -> bool:
    """Scale and offset vary along the channel dimension only."""
    for array in (step.scale, step.offset):
        extra = rank - array.ndim
        if any(size != 1 and axis + extra != channel for axis, size in enumerate(array.shape)):
            return False
    return True


def _affine(weights: WeightStore, operation: ir.Operation, value: ir.Value) -> Affine | None:
    """What a map does to `value`, when that is affine with constant coefficients."""
    if operation.name != "graph.map" or operation.results[0].type != value.type:
        return None
    known: dict[ir.Value, Affine] = {}
    for inner in operations_of(body_of(operation)):
        if inner.name == "gpu.yield":
            return known[inner.operands[0]]
        result = _affine_step(weights, inner, value, known)
        if result is None:
            return None
        known[inner.results[0]] = result
    return None


def _affine_step(
    weights: WeightStore, inner: ir.Operation, value: ir.Value, known: dict[ir.Value, Affine]
) -> Affine | None:
    none = np.zeros(())
    if inner.name == "graph.element":
        if inner.operands[0] == value:
            return Affine(np.ones(()), none)
        array = _constant(weights, inner.operands[0])
        return None if array is None else Affine(none, array.astype(np.float64))
    if inner.name == "arith.constant":
        return Affine(none, constant_value(inner).astype(np.float64))
    operands = [known[operand] for operand in inner.operands]
    if inner.name == "arith.negf":
        return Affine(-operands[0].scale, -operands[0].offset)
    if len(operands) != 2:
        return None
    left, right = operands
    if inner.name in ("arith.addf", "arith.subf"):
        sign = 1.0 if inner.name == "arith.addf" else -1.0
        return Affine(left.scale + sign * right.scale, left.offset + sign * right.offset)
    if inner.name == "arith.mulf":
        if np.any(left.scale):
            left, right = right, left
        return None if np.any(left.scale) else Affine(left.offset * right.scale, left.offset * right.offset)
    if inner.name == "arith.divf" and not np.any(right.scale):
        return Affine(left.scale / right.offset, left.offset / right.offset)
    return None


def _constant(weights: WeightStore, value: ir.Value) -> Array | None:
    owner = producer(value)
    if owner is not None and owner.name == "graph.constant":
        return np.asarray(constant_array(owner))
    if owner is not None and owner.name == "graph.weight":
        return weights.get(string(owner, "handle"))
    return None


def _rewrite(
    weights: WeightStore,
    convolution: ir.Operation,
    weight: ir.Operation,
    axis: int,
    channel: int,
    total: Affine,
    chain: list[ir.Operation],
) -> None:
    result, last = convolution.results[0], chain[-1]
    rank, element = rank_of(result), element_of(result)
    outputs = int(shape_of(result)[channel].as_constant() or 0)
    if not np.all(total.scale == 1):
        scale = _along(total.scale, rank, channel, outputs)
        with building_before(convolution):
            convolution.operands[1] = _scaled_weight(weights, weight, scale, axis)
    offset = _along(total.offset, rank, channel, outputs)
    if not np.any(offset):
        replace(last, [result])
        return
    with building_before(last, fused_location([operation.location for operation in chain])):
        dimensions = [outputs] + [1] * (rank - 1 - channel)
        array = offset.astype(np.float64 if element == "f64" else np.float32).reshape(dimensions)
        handle = weights.add(f"{string(weight, 'handle')}.bias", array)
        bias = graph_builder.weight(handle, dimensions, element)
        biased = graph_builder.map([result, bias], lambda x, b: x + b)
    replace(last, [biased])


def _along(array: Array, rank: int, channel: int, outputs: int) -> Array:
    """The array as one value a channel."""
    full = array.reshape((1,) * (rank - array.ndim) + array.shape)
    return np.broadcast_to(full.reshape(full.shape[channel]), (outputs,))


def _scaled_weight(weights: WeightStore, weight: ir.Operation, scale: Array, axis: int) -> ir.Value:
    handle = string(weight, "handle")
    shape = [1] * rank_of(weight.results[0])
    shape[axis] = -1

    def make() -> Array:
        array = weights.get(handle)
        return np.asarray(array * scale.reshape(shape)).astype(array.dtype, copy=False)

    element = element_of(weight.results[0])
    return graph_builder.weight(weights.add(f"{handle}.scaled", make), shape_of(weight.results[0]), element)
