"""What @main says of its values: names and types at its ends, and which of them are one memory.

In: attributes and values of `@main`. Out: plain data for the plan of the host side (plan_host.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlir import ir

from ...dialects.tensors import shape_of
from ...runtime.symbolic import Expression, parse
from ..graph.rewriting import is_object, yielded


def symbols_of(value: ir.Value) -> set[Expression]:
    """The symbols of a tensor's shape; none for values on the host."""
    if is_object(value):
        return set()
    return {Expression.symbol(name) for size in shape_of(value) for name in size.symbols}


def value_names(attributes: Any, key: str, count: int) -> list[str]:
    """`graph.name` of every argument or result, or its position where there is none."""
    letter = "x" if key == "arg_attrs" else "y"
    names = [f"{letter}{index}" for index in range(count)]
    if key in attributes:
        for index, item in enumerate(ir.ArrayAttr(attributes[key])):
            entry = ir.DictAttr(item)
            if "graph.name" in entry:
                names[index] = ir.StringAttr(entry["graph.name"]).value
    return names


def host_types(attributes: Any, key: str) -> dict[str, tuple[str, Sequence[Expression]]]:
    """Kind and shape of the inputs or outputs that are host values, by name."""
    found: dict[str, tuple[str, Sequence[Expression]]] = {}
    for item in ir.ArrayAttr(attributes[key]) if key in attributes else ():
        entry = ir.DictAttr(item)
        if "graph.type" in entry:
            shape = [parse(ir.StringAttr(size).value) for size in ir.ArrayAttr(entry["graph.shape"])]
            found[ir.StringAttr(entry["graph.name"]).value] = (ir.StringAttr(entry["graph.type"]).value, shape)
    return found


def complex_type(attributes: Any, name: str) -> dict[str, str]:
    """The type of an input's or output's complex numbers, under the attribute that says so; nothing for others."""
    for key in ("arg_attrs", "res_attrs"):
        for item in ir.ArrayAttr(attributes[key]) if key in attributes else ():
            entry = ir.DictAttr(item)
            if "graph.complex" in entry and ir.StringAttr(entry["graph.name"]).value == name:
                return {"complex": ir.StringAttr(entry["graph.complex"]).value}
    return {}


def origin(value: ir.Value) -> ir.Value:
    """The value itself, or what it is a reshape of."""
    while isinstance(value.owner, ir.Operation | ir.OpView) and value.owner.operation.name == "graph.reshape":
        value = value.owner.operands[0]
    return value


def joined(joins: Sequence[Any]) -> dict[ir.Value, ir.Value]:
    """For all that shares the memory of joined tensors, the one that is not a part of another. A part may be a reshape
    of what a kernel makes.
    """
    wholes: dict[ir.Value, ir.Value] = {}
    groups = []
    for own in joins:
        parts = yielded(own.operation)
        groups.append([own.results[0], *parts, *map(origin, parts)])
    for own in [own for own in joins if "place" not in own.attributes]:
        pending = [own.results[0]]
        while pending:
            value = pending.pop()
            if value in wholes:
                continue
            wholes[value] = own.results[0]
            for members in groups:
                if value in members:
                    pending += members
    return wholes
