"""How long every temporary of a host program lives.

In: a module of the `host` dialect. Out: `first` and `last` on each temporary's declaration, counted over the
flattened program, where an if takes one index and its two branches follow. The runtime places buffers by
these spans.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mlir import ir


def annotate_lifetimes(module: ir.Module) -> None:
    """Set `first` (the first write) and `last` (the last use); a temporary that nothing uses is removed."""
    spans: dict[ir.Value, tuple[int, int]] = {}
    loops: list[tuple[int, int]] = []
    for index, operation in enumerate(walk_instructions(module.body)):
        for operand in operation.operands:
            first, _ = spans.get(operand, (index, index))
            spans[operand] = (first, index)
        if operation.operation.name == "host.loop":
            inside = sum(1 for _ in walk_instructions(operation.regions[0].blocks[0]))
            loops.append((index, index + inside))
    for start, end in loops:  # what comes from before a loop and is used in it must last until the loop is done
        for value, (first, last) in spans.items():
            if first <= start <= last < end:
                spans[value] = (first, end)
    integer = ir.IntegerType.get_signless(64)
    for operation in list(module.body.operations):
        if operation.operation.name != "host.declare":
            continue
        if ir.StringAttr(operation.attributes["kind"]).value != "temporary":
            continue
        span = spans.get(operation.results[0])
        if span is None:
            operation.operation.erase()
            continue
        operation.attributes["first"] = ir.IntegerAttr.get(integer, span[0])
        operation.attributes["last"] = ir.IntegerAttr.get(integer, span[1])


def walk_instructions(block: ir.Block) -> Iterator[Any]:
    """Every instruction in flattened order, which is the order of the text."""
    for operation in block.operations:
        if operation.operation.name in ("host.declare", "gpu.yield"):
            continue
        yield operation
        for region in operation.regions:
            for inner in region.blocks:
                yield from walk_instructions(inner)
