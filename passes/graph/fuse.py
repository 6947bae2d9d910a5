"""Pass `fuse`: group operations and outline every group to a private function, one a kernel.

In: @main of plain graph operations. Out: @main of `func.call`, weights, reshapes (free aliases) and control
flow, and one function `@<kind>_<number>` a kernel with attributes `graph.kernel` and `graph.nodes`.
fusion_rules.py decides the groups.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from mlir import ir

from ...dialects import graph_builder
from ...dialects.tensors import element_of
from ..unit import Unit, register_pass
from . import fusion_rules
from .canonical_bodies import order_captures
from .grouping import Group, Grouping
from .rewriting import (
    blocks_within,
    building_before,
    clone_into,
    constant_array,
    create_kernel,
    erase_dead,
    functions,
    fused_location,
    inputs_of,
    node_names,
    operations_of,
    producer,
    remap,
    replace,
    users,
)

Values = dict[ir.Value, ir.Value]


@register_pass("fuse", requires="graph", ensures="kernels")
def fuse(unit: Unit) -> None:
    """Group operations into kernels and outline each to a private function.

    before::

        func.func @main(%x: tensor<4x8xf32>, ...) {
          %0 = "graph.matmul"(%x, %w) ...
          %1 = "graph.map"() ({ bias and activation of %0 }) ...
          return %1

    after::

        func.func @main(%x: tensor<4x8xf32>, ...) {
          %0 = call @dot_0(%x, %w, %b)
          return %0
        func.func private @dot_0(...) attributes {graph.kernel = "dot", graph.nodes = ["Gemm_0", "Relu_1"]} {
          the matmul and the map
    """
    with unit.module.context, ir.Location.unknown():
        main = functions(unit.module)["main"]
        _store_constants(unit, main)
        counters: dict[str, int] = {}
        for block in reversed(list(blocks_within(main))):
            _fuse_block(unit.module, block, counters)
        erase_dead(main)


def _store_constants(unit: Unit, main: ir.Operation) -> None:
    """Constants of several elements become weights, so that kernels which differ in them only are one kernel."""
    for block in blocks_within(main):
        for operation in operations_of(block):
            if operation.name != "graph.constant":
                continue
            array = constant_array(operation)
            starts_scatter = any(user.name == "graph.scatter" for user in users(operation.results[0]))
            if array.size > 1 or starts_scatter:  # what is copied has to lie in memory
                names = node_names(operation.location)
                handle = unit.weights.add(names[0] if names else "constant", array)
                with building_before(operation):
                    value = graph_builder.weight(handle, array.shape, element_of(operation.results[0]))
                replace(operation, [value])


def _fuse_block(module: ir.Module, block: ir.Block, counters: dict[str, int]) -> None:
    grouping = Grouping(block)
    fusion_rules.plan(grouping)
    terminator = operations_of(block)[-1]
    values: Values = {}
    erased: set[int] = set(grouping.owner) | {
        index for index in grouping.copies if grouping.is_free(index) and not grouping.is_needed(index)
    }
    for number in _order(grouping, erased):
        group = grouping.groups.get(number)
        if group is None:
            operation = grouping.nodes[number].operation
            remap(operation, values)
            if operation != terminator:
                operation.move_before(terminator)
            continue
        name = f"{group.kind}_{counters.get(group.kind, 0)}"
        counters[group.kind] = counters.get(group.kind, 0) + 1
        _outline(module, grouping, group, name, values, terminator)
    for index in sorted(erased, reverse=True):
        grouping.nodes[index].operation.erase()


def _order(grouping: Grouping, erased: set[int]) -> Iterator[int]:
    """Groups and free nodes so that each comes after what it reads; otherwise as in the model."""
    group_of = {index: group.number for group in grouping.groups.values() for index in group.members}
    numbers = list(grouping.groups) + [node.index for node in grouping.nodes if node.index not in erased]
    waiting: dict[int, set[int]] = {}
    readers: dict[int, list[int]] = {}
    position = {}
    for number in numbers:
        group = grouping.groups.get(number)
        nodes = group.nodes if group else {number}
        sources = {source for index in nodes for source in grouping.nodes[index].producers} - nodes
        waiting[number] = {group_of.get(source, source) for source in sources}
        position[number] = max(group.members) if group else number
        for source in waiting[number]:
            readers.setdefault(source, []).append(number)
    ready = [(position[number], number) for number in numbers if not waiting[number]]
    heapq.heapify(ready)
    while ready:
        _, number = heapq.heappop(ready)
        yield number
        for reader in readers.get(number, []):
            waiting[reader].discard(number)
            if not waiting[reader]:
                heapq.heappush(ready, (position[reader], reader))


def _outline(
    module: ir.Module, grouping: Grouping, group: Group, name: str, values: Values, terminator: ir.Operation
) -> None:
    """Make the group's function and call it in front of `terminator`; records what its results are now called."""
    operations = [grouping.nodes[index].operation for index in sorted(group.nodes)]
    made = {result for operation in operations for result in operation.results}
    for operation in operations:
        if operation.name == "graph.map":
            order_captures(operation, made)
    constants: dict[ir.Value, ir.Operation] = {}
    arguments: dict[ir.Value, None] = {}
    for operation in operations:
        for value in inputs_of(operation):
            owner = producer(value)
            if owner is not None and owner.name == "graph.constant":
                constants[value] = owner
            elif value not in made:
                arguments.setdefault(value)
    outputs = _outputs(grouping, group)
    location = fused_location([operation.location for operation in operations])
    function_type = ir.FunctionType.get([value.type for value in arguments], [value.type for value in outputs])
    function = create_kernel(module, name, function_type, group.kind, location)
    body = function.regions[0].blocks.append(*function_type.inputs, arg_locs=[location] * len(function_type.inputs))
    inside: Values = dict(zip(arguments, body.arguments, strict=True))
    point = ir.InsertionPoint(body)
    for operation in [*constants.values(), *operations]:
        clone_into(operation, inside, point)
    ir.Operation.create("func.return", operands=[inside[value] for value in outputs], loc=location, ip=point)
    call = ir.Operation.create(
        "func.call",
        results=list(function_type.results),
        operands=[values.get(value, value) for value in arguments],
        attributes={"callee": ir.FlatSymbolRefAttr.get(name)},
        loc=location,
        ip=ir.InsertionPoint(terminator),
    )
    values.update(zip(outputs, call.results, strict=True))


def _outputs(grouping: Grouping, group: Group) -> list[ir.Value]:
    """Results of members that something outside the group reads."""
    outputs = []
    for index in sorted(group.members):
        readers = grouping.outside_users(group, index)
        if readers or not grouping.nodes[index].users:
            read = {value for reader in readers for value in grouping.nodes[reader].inputs}
            outputs += [value for value in grouping.nodes[index].operation.results if value in read]
    return outputs
