"""Dependent launches: where a kernel waits for the kernels before it, and lets the next one start.

In: a finished tile program for a target that has `griddepcontrol`. Out: the same program, which may be started while
the one before it still runs: what it does on its own account (barriers, roles, addresses) comes first, then it waits,
and only then does it touch memory that other kernels write. docs/hopper.md tells why that is safe.
"""

from __future__ import annotations

from mlir import ir

# What touches no global memory, so that it may be done before the kernels in front have ended.
_OWN_ACCOUNT = (
    "tile.program_id", "tile.program_count", "tile.allocate", "tile.make_barriers", "tile.barrier",
    "tile.cluster_barrier", "tile.full",
)  # fmt: skip


def order_launches(function: ir.Operation) -> None:
    """Put both operations into a tile program.

    before::

        tile.allocate; tile.make_barriers; tile.barrier; tile.warps { ... }

    after::

        tile.begin_next
        tile.allocate; tile.make_barriers; tile.barrier
        tile.prefetch_map %map
        tile.warps { ... } {ahead}      // reads weights, which no kernel writes
        tile.await_previous
        tile.warps { ... }
    """
    block = function.regions[0].blocks[0]
    operations = [view.operation for view in block.operations]
    first = next(operation for operation in operations if not _is_own(operation))
    with ir.InsertionPoint(operations[0]):
        ir.Operation.create("tile.begin_next")
    with ir.InsertionPoint(next((operation for operation in operations if _is_ahead(operation)), first)):
        for argument in block.arguments:
            if str(argument.type).startswith("!tile.tensor_map"):
                ir.Operation.create("tile.prefetch_map", operands=[argument])
    with ir.InsertionPoint(first):
        ir.Operation.create("tile.await_previous")


def _is_own(operation: ir.Operation) -> bool:
    plain = operation.name.startswith("arith.") and not len(operation.regions)
    return operation.name in _OWN_ACCOUNT or plain or _is_ahead(operation)


def _is_ahead(operation: ir.Operation) -> bool:
    return operation.name == "tile.warps" and "ahead" in operation.attributes
