"""Pass `multiply-small-floats`: products of dequantised 8-bit floats multiply the 8-bit floats themselves.

In: a matmul or convolution whose operands are decoded float8e4m3fn or float8e5m2 numbers, times scales or not, as
DequantizeLinear and Cast write them. Out: the product of the bytes with sums in f32, which tensor cores do from sm_89
on, and one map that multiplies by the scales; fusion makes it the epilogue. What decodes is found by what it computes,
not by how.
"""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
from mlir import ir

from ...dialects import graph_builder as build
from ...dialects.scalar import Scalar
from ...dialects.tensors import element_of, rank_of, shape_of, tensor_type
from ...runtime.symbolic import ONE, Expression, product
from ..target import find_target
from ..unit import Unit, WeightStore, register_pass
from .quantized_operands import Parameter, number_or, parameter_of
from .rewriting import (
    Array,
    blocks_within,
    body_of,
    building_before,
    erase_dead,
    functions,
    integer,
    operations_of,
    producer,
    replace,
    string,
    yielded,
)
from .scalar_semantics import apply_scalar, constant_value, understands

NUMBERS = {"f8E4M3FN": ml_dtypes.float8_e4m3fn, "f8E5M2": ml_dtypes.float8_e5m2}
ROUGH = ("f16", "bf16")  # precisions whose sums may be those of the tensor cores, which keep fewer bits of them
LEAST_DEPTH = 64
_PATTERNS = np.arange(256, dtype=np.uint8)


@register_pass("multiply-small-floats", requires="graph", ensures="graph")
def multiply_small_floats(unit: Unit) -> None:
    """Multiply 8-bit floats where both operands are decoded ones and the target's tensor cores do.

    before::

        %a = "graph.map"() ({ decode(element(%x)) * 0.02 })           // %x: tensor<?x64xf8E4M3FN>
        %b = "graph.map"() ({ decode(element(%w)) * element(%s) })    // %w: tensor<64x32xf8E4M3FN>, %s: tensor<32xf32>
        %0 = "graph.matmul"(%a, %b) : ... -> tensor<?x32xf32>

    after::

        %c = "graph.matmul"(%x, %w) : (tensor<?x64xf8E4M3FN>, tensor<64x32xf8E4M3FN>) -> tensor<?x32xf32>
        %0 = "graph.map"() ({ element(%c) * (0.02 * element(%s)) })
    """
    if unit.precision not in ROUGH or "f8" not in find_target(unit.target).mma:
        return
    with unit.module.context, ir.Location.unknown():
        main = functions(unit.module)["main"]
        for block in blocks_within(main):
            for operation in operations_of(block):
                if operation.name in ("graph.matmul", "graph.convolution"):
                    _rewrite(operation, unit.weights)
        erase_dead(main)


@dataclass(frozen=True)
class Decoded:
    """The operand is the numbers that the bytes `values` stand for, times `scale`."""

    values: ir.Value
    scale: Parameter


def _rewrite(operation: ir.Operation, weights: WeightStore) -> None:
    left = decoded(operation.operands[0])
    if left is None:
        return
    right = decoded(operation.operands[1]) or _stored(operation, element_of(left.values), weights)
    if right is None or not _is_supported(operation, left, right):
        return
    result = operation.results[0]
    with building_before(operation):
        sums = ir.Operation.create(
            operation.name,
            results=[tensor_type(shape_of(result), "f32")],
            operands=[left.values, right.values],
            attributes={name: operation.attributes[name] for name in operation.attributes},
        ).result
        scales = [left.scale, _along_columns(operation, right.scale)]
        replace(operation, [_scaled(sums, scales, element_of(result))])


def _stored(operation: ir.Operation, kind: str, weights: WeightStore) -> Decoded | None:
    """A weight all of whose numbers are such bytes: a decoded one that was computed while the model was read."""
    owner = producer(operation.operands[1])
    if owner is None or owner.name != "graph.weight":
        return None
    array = weights.get(string(owner, "handle"))
    with np.errstate(all="ignore"):
        eights = array.astype(NUMBERS[kind])
        if not np.array_equal(eights.astype(array.dtype), array):
            return None
    with building_before(operation):
        handle = weights.add(f"{string(owner, 'handle')}.bytes", eights)
        return Decoded(build.weight(handle, shape_of(operation.operands[1]), kind), Parameter(1.0))


