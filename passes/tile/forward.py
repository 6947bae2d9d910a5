"""From a position of one value of a kernel to the positions of what is computed from it.

In: a value, a position, and a later value that depends on it through maps and data movement. Out: the position in the
later value. Programs that produce a tensor tile by tile (reductions, contractions) use it to find where each element
of their result ends up.
"""

from __future__ import annotations

from mlir import ir

from ...dialects.tensors import shape_of
from ...runtime.errors import InternalError
from ...runtime.symbolic import ZERO, Expression, expression
from .builder import TileBuilder
from .elements import Indices, reshape_position


def forward_position(builder: TileBuilder, value: ir.Value, indices: Indices, target: ir.Value) -> Indices:
    """The position in `target` that the element of `value` at `indices` goes to."""
    path = _path(value, target)
    position = indices
    for operation in path:
        position = _step(builder, operation, position)
    return position


def _path(value: ir.Value, target: ir.Value) -> list[ir.Operation]:
    """Operations from `value` to `target`, through the operand that leads back to it at full size."""
    pending: list[tuple[ir.Value, list[ir.Operation]]] = [(target, [])]
    seen: set[ir.Value] = set()
    while pending:
        current, later = pending.pop()
        if current == value:
            return later
        if current in seen or isinstance(current.owner, ir.Block):
            continue
        seen.add(current)
        operation = current.owner
        for operand in _sources(operation):
            pending.append((operand, [operation, *later]))
    raise InternalError(f"{target} does not depend on {value} through maps and data movement")


def _sources(operation: ir.Operation) -> list[ir.Value]:
    if operation.name == "graph.map":
        found: list[ir.Value] = []
        shape = shape_of(operation.results[0])

        def visit(inner: ir.Operation) -> ir.WalkResult:
            if inner.name == "graph.element" and _same_size(shape_of(inner.operands[0]), shape):
                found.append(inner.operands[0])
            return ir.WalkResult.ADVANCE

        operation.walk(visit)
        return found
    if operation.name in ("graph.reshape", "graph.transpose", "graph.broadcast"):
        return [operation.operands[0]]
    if operation.name == "graph.slice":
        # Of the two halves of pairs, the even one leads on: both go the same way.
        odd = any(step != 1 and start != ZERO for start, step in zip(*_slice(operation), strict=True))
        return [] if odd else [operation.operands[0]]
    return []


def _slice(operation: ir.Operation) -> tuple[list[Expression], list[int]]:
    starts = [expression(ir.StringAttr(item).value) for item in ir.ArrayAttr(operation.attributes["starts"])]
    return starts, list(ir.DenseI64ArrayAttr(operation.attributes["steps"]))


def _same_size(shape: tuple[Expression, ...], result: tuple[Expression, ...]) -> bool:
    lead = result[: len(result) - len(shape)]
    return all(size == 1 for size in lead) and tuple(result[len(lead) :]) == tuple(shape)


def _step(builder: TileBuilder, operation: ir.Operation, indices: Indices) -> Indices:
    result = shape_of(operation.results[0])
    if operation.name == "graph.map":
        return (*[ZERO] * (len(result) - len(indices)), *indices)
    if operation.name == "graph.reshape":
        return reshape_position(builder, indices, shape_of(operation.operands[0]), result)
    if operation.name == "graph.transpose":
        return tuple(indices[axis] for axis in ir.DenseI64ArrayAttr(operation.attributes["permutation"]))
    if operation.name == "graph.broadcast" and _same_size(shape_of(operation.operands[0]), result):
        return (*[ZERO] * (len(result) - len(indices)), *indices)
    if operation.name == "graph.slice":
        starts, steps = _slice(operation)
        return tuple(
            builder.divide(index - start, step) for index, start, step in zip(indices, starts, steps, strict=True)
        )
    raise InternalError(f"'{operation.name}' cannot follow a reduction or contraction inside a kernel:\n{operation}")
