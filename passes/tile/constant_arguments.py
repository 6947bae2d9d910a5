"""Arguments of kernels that are weights: memory that no kernel writes, and the host before the first launch.

In: a module whose @main calls kernel functions. Out: for each function the numbers of such arguments. It exists because
a function cannot tell weights from what other kernels make, and only weights may be read before those have ended.
"""

from __future__ import annotations

from mlir import ir

from ..graph.rewriting import blocks_within, functions, operations_of, producer

_CONSTANTS = ("graph.weight", "graph.constant")


def constant_arguments(module: ir.Module) -> dict[str, frozenset[int]]:
    """By the names of kernel functions: the arguments that are weights in every call."""
    found: dict[str, frozenset[int]] = {}
    main = functions(module).get("main")
    for block in blocks_within(main) if main is not None else ():
        for call in operations_of(block):
            if call.name == "func.call":
                name = str(ir.FlatSymbolRefAttr(call.attributes["callee"]).value)
                own = frozenset(number for number, value in enumerate(call.operands) if _is_constant(value))
                found[name] = found.get(name, own) & own
    return found


def _is_constant(value: ir.Value) -> bool:
    owner = producer(value)
    while owner is not None and owner.name == "graph.reshape":
        owner = producer(owner.operands[0])
    return owner is not None and owner.name in _CONSTANTS
