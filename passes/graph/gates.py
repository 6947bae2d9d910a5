"""Gates: two halves of a product that one map joins, such as silu(a) * b.

In: two values of one shape. Out: the maps between them and the one that reads both, if nothing else needs what lies
between. It exists because `pair-products` and `fuse` must agree on what becomes the epilogue of one kernel.
"""

from __future__ import annotations

from mlir import ir

from ...dialects.tensors import shape_of
from .rewriting import block_of, captures, expressions, inputs_of, integers, operations_of, users


def maps_to_join(first: ir.Value, second: ir.Value) -> list[ir.Operation] | None:
    """Maps of the values' shape up to the first that depends on both, which is the last of the list; None where there
    is no such map, or something else reads any of the values on the way.
    """
    reached = _reached(first), _reached(second)
    both = [operation for operation in reached[0] if operation in reached[1]]
    if not both:
        return None
    order = {operation: number for number, operation in enumerate(operations_of(block_of(first)))}
    join = min(both, key=lambda operation: order[operation])
    after = _reached(join.results[0])
    way = {operation for operation in [*reached[0], *reached[1]] if operation not in after and operation != join}
    values = [first, second, *(operation.results[0] for operation in way)]
    if any(user != join and user not in way for value in values for user in users(value)):
        return None
    return [*sorted(way, key=lambda operation: order[operation]), join]


def _reached(value: ir.Value) -> list[ir.Operation]:
    """Maps that depend on the value through maps of its shape, each element on the one at its own position only."""
    shape, found, pending = shape_of(value), dict[ir.Operation, None](), [value]
    while pending:
        current = pending.pop()
        for user in users(current):
            in_place = user.name == "graph.map" and shape_of(user.results[0]) == shape
            if user in found or not in_place or _gathers(user, current):
                continue
            found[user] = None
            pending.append(user.results[0])
    return list(found)


def _gathers(operation: ir.Operation, value: ir.Value) -> bool:
    return any(inner.operands[0] == value for inner in captures(operation, "graph.element_at"))


def alternate_columns(value: ir.Value) -> tuple[ir.Operation, ir.Operation] | None:
    """The slices that take the even and the odd columns of the value, when only these two read it. More than a column
    each: the place of a single one has no number, and a kernel could not tell the halves apart by it.
    """
    readers = users(value)
    if len(readers) != 2 or any(reader.name != "graph.slice" for reader in readers):
        return None
    zeros = [0] * len(shape_of(value))
    found: dict[int, ir.Operation] = {}
    for reader in readers:
        starts = [start.as_constant() for start in expressions(reader, "starts")]
        steps = list(integers(reader, "steps"))
        if starts[:-1] != zeros[:-1] or steps != [*[1] * (len(steps) - 1), 2] or starts[-1] not in (0, 1):
            return None
        found[starts[-1]] = reader
    half = shape_of(readers[0].results[0])[-1]
    same = half != 1 and half * 2 == shape_of(value)[-1]
    return (found[0], found[1]) if len(found) == 2 and same and inputs_of(readers[0]) == [value] else None
