"""Pass `deduplicate-kernels`: structurally identical kernel functions become one.

In: a fused module. Out: the same with one function for all calls that compute the same on the same types. A
network of equal layers is then compiled once a layer kind; a call that now shares a function keeps its own
ONNX nodes as `graph.nodes`.
"""

from __future__ import annotations

from collections.abc import Hashable

from mlir import ir

from ...dialects.given_kernel import ATTRIBUTE, is_given
from ..unit import Unit, register_pass
from .common_subexpressions import structural_key
from .places import ATTRIBUTE as PLACES
from .rewriting import body_of, functions, inner_operations, operations_of, string


@register_pass("deduplicate-kernels", requires="kernels", ensures="kernels")
def deduplicate_kernels(unit: Unit) -> None:
    """Let equal kernel functions share one function.

    before::

        %0 = call @dot_0(%x, %w0)
        %1 = call @dot_1(%0, %w1)       // the same body as @dot_0

    after::

        %0 = call @dot_0(%x, %w0)
        %1 = call @dot_0(%0, %w1)
    """
    with unit.module.context, ir.Location.unknown():
        everything = functions(unit.module)
        main = everything.pop("main")
        first: dict[Hashable, str] = {}
        served_by: dict[str, str] = {}
        for name, function in everything.items():
            served_by[name] = first.setdefault(function_key(function), name)
        for operation in inner_operations(main):
            if operation.name == "func.call":
                callee = ir.FlatSymbolRefAttr(operation.attributes["callee"]).value
                if served_by[callee] != callee and "graph.nodes" in everything[callee].attributes:
                    operation.attributes["graph.nodes"] = everything[callee].attributes["graph.nodes"]
                operation.attributes["callee"] = ir.FlatSymbolRefAttr.get(served_by[callee])
        for name, function in everything.items():
            if served_by[name] != name:
                function.erase()


def function_key(function: ir.Operation) -> Hashable:
    """Equal for functions of the same kind that compute the same on tensors in equal places; names do not count."""
    if is_given(function):
        return (function.attributes[ATTRIBUTE], function.attributes["function_type"])
    block = body_of(function)
    numbering = {argument: index for index, argument in enumerate(block.arguments)}
    keys = []
    for operation in operations_of(block):
        keys.append(structural_key(operation, numbering))
        for result in operation.results:
            numbering[result] = len(numbering)
    kind = string(function, "graph.kernel") if "graph.kernel" in function.attributes else ""
    places = function.attributes.get(PLACES, None)
    return (kind, function.attributes["function_type"], places, tuple(keys))
