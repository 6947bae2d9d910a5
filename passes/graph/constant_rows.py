"""Constant rows that are added to products: recognised, and written again for other products.

In: a product and the map that reads it. Out: the weight of rank 1 which that map adds to every row, and the same map
over another product and another row. It exists because merged and paired products take their biases along.
"""

from __future__ import annotations

from mlir import ir

from ...dialects.tensors import element_of, rank_of, shape_of, tensor_type
from .rewriting import body_of, building_before, captures, clone_into, operations_of, producer

# The body of a sum, in the elements' own type or widened for it and rounded again.
_SUMS = (
    ["arith.addf", "gpu.yield", "graph.element", "graph.element"],
    ["arith.addf", "arith.extf", "arith.extf", "arith.truncf", "gpu.yield", "graph.element", "graph.element"],
)


def body_names(operation: ir.Operation) -> list[str]:
    """The operations of a map's body, in order."""
    return [inner.name for inner in operations_of(body_of(operation))]


def is_weight(value: ir.Value, rank: int) -> bool:
    """True for a constant tensor of that rank which lies in the weight store."""
    owner = producer(value)
    return owner is not None and owner.name == "graph.weight" and rank_of(value) == rank


def added_row(reader: ir.Operation, product: ir.Value) -> ir.Value | None:
    """The constant row, as long as those of `product`, that the map adds to it; None when it does anything else."""
    if reader.name != "graph.map" or sorted(body_names(reader)) not in _SUMS:
        return None
    others = [inner.operands[0] for inner in captures(reader) if inner.operands[0] != product]
    if len(others) != 1 or not is_weight(others[0], 1) or shape_of(reader.results[0]) != shape_of(product):
        return None
    return others[0] if shape_of(others[0])[0] == shape_of(product)[-1] else None


def add_row(like: ir.Operation, product: ir.Value, row: ir.Value, before: ir.Operation) -> ir.Value:
    """What the sum `like` makes of another product and another row, computed in front of `before`."""
    old = next(inner.operands[0] for inner in captures(like) if not is_weight(inner.operands[0], 1))
    values = {inner.operands[0]: row for inner in captures(like) if inner.operands[0] != old} | {old: product}
    with building_before(before):
        made = clone_into(like, values, ir.InsertionPoint(before))
    made.results[0].set_type(tensor_type(shape_of(product), element_of(like.results[0])))
    return made.results[0]
