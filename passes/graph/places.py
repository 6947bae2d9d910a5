"""Where tensors of a kernel's signature lie in memory, when that is inside a larger tensor.

In: a kernel function. Out: for each argument and result the larger tensor and the position in it, or None for tensors
that have memory of their own. It is an attribute, `graph.places`, because it changes addresses and no value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlir import ir

from ...dialects.tensors import Shape
from ...runtime.symbolic import ZERO, expression, product

ATTRIBUTE = "graph.places"


@dataclass(frozen=True)
class Place:
    """The part of a tensor of `shape` that begins at position `low`."""

    shape: Shape
    low: Shape


    def renamed(self, shape: Shape, other: Shape) -> Place | None:
        """Where a tensor of `shape` that lies here is as a tensor of shape `other`, another name for the same elements.

        One dimension may be split: of [2, 12] within [2, 24] the halves [2, 3, 4] are within [2, 6, 4]. None else.
        """
        if shape == other:
            return self
        axis = next((axis for axis, (a, b) in enumerate(zip(shape, other, strict=False)) if a != b), len(shape))
        count = len(other) - len(shape) + 1
        pieces = other[axis : axis + count]
        if count < 2 or axis == len(shape) or other[axis + count :] != shape[axis + 1 :]:
            return None
        inner = product(list(pieces[1:]))
        outer, low = self.shape[axis].exact_divide(inner), self.low[axis].exact_divide(inner)
        if product(list(pieces)) != shape[axis] or outer is None or low is None:
            return None
        zeros = (ZERO,) * (count - 1)
        return Place(
            (*self.shape[:axis], outer, *pieces[1:], *self.shape[axis + 1 :]),
            (*self.low[:axis], low, *zeros, *self.low[axis + 1 :]),
        )


def read_places(function: ir.Operation) -> list[Place | None] | None:
    """One entry for each argument, then for each result; None where none of them lies in a larger tensor."""
    if ATTRIBUTE not in function.attributes:
        return None
    return [read_place(item) for item in ir.ArrayAttr(function.attributes[ATTRIBUTE])]


def write_places(function: ir.Operation, places: Sequence[Place | None]) -> None:
    """Set the attribute, or remove it where no place is left."""
    if any(places):
        texts = [place_attribute(place) if place else ir.ArrayAttr.get([]) for place in places]
        function.attributes[ATTRIBUTE] = ir.ArrayAttr.get(texts)
    elif ATTRIBUTE in function.attributes:
        del function.attributes[ATTRIBUTE]


def add_argument(function: ir.Operation, type_: ir.Type) -> ir.Value:
    """One more argument of the kernel, behind the others: its type and its places count it too."""
    old = ir.FunctionType(ir.TypeAttr(function.attributes["function_type"]).value)
    added = function.regions[0].blocks[0].add_argument(type_, ir.Location.unknown())
    function.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get([*old.inputs, type_], old.results))
    places, count = read_places(function), len(old.inputs)
    if places:
        write_places(function, [*places[:count], None, *places[count:]])
    return added


def place_attribute(place: Place) -> ir.ArrayAttr:
    """The place as [shape, low]."""
    return ir.ArrayAttr.get([_texts(place.shape), _texts(place.low)])


def read_place(item: ir.Attribute) -> Place | None:
    """The place of [shape, low]; None of []."""
    parts = [tuple(expression(ir.StringAttr(size).value) for size in ir.ArrayAttr(part)) for part in ir.ArrayAttr(item)]
    return Place(*parts) if parts else None


def _texts(sizes: Shape) -> ir.Attribute:
    return ir.ArrayAttr.get([ir.StringAttr.get(str(size)) for size in sizes])