def _is_supported(operation: ir.Operation, left: Decoded, right: Decoded) -> bool:
    """One scale for all of the left operand, and one for all or for each column (output channel) of the right; k for
    which bytes pay.
    """
    depth, columns = _depth(operation, left.values, right.values).as_constant(), _columns(operation, right.values)
    if depth is None or depth < LEAST_DEPTH or not left.scale.is_scalar:
        return False
    if _is_convolution(operation) and not _is_plain(operation):
        return False
    if right.scale.tensor is None or right.scale.is_scalar:
        return True
    own = rank_of(right.values) - rank_of(right.scale.tensor)
    return all(size == 1 or place + own == columns for place, size in enumerate(shape_of(right.scale.tensor)))


def _is_convolution(operation: ir.Operation) -> bool:
    return str(operation.name) == "graph.convolution"


def _is_plain(operation: ir.Operation) -> bool:
    """A convolution of one group, not yet laid out anew."""
    return integer(operation, "groups") == 1 and string(operation, "layout") == "channels_first"


def _depth(operation: ir.Operation, left: ir.Value, right: ir.Value) -> Expression:
    """The length of k."""
    if _is_convolution(operation):
        return product(list(shape_of(right)[1:]))
    return shape_of(left)[-2 if integer(operation, "transpose_left") else -1]


def _columns(operation: ir.Operation, right: ir.Value) -> int:
    """The dimension of the right operand that is not k."""
    return 0 if _is_convolution(operation) else rank_of(right) - 1 - integer(operation, "transpose_right")


def _along_columns(operation: ir.Operation, scale: Parameter) -> Parameter:
    """A scale for each column, shaped to broadcast against the result."""
    if scale.tensor is None or scale.is_scalar:
        return scale
    size = max(shape_of(scale.tensor), key=lambda extent: extent != 1)
    spatial = rank_of(operation.results[0]) - 2 if _is_convolution(operation) else 0
    return Parameter(None, build.reshape(scale.tensor, [size, *[ONE] * spatial]))


def _scaled(sums: ir.Value, scales: list[Parameter], element: str) -> ir.Value:
    def body(total: Scalar, *rest: Scalar) -> Scalar:
        given = list(rest)
        first, second = (number_or(scale, given, lambda value: value.cast("f32")) for scale in scales)
        return (total * (second * first)).cast(element)

    return build.map([sums, *(tensor for scale in scales for tensor in scale.captured())], body)


# Recognition ----------------------------------------------------------------------------------------------------
def decoded(value: ir.Value) -> Decoded | None:
    """The operand as bytes with their scale, or None."""
    owner = producer(value)
    if owner is None or owner.name != "graph.map":
        return None
    result = yielded(owner)[0]
    narrowed = producer(result)
    if narrowed is not None and narrowed.name == "arith.truncf":
        result = narrowed.operands[0]
    whole = _numbers(owner, result)
    if whole is not None:
        return Decoded(whole, Parameter(1.0))
    factors = producer(result)
    if factors is None or factors.name != "arith.mulf":
        return None
    values, scale = _numbers(owner, factors.operands[0]), parameter_of(factors.operands[1])
    return None if values is None or scale is None else Decoded(values, scale)


def _numbers(owner: ir.Operation, result: ir.Value) -> ir.Value | None:
    """The tensor whose bytes the scalar `result` decodes: one that is read at the map's own place."""
    reads = [operation for operation in operations_of(body_of(owner)) if operation.name == "graph.element"]
    for read in reads:
        values = read.operands[0]
        kind = NUMBERS.get(element_of(values))
        if kind is None or shape_of(values) != shape_of(owner.results[0]):
            continue
        found = _evaluate(owner, read.results[0], result)
        with np.errstate(all="ignore"):
            numbers = _PATTERNS.view(kind).astype(np.float32)
        if found is not None and found.dtype == np.float32 and np.array_equal(found, numbers, equal_nan=True):
            return values
    return None


def _evaluate(owner: ir.Operation, pattern: ir.Value, result: ir.Value) -> Array | None:
    """What `result` is for each of the 256 patterns; None where it depends on anything else."""
    known: dict[ir.Value, Array] = {pattern: _PATTERNS.view(np.int8)}
    for operation in operations_of(body_of(owner)):
        if operation.name == "arith.constant":
            known[operation.results[0]] = constant_value(operation)
        elif understands(operation.name) and all(operand in known for operand in operation.operands):
            with np.errstate(all="ignore"):
                operands = [known[operand] for operand in operation.operands]
                known[operation.results[0]] = apply_scalar(operation, operands)
    found = known.get(result)
    return None if found is None else np.broadcast_to(found, _PATTERNS.shape)
