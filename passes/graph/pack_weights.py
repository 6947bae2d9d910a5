"""Pass `pack-weights`: weights of 2 and 4 bits lie packed in memory, as they do in the file.

In: maps that read such weights, one element a byte. Out: the same maps, reading the byte that holds an element and
shifting its bits down; the movement that repeats every byte becomes part of the kernel. Half the memory and traffic
of a large product with int4 weights are these bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mlir import ir

from ...dialects import graph_builder as build
from ...dialects.narrow import PACKED
from ...dialects.scalar import Scalar
from ...dialects.tensors import element_of, rank_of, shape_of
from ...runtime.symbolic import Expression
from ..unit import Unit, WeightStore, register_pass
from .rewriting import (
    Array,
    blocks_within,
    building_before,
    erase_dead,
    functions,
    integer,
    operations_of,
    replace,
    string,
)


@register_pass("pack-weights", requires="graph", ensures="graph")
def pack_weights(unit: Unit) -> None:
    """Store weights of 2 and 4 bits in whole bytes.

    before::

        %w = "graph.weight"() {handle = "w"} : () -> tensor<64x32xi4>
        %0 = "graph.map"() ({ extsi(element(%w)) ... })

    after::

        %w = "graph.weight"() {handle = "w.1"} : () -> tensor<64x16xui8>
        %b = reshape(broadcast(%w, <64x16x2>), <64x32>)
        %0 = "graph.map"() ({ extsi(element(%b) >> 4 * (index(1) & 1) & 15) ... })

    What reads a weight in another order than a map of its shape keeps the weight as it is, a byte an element. The
    neighbours in a byte are those of the last dimension, but those of k where the map is the right operand of a product
    that has k first: the weight is then stored turned, so that a program can read many along k at once.
    """
    with unit.module.context, ir.Location.unknown():
        main = functions(unit.module)["main"]
        for block in blocks_within(main):
            for operation in operations_of(block):
                if operation.name == "graph.weight" and _is_read_in_order(operation.results[0]):
                    _pack(unit.weights, operation)
        erase_dead(main)


def _is_read_in_order(weight: ir.Value) -> bool:
    """Every reader is a map of the weight's own shape: positions of bits are those of the map."""
    return (
        element_of(weight) in PACKED
        and rank_of(weight) > 0
        and all(
            use.owner.operation.name == "graph.element" and shape_of(_reader(use).results[0]) == shape_of(weight)
            for use in weight.uses
        )
    )


def _reader(use: ir.OpOperand) -> ir.Operation:
    """The map around a `graph.element`."""
    parent: ir.Operation = use.owner.operation.parent.operation
    return parent


def _pack(weights: WeightStore, operation: ir.Operation) -> None:
    weight, handle = operation.results[0], string(operation, "handle")
    element, shape, rank = element_of(weight), shape_of(weight), rank_of(weight)
    count, turned = PACKED[element], _has_depth_first(weight)
    order = [*range(rank - 2), rank - 1, rank - 2] if turned else [*range(rank)]
    stored = [shape[axis] for axis in order]
    fresh = weights.add(handle, lambda: packed(weights.get(handle).transpose(order), count))
    with building_before(operation):
        in_bytes = build.weight(fresh, [*stored[:-1], (stored[-1] + count - 1) // count], "ui8")
    for use in list(weight.uses):
        with building_before(_reader(use)):
            repeated = _repeated(in_bytes, count, stored)
            repeated = build.transpose(repeated, order) if turned else repeated
        inner = use.owner.operation
        with building_before(inner):
            replace(inner, [_field(repeated, order[-1], count, element).value])


def _has_depth_first(weight: ir.Value) -> bool:
    """Whether the one reader of the weight is the right operand of products along its last dimension but one."""
    readers = [_reader(use).results[0] for use in weight.uses]
    products = [use for value in readers for use in value.uses]
    return len(readers) == 1 and bool(products) and all(_is_along_rows(use) for use in products)


def _is_along_rows(use: ir.OpOperand) -> bool:
    product = use.owner.operation
    return product.name == "graph.matmul" and use.operand_number == 1 and not integer(product, "transpose_right")


def _repeated(in_bytes: ir.Value, count: int, shape: Sequence[Expression]) -> ir.Value:
    """The byte of every element, at the element's place."""
    rank, sizes = len(shape), shape_of(in_bytes)
    spread = build.broadcast(build.expand_dimensions(in_bytes, [rank]), [*sizes, count])
    whole = build.reshape(spread, [*sizes[:-1], sizes[-1] * count])
    return whole if list(shape_of(whole)) == list(shape) else build.slice(whole, [0] * rank, shape)


def _field(repeated: ir.Value, axis: int, count: int, element: str) -> Scalar:
    """In a map: the bits of the element, the first of a byte being the lowest."""
    bits = 8 // count
    byte = Scalar(ir.Operation.create("graph.element", [ir.IntegerType.get_signless(8)], [repeated]).result, "ui8")
    place = build.index(axis).cast("ui8") & (count - 1)
    return (byte.shift_right(place * bits) & ((1 << bits) - 1)).retyped(element)


def packed(array: Array, count: int) -> Array:
    """`count` elements a byte along the last dimension, the first in the low bits, the last byte filled with zeros."""
    bits = 8 // count
    patterns = np.ascontiguousarray(array).view(np.uint8) & ((1 << bits) - 1)
    patterns = np.pad(patterns, [(0, 0)] * (array.ndim - 1) + [(0, -array.shape[-1] % count)])
    result: Array = patterns[..., ::count].copy()
    for place in range(1, count):
        result |= patterns[..., place::count] << np.uint8(bits * place)
    return result
