"""Pass `deduplicate-kernels`: structurally identical kernel functions become one.

In: a fused module. Out: the same with one function for all calls that compute the same on the same types, in whatever
order the function takes its arguments and does its operations. A network of equal layers is then compiled once a layer
kind; a call that now shares a function keeps its own ONNX nodes as `graph.nodes`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from mlir import ir

from ...dialects.given_kernel import ATTRIBUTE, is_given
from ..unit import Unit, register_pass
from .common_subexpressions import structural_key
from .places import ATTRIBUTE as PLACES
from .rewriting import body_of, functions, inner_operations, inputs_of, operations_of, string


@register_pass("deduplicate-kernels", requires="kernels", ensures="kernels")
def deduplicate_kernels(unit: Unit) -> None:
    """Let equal kernel functions share one function.

    before::

        %0 = call @dot_0(%x, %w0)
        %1 = call @dot_1(%w1, %0)       // the same body as @dot_0, with its arguments the other way round

    after::

        %0 = call @dot_0(%x, %w0)
        %1 = call @dot_0(%0, %w1)
    """
    with unit.module.context, ir.Location.unknown():
        everything = functions(unit.module)
        main = everything.pop("main")
        first: dict[Hashable, Identity] = {}
        identities = {name: identify(function, name) for name, function in everything.items()}
        for identity in identities.values():
            first.setdefault(identity.key, identity)
        for operation in inner_operations(main):
            if operation.name == "func.call":
                callee = ir.FlatSymbolRefAttr(operation.attributes["callee"]).value
                identity = identities[callee]
                server = first[identity.key]
                if server is not identity:
                    _redirect(operation, identity, server, everything[callee])
        for name, function in everything.items():
            if first[identities[name].key].name != name:
                function.erase()


@dataclass(frozen=True)
class Identity:
    """What a function is told by: `key` is equal for functions that compute the same, `arguments` has the numbers of
    their arguments in an order that is common to them, the order of need.
    """

    name: str
    key: Hashable
    arguments: tuple[int, ...]


def identify(function: ir.Operation, name: str, masked: Callable[[ir.Operation], bool] | None = None) -> Identity:
    """The identity of a kernel: what it computes from its results backwards, and where its tensors lie.

    Of operations that are `masked` the attributes do not count.
    """
    if is_given(function):
        function_type = ir.FunctionType(ir.TypeAttr(function.attributes["function_type"]).value)
        return Identity(name, (function.attributes[ATTRIBUTE], function_type), tuple(range(len(function_type.inputs))))
    operations, arguments = _in_the_order_of_need(body_of(function))
    numbering = {argument: index for index, argument in enumerate(arguments)}
    keys = []
    for operation in operations:
        keys.append(structural_key(operation, numbering, masked))
        for result in operation.results:
            numbering[result] = len(numbering)
    kind = string(function, "graph.kernel") if "graph.kernel" in function.attributes else ""
    order = tuple(argument.arg_number for argument in arguments)
    places = function.attributes.get(PLACES, None)  # are counted as the arguments are
    types = tuple(argument.type for argument in arguments)
    return Identity(name, (kind, types, places, places and order, tuple(keys)), order)


def _in_the_order_of_need(block: ir.Block) -> tuple[list[ir.Operation], list[ir.BlockArgument]]:
    """(operations, arguments) as they are met when each result is computed as soon as everything that it reads is."""
    operations: dict[ir.Operation, None] = {}
    arguments: dict[ir.Value, None] = {}
    pending = [(operation, iter(inputs_of(operation))) for operation in operations_of(block)[-1:]]
    while pending:
        value = next(pending[-1][1], None)
        if value is None:
            operations.setdefault(pending.pop()[0])
        elif isinstance(value.owner, ir.Block):
            arguments.setdefault(value)
        elif (needed := value.owner.operation) not in operations:
            pending.append((needed, iter(inputs_of(needed))))
    unread = [argument for argument in block.arguments if argument not in arguments]
    return list(operations), [ir.BlockArgument(argument) for argument in (*arguments, *unread)]


def _redirect(call: ir.Operation, identity: Identity, server: Identity, callee: ir.Operation) -> None:
    """Let a call of the function `identity` call `server` instead."""
    given = list(call.operands)
    for place, number in zip(server.arguments, identity.arguments, strict=True):
        call.operands[place] = given[number]
    if "graph.nodes" in callee.attributes:
        call.attributes["graph.nodes"] = callee.attributes["graph.nodes"]
    call.attributes["callee"] = ir.FlatSymbolRefAttr.get(server.name)
