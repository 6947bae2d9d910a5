"""Pass `merge-maps`: a map whose only reader is another map of the same shape moves into that map's body.

In: chains of pointwise operations as the model has them. Out: the same with one map a chain. Kernels then
have fewer and larger bodies, and patterns such as the softmax look alike whoever exported them.
"""

from __future__ import annotations

from mlir import ir

from ..unit import Unit, register_pass
from .common_subexpressions import merge_duplicates
from .rewriting import (
    blocks_within,
    body_of,
    captures,
    functions,
    fused_location,
    is_constant,
    operations_of,
    producer,
    replace,
    users,
)

PRODUCTS = ("graph.matmul", "graph.convolution", "graph.convolution_transpose")


@register_pass("merge-maps", requires="graph", ensures="graph")
def merge_maps(unit: Unit) -> None:
    """Inline maps into the only map that reads them.

    before::

        %0 = "graph.map"() ({ %x + %bias }) : () -> tensor<4x8xf32>
        %1 = "graph.map"() ({ maximumf %0, 0 }) : () -> tensor<4x8xf32>

    after::

        %1 = "graph.map"() ({ maximumf (%x + %bias), 0 }) : () -> tensor<4x8xf32>
    """
    with unit.module.context, ir.Location.unknown():
        for block in blocks_within(functions(unit.module)["main"]):
            for operation in operations_of(block):
                if operation.name == "graph.map" and not _rounds_operands(operation):
                    _take_producers(operation)


def _take_producers(operation: ir.Operation) -> None:
    """Inline every producer that only this map reads; producers come first, so theirs are inlined already."""
    changed = False
    for inner in captures(operation):
        source = producer(inner.operands[0])
        if source is None or source.name != "graph.map" or not _can_move(source, operation):
            continue
        _inline(source, operation)
        changed = True
    if changed:
        merge_duplicates(body_of(operation))


def _rounds_operands(operation: ir.Operation) -> bool:
    """True for a cast to a narrower float that products read: it belongs to them, not to what comes before."""
    names = [inner.name for inner in operations_of(body_of(operation))]
    if names != ["graph.element", "arith.truncf", "gpu.yield"]:
        return False
    return all(reader.name in PRODUCTS for reader in users(operation.results[0]))


def _can_move(source: ir.Operation, operation: ir.Operation) -> bool:
    """Same shape, no other reader, and read in place only."""
    value = source.results[0]
    if ir.RankedTensorType(value.type).shape != ir.RankedTensorType(operation.results[0].type).shape:
        return False
    if ir.RankedTensorType(value.type).encoding != ir.RankedTensorType(operation.results[0].type).encoding:
        return False
    if _ends_a_product(source) and _reads_another(operation, value):
        return False
    if any(use.owner.operation.name != "graph.element" for use in value.uses):
        return False
    return users(value) == [operation]


def _ends_a_product(source: ir.Operation) -> bool:
    """True for a map over the result of a contraction, such as its bias."""
    return any(
        owner is not None and owner.name in PRODUCTS
        for owner in (producer(inner.operands[0]) for inner in captures(source))
    )


def _reads_another(operation: ir.Operation, value: ir.Value) -> bool:
    """True when the map joins `value` with another tensor of its size, such as a residual.

    The bias of a product then stays with the product: of two that are added, each keeps its own, and a block of a
    network with a shortcut convolution has the same kernels as one without.
    """
    others = [inner.operands[0] for inner in captures(operation) if inner.operands[0] != value]
    return any(other.type == value.type and not is_constant(other) for other in others)


def _inline(source: ir.Operation, operation: ir.Operation) -> None:
    """Move the body of `source` to the start of the body of `operation`, and its yielded value to its readers."""
    location = fused_location([source.location, operation.location])
    first = operations_of(body_of(operation))[0]
    moved = operations_of(body_of(source))
    value = moved[-1].operands[0]
    for inner in moved[:-1]:
        inner.move_before(first)
    for use in list(source.results[0].uses):
        replace(use.owner.operation, [value])
    moved[-1].erase()
    source.erase()
    operation.location = location
