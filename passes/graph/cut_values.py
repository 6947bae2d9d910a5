"""Values in a shape in which one dimension is cut into parts, with the maps in front computed in that shape.

In: a value, where it is cut. Out: the same elements with one dimension more. A reshape of a map would keep the map from
sharing a kernel with what reads the parts.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlir import ir

from ...dialects import graph_builder
from ...dialects.tensors import Shape, element_of, shape_of, tensor_type
from ...runtime.symbolic import ONE, Expression
from .rewriting import body_of, captures, clone_into, inner_operations, operations_of, producer, users

_CONVERSIONS = ("arith.extf", "arith.truncf")


@dataclass(frozen=True)
class Cut:
    """Which dimension is cut, counted from the end, into how many parts, and in front of what this is written."""

    from_end: int
    parts: int
    before: ir.Operation

    def shape(self, shape: Shape) -> list[Expression]:
        """A shape with that dimension cut; what broadcasts along it still does."""
        axis = len(shape) - self.from_end
        if axis < 0:
            return list(shape)
        size = shape[axis]
        halves = [ONE, ONE] if size == 1 else [Expression.constant(self.parts), size.exact_divide(self.parts) or ONE]
        return [*shape[:axis], *halves, *shape[axis + 1 :]]


def cut_value(value: ir.Value, cut: Cut, reader: ir.Operation) -> ir.Value:
    """The value in its new shape, computed so where it is a map that only `reader` needs, or a conversion, and that
    does not ask where it is.
    """
    shape = cut.shape(shape_of(value))
    owner = producer(value)
    if owner is None or owner.name != "graph.map" or not (users(value) == [reader] or _is_conversion(owner)):
        return graph_builder.reshape(value, shape)
    if asks_where(owner):
        return graph_builder.reshape(value, shape)
    values = {inner.operands[0]: cut_value(inner.operands[0], cut, owner) for inner in captures(owner)}
    made = clone_into(owner, values, ir.InsertionPoint(cut.before))
    made.results[0].set_type(tensor_type(shape, element_of(value)))
    return made.results[0]


def asks_where(operation: ir.Operation) -> bool:
    """Whether a map looks at its position, or at others', which a dimension more would change."""
    moved = {"graph.index", "graph.element_at"}
    return any(inner.name in moved or len(inner.regions) for inner in inner_operations(operation))


def _is_conversion(operation: ir.Operation) -> bool:
    """Whether the map only converts: that is done again for less than its result costs to store."""
    names = [inner.name for inner in operations_of(body_of(operation))]
    return len(names) == 3 and names[0] == "graph.element" and names[1] in _CONVERSIONS
