"""The parts of an attention kernel by name.

In: the operations of a kernel function of kind ``attention``, as passes/graph/attention_rules.py admits them. Out:
`Parts`, from which both programs (tile/attention.py and tile/attention_wgmma.py) are made.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlir import ir
from mlir.dialects import arith

from ...runtime.errors import InternalError


@dataclass(frozen=True)
class Parts:
    """The operations of an attention kernel."""

    scores: ir.Operation  # matmul Q x K^T
    maximum: ir.Operation  # reduce max of what the softmax sees
    total: ir.Operation  # reduce sum
    output: ir.Operation  # matmul P x V
    guard: str  # what makes a quotient zero, for rows without a valid key: "" nothing, "nan", or "empty": a sum of zero


def find_parts(operations: list[ir.Operation]) -> Parts:
    """Name the parts of a kernel function. Raises InternalError when it is not an attention."""
    matmuls = [operation for operation in operations if operation.name == "graph.matmul"]
    reductions = [operation for operation in operations if operation.name == "graph.reduce"]
    if len(matmuls) != 2 or len(reductions) != 2:
        raise InternalError("an attention kernel has two matmuls and two reductions")
    between = operations[operations.index(reductions[1]) : operations.index(matmuls[1])]
    guard = next((found for found in map(_guard, between) if found), "")
    return Parts(matmuls[0], reductions[0], reductions[1], matmuls[1], guard)


def _guard(operation: ir.Operation) -> str:
    """What a map between the softmax and the second contraction compares: only the test for NaN and that of the sum
    are admitted.
    """
    inner = [view.operation for region in operation.regions for view in region.blocks[0].operations]
    tests = [own for own in inner if own.name == "arith.cmpf"] if operation.name == "graph.map" else []
    if not tests:
        return ""
    unordered = ir.IntegerAttr(tests[0].attributes["predicate"]).value == arith.CmpFPredicate.UNO
    return "nan" if unordered or tests[0].operands[0] == tests[0].operands[1] else "empty"
