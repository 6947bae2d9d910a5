"""Pass `lay-out-weights`: weights lie in memory as tensor cores read them.

In: products for tensor cores (in 16 bits, 8 bits, or tf32) with a weight on the right. Out: the same products, their
weights kept along k. Tensor cores read operands of 16 bits along either dimension, but in fewer pieces along k; tiles
of few columns, and other types, along k only. A weight can be permuted before anything runs, and be rounded to tf32 as
well, where wgmma would cut its bits off.
"""

from __future__ import annotations

import numpy as np
from mlir import ir

from ...dialects import graph_builder
from ...dialects.tensors import element_of, rank_of, shape_of
from ...runtime.dtypes import dtype
from ...runtime.symbolic import product
from ..unit import Unit, WeightStore, register_pass
from .fold_constants import transposed_weight
from .rewriting import (
    Array,
    blocks_within,
    building_before,
    erase_dead,
    functions,
    integer,
    operations_of,
    producer,
    string,
)

ACCESS_BYTES = 16  # of the widest access
BYTES_ACCESS = 4
GROUP_CHANNELS = 16  # 32 bytes of halves, the shortest line of a shared tile
BYTES = {"i8", "ui8"}
SMALL_FLOATS = {"f8E4M3FN", "f8E5M2"}
_TURN = "transpose_right"


@register_pass("lay-out-weights", requires="graph", ensures="graph")
def lay_out_weights(unit: Unit) -> None:
    """Keep weights of products for tensor cores along k.

    before::

        %w = "graph.weight"() {handle = "w"} : () -> tensor<512x64xf32>
        %0 = "graph.matmul"(%x, %w) {precision = "tf32", transpose_right = 0}

    after::

        %w = "graph.weight"() {handle = "w.1"} : () -> tensor<64x512xf32>
        %0 = "graph.matmul"(%x, %w) {precision = "tf32", transpose_right = 1}

    The f32 weights are then the nearest tf32 numbers. A convolution in channels-last reads its weight through a
    transpose, which becomes part of its kernel.
    """
    with unit.module.context, ir.Location.unknown():
        main = functions(unit.module)["main"]
        products = [
            operation
            for block in blocks_within(main)
            for operation in operations_of(block)
            if _reads_along_depth(operation)
        ]
        for operation in products:
            _turn(unit.weights, operation)
        erase_dead(main)


def _reads_along_depth(operation: ir.Operation) -> bool:
    """A product whose right operand is a weight that nothing else needs, the dimension that is not k innermost, and
    whose lines along k would begin where wide accesses may.
    """
    if operation.name == "graph.matmul":
        across = not integer(operation, _TURN)
    elif operation.name == "graph.convolution":
        across = string(operation, "layout") == "channels_last" and _has_wide_groups(operation)
    else:
        return False
    weight = producer(operation.operands[1])
    stored = across and weight is not None and weight.name == "graph.weight"
    if not stored or len(list(operation.operands[1].uses)) > 1:
        return False
    rounded = "precision" in operation.attributes and string(operation, "precision") == "tf32"
    kinds = {element_of(operand) for operand in operation.operands}
    depth = product(list(shape_of(operation.operands[1])[-2 if operation.name == "graph.matmul" else 0 : -1]))
    # Bytes have no instruction that reads them across k; four along it are the least that it reads.
    least = BYTES_ACCESS if kinds <= BYTES or kinds <= SMALL_FLOATS else ACCESS_BYTES
    if not (depth * dtype(element_of(operation.operands[1])).bytes).divisible_by(least):
        return False
    return kinds in ({"f16"}, {"bf16"}) or kinds <= BYTES or kinds <= SMALL_FLOATS or (rounded and kinds == {"f32"})


def _has_wide_groups(operation: ir.Operation) -> bool:
    """One group, or several whose channels fill lines of their own."""
    channels = shape_of(operation.operands[1])[-2]
    return integer(operation, "groups") == 1 or channels.divisible_by(GROUP_CHANNELS)


def _turn(weights: WeightStore, operation: ir.Operation) -> None:
    old, matmul = operation.operands[1], operation.name == "graph.matmul"
    weight, axes = producer(old), list(range(rank_of(old)))
    assert weight is not None
    order = (*axes[:-2], axes[-1], axes[-2]) if matmul else (axes[-1], *axes[:-1])
    fresh = transposed_weight(weights, weight, order, operation)
    if element_of(old) == "f32":
        owner = producer(fresh)
        assert owner is not None
        handle = string(owner, "handle")
        rounded = weights.add(f"{handle}.tf32", lambda: nearest_tf32(weights.get(handle)))
        owner.attributes["handle"] = graph_builder.attribute(rounded)
    if matmul:
        operation.operands[1] = fresh
        operation.attributes[_TURN] = graph_builder.attribute(1)
        return
    with building_before(operation):
        operation.operands[1] = graph_builder.transpose(fresh, [*axes[1:], axes[0]])


def nearest_tf32(array: Array) -> Array:
    """f32 numbers rounded to 10 bits of mantissa, ties away from zero as cvt.rna does; NaN and infinities stay."""
    bits = array.view(np.uint32)
    exponent = np.uint32(0x7F800000)
    rounded = (bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    return np.where(bits & exponent == exponent, bits, rounded).view(np.float32)
