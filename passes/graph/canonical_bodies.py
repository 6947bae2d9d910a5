"""One spelling for bodies that compute the same, whichever way round an exporter wrote an addition.

In: a map and what is computed within its kernel. Out: the same map with its captures first and in a fixed
order, and the operands of commutative operations sorted. Equal kernels then look equal and are compiled once.
"""

from __future__ import annotations

from mlir import ir

from ...dialects.tensors import rank_of
from .rewriting import body_of, operations_of

COMMUTATIVE = frozenset(
    {
        "arith.addf",
        "arith.mulf",
        "arith.maximumf",
        "arith.maxnumf",
        "arith.minimumf",
        "arith.addi",
        "arith.muli",
        "arith.maxsi",
        "arith.minsi",
        "arith.andi",
        "arith.ori",
        "arith.xori",
    }
)


def order_captures(operation: ir.Operation, made: set[ir.Value]) -> None:
    """Put elements of values in `made` (computed in the same kernel) first, then others by falling rank and type."""
    block = body_of(operation)
    operations = operations_of(block)
    elements = [inner for inner in operations if inner.name == "graph.element"]
    elements.sort(key=lambda inner: _rank(inner.operands[0], made))
    if not elements:
        return
    for inner in elements:
        inner.move_before(operations[-1])
    for inner in operations:
        if inner.name != "graph.element" and inner != operations[-1]:
            inner.move_before(operations[-1])
    _sort_operands(block)


def _rank(value: ir.Value, made: set[ir.Value]) -> tuple[bool, int, str]:
    return (value not in made, -rank_of(value), str(value.type))


def _sort_operands(block: ir.Block) -> None:
    """Operands of commutative operations in the order in which they are defined."""
    position: dict[ir.Value, int] = {}
    for inner in operations_of(block):
        if inner.name in COMMUTATIVE:
            first, second = inner.operands
            if position.get(first, -1) > position.get(second, -1):
                inner.operands[0], inner.operands[1] = second, first
        for result in inner.results:
            position[result] = len(position)
