"""The walk over convolutions that are turned into something simpler because their weights are known.

In: a unit, a kind of convolution, and what makes the replacement. Out: the graph with those replaced for which there is
one. The weights are laid out anew beside the old ones, which disappear when nothing reads them.
"""

from __future__ import annotations

from collections.abc import Callable

from mlir import ir

from ..unit import Unit
from .rewriting import (
    blocks_within,
    building_before,
    erase_dead,
    functions,
    integer,
    operations_of,
    producer,
    replace,
    string,
)


def replace_convolutions(unit: Unit, name: str, made: Callable[[ir.Operation, str], ir.Value | None]) -> None:
    """Replace operations called `name` of one group, channels first, by `made(operation, handle of its weights)`, where
    that is not None.
    """
    with unit.module.context, ir.Location.unknown():
        main = functions(unit.module)["main"]
        for block in blocks_within(main):
            for operation in operations_of(block):
                handle = _handle(operation) if operation.name == name else None
                if handle is None:
                    continue
                with building_before(operation):
                    value = made(operation, handle)
                if value is not None:
                    replace(operation, [value])
        erase_dead(main)


def _handle(operation: ir.Operation) -> str | None:
    owner = producer(operation.operands[1])
    if owner is None or owner.name != "graph.weight":
        return None
    suits = integer(operation, "groups") == 1 and string(operation, "layout") == "channels_first"
    return string(owner, "handle") if suits else None
