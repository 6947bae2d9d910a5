"""Pass `simplify`: remove dead and duplicate operations and data movement that says nothing.

In: a module at the graph level. Out: the same function with fewer operations. Every rule looks at one
operation and the producers of its inputs; rules run until none applies.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from mlir import ir

from ...dialects import graph_builder
from ...dialects.tensors import element_of, rank_of, shape_of
from ...runtime.symbolic import ONE
from ..unit import Unit, register_pass
from .common_subexpressions import merge_duplicates
from .neutral_operations import drop_neutral_operations
from .plan_precision import NARROW
from .rejoin_scores import rejoin_scores
from .rewriting import (
    blocks_within,
    body_of,
    building_before,
    captures,
    constant_array,
    erase_dead,
    expressions,
    functions,
    integer,
    integers,
    operations_of,
    producer,
    replace,
    string,
    yielded,
)
from .sink_reshapes import sink_reshapes
from .unflatten_products import unflatten_product

Rule = Callable[[ir.Operation], bool]
RULES: dict[str, list[Rule]] = {}
MAXIMUM_ROUNDS = 12


@register_pass("simplify", requires="graph", ensures="graph")
def simplify(unit: Unit) -> None:
    """Remove dead and duplicate operations, and movements that cancel or that their readers can do without.

    before::

        %0 = "graph.transpose"(%x) {permutation = array<i64: 0, 2, 1>} : ...
        %1 = "graph.matmul"(%y, %0) {transpose_left = 0, transpose_right = 0} : ...

    after::

        %1 = "graph.matmul"(%y, %x) {transpose_left = 0, transpose_right = 1} : ...
    """
    with unit.module.context, ir.Location.unknown():
        main = functions(unit.module)["main"]
        for block in blocks_within(main):
            for operation in operations_of(block):
                if operation.name == "graph.map":
                    drop_neutral_operations(operation, unit.precision not in NARROW)
                    merge_body(operation)
        for _ in range(MAXIMUM_ROUNDS):
            changed = erase_dead(main)
            changed += merge_duplicates(body_of(main))
            for block in blocks_within(main):
                changed += sum(_apply(operation) for operation in operations_of(block))
            if not changed:
                break
        erase_dead(main)


def _apply(operation: ir.Operation) -> int:
    return int(any(rule(operation) for rule in RULES.get(operation.name, ())))


def rule(name: str) -> Callable[[Rule], Rule]:
    """Decorator: a rewriting of that operation; it returns True when it replaced or changed it."""

    def register(function: Rule) -> Rule:
        RULES.setdefault(name, []).append(function)
        return function

    return register


def _source(value: ir.Value, name: str) -> ir.Operation | None:
    owner = producer(value)
    return owner if owner is not None and owner.name == name else None


# Reshape and broadcast ------------------------------------------------------------------------------------------
@rule("graph.reshape")
@rule("graph.broadcast")
def drop_shaping(operation: ir.Operation) -> bool:
    """A reshape or broadcast to the same shape, or of another one."""
    (source,) = operation.operands
    if source.type == operation.results[0].type:
        replace(operation, [source])
        return True
    inner = _source(source, operation.name)
    if inner is None:
        return False
    operation.operands[0] = inner.operands[0]
    return True


rule("graph.reshape")(unflatten_product)


# Transpose ------------------------------------------------------------------------------------------------------
@rule("graph.transpose")
def drop_transpose(operation: ir.Operation) -> bool:
    """The identity, two in a row, and moving only dimensions of size 1, which is a reshape."""
    (source,) = operation.operands
    permutation = integers(operation, "permutation")
    if permutation == tuple(range(len(permutation))):
        replace(operation, [source])
        return True
    inner = _source(source, "graph.transpose")
    if inner is not None:
        first = integers(inner, "permutation")
        with building_before(operation):
            combined = graph_builder.transpose(inner.operands[0], [first[axis] for axis in permutation])
        replace(operation, [combined])
        return True
    shape = shape_of(source)
    moved = [axis for axis in permutation if shape[axis] != ONE]
    if moved == sorted(moved):
        with building_before(operation):
            reshaped = graph_builder.reshape(source, shape_of(operation.results[0]))
        replace(operation, [reshaped])
        return True
    return False


# Slice ----------------------------------------------------------------------------------------------------------
@rule("graph.slice")
def drop_slice(operation: ir.Operation) -> bool:
    """Everything, a slice of a slice, or exactly one part of a concatenation."""
    (source,) = operation.operands
    starts, steps = expressions(operation, "starts"), integers(operation, "steps")
    plain = all(step == 1 for step in steps)
    if plain and all(start == 0 for start in starts) and source.type == operation.results[0].type:
        replace(operation, [source])
        return True
    inner = _source(source, "graph.slice")
    if inner is not None:
        return _merge_slices(operation, inner)
    joined = _source(source, "graph.concatenate")
    return joined is not None and plain and _take_part(operation, joined)


def _merge_slices(operation: ir.Operation, inner: ir.Operation) -> bool:
    first_starts, first_steps = expressions(inner, "starts"), integers(inner, "steps")
    starts, steps = expressions(operation, "starts"), integers(operation, "steps")
    with building_before(operation):
        merged = graph_builder.slice(
            inner.operands[0],
            [a + b * step for a, b, step in zip(first_starts, starts, first_steps, strict=True)],
            shape_of(operation.results[0]),
            [a * b for a, b in zip(first_steps, steps, strict=True)],
        )
    replace(operation, [merged])
    return True


def _take_part(operation: ir.Operation, joined: ir.Operation) -> bool:
    axis = integer(joined, "axis")
    starts = expressions(operation, "starts")
    if any(start != 0 for index, start in enumerate(starts) if index != axis):
        return False
    position = ONE - ONE
    for part in yielded(joined):
        if position == starts[axis] and part.type == operation.results[0].type:
            replace(operation, [part])
            return True
        position = position + shape_of(part)[axis]
    return False


# Concatenate and pad --------------------------------------------------------------------------------------------
@rule("graph.concatenate")
def flatten_concatenation(operation: ir.Operation) -> bool:
    """One part, empty parts, a part that is a concatenation along the same axis which nothing else reads, or slices of
    one tensor that follow each other.
    """
    axis = integer(operation, "axis")
    parts = yielded(operation)
    flat: list[ir.Value] = []
    for part in parts:
        inner = _source(part, "graph.concatenate")
        alone = len(list(part.uses)) == 1
        if inner is not None and alone and integer(inner, "axis") == axis:
            flat += yielded(inner)
        elif shape_of(part)[axis] != 0:
            flat.append(part)
    with building_before(operation):
        flat = _merge_neighbours(flat, axis)
    if len(flat) == len(parts) and len(parts) > 1 and all(a == b for a, b in zip(flat, parts, strict=True)):
        return False
    if not flat:
        return False
    if len(flat) == 1:
        if flat[0].type != operation.results[0].type:
            return False
        replace(operation, flat)
        return True
    # Built here and not by graph_builder: sizes that are only equal at run time keep the name they have.
    with building_before(operation):
        joined = ir.Operation.create(
            "graph.concatenate",
            results=[operation.results[0].type],
            attributes={"axis": operation.attributes["axis"]},
            regions=1,
        )
    with ir.InsertionPoint(joined.regions[0].blocks.append()), operation.location:
        ir.Operation.create("gpu.yield", operands=flat)
    replace(operation, [joined.results[0]])
    return True


def _merge_neighbours(parts: list[ir.Value], axis: int) -> list[ir.Value]:
    """The parts, with one slice for those of a tensor that follow each other along `axis`; the tensor for all of it."""
    merged: list[ir.Value] = []
    for part in parts:
        left, right = _plain_slice(merged[-1]) if merged else None, _plain_slice(part)
        if left is None or right is None or left.operands[0] != right.operands[0]:
            merged.append(part)
            continue
        first, second, length = expressions(left, "starts"), expressions(right, "starts"), shape_of(merged[-1])[axis]
        steps = [b - a for a, b in zip(first, second, strict=True)]
        if all(step == (length if index == axis else 0) for index, step in enumerate(steps)):
            sizes = [size + (length if index == axis else 0) for index, size in enumerate(shape_of(part))]
            merged[-1] = graph_builder.slice(left.operands[0], first, sizes)
        else:
            merged.append(part)
    return merged


def _plain_slice(value: ir.Value) -> ir.Operation | None:
    """The slice without steps that makes the value."""
    operation = _source(value, "graph.slice")
    return operation if operation is not None and set(integers(operation, "steps")) == {1} else None


@rule("graph.pad")
def drop_pad(operation: ir.Operation) -> bool:
    """Padding by nothing."""
    source = operation.operands[0]
    if source.type != operation.results[0].type or any(low != 0 for low in expressions(operation, "low")):
        return False
    replace(operation, [source])
    return True


@rule("graph.convolution")
def pad_in_convolution(operation: ir.Operation) -> bool:
    """Zeros around the spatial dimensions become the convolution's own padding."""
    inner = _source(operation.operands[0], "graph.pad")
    if inner is None or not _is_zero(inner.operands[1]):
        return False
    first = 1 if string(operation, "layout") == "channels_last" else 2
    rank = rank_of(operation.operands[0]) - 2
    spatial = range(first, first + rank)
    low = expressions(inner, "low")
    before, after = shape_of(inner.operands[0]), shape_of(inner.results[0])
    high = [b - a - begin for a, b, begin in zip(before, after, low, strict=True)]
    if any((low[axis] != 0 or high[axis] != 0) for axis in range(rank + 2) if axis not in spatial):
        return False
    if any(not low[axis].is_nonnegative() or not high[axis].is_nonnegative() for axis in spatial):
        return False  # cropping is no padding
    pads = expressions(operation, "pads")
    begins = [pads[index] + low[axis] for index, axis in enumerate(spatial)]
    ends = [pads[rank + index] + high[axis] for index, axis in enumerate(spatial)]
    operation.attributes["pads"] = graph_builder.attribute((*begins, *ends))
    operation.operands[0] = inner.operands[0]
    return True


def _is_zero(value: ir.Value) -> bool:
    constant = _source(value, "graph.constant")
    if constant is not None:
        return not np.any(constant_array(constant))
    splat = _source(value, "graph.map")
    if splat is None:
        return False
    inner = operations_of(body_of(splat))
    if [item.name for item in inner] != ["arith.constant", "gpu.yield"]:
        return False
    attribute = inner[0].attributes["value"]
    return isinstance(attribute, (ir.FloatAttr, ir.IntegerAttr)) and not attribute.value


# Reductions -----------------------------------------------------------------------------------------------------
@rule("graph.reduce")
def drop_reduction(operation: ir.Operation) -> bool:
    """Over dimensions of size 1 only."""
    (source,) = operation.operands
    if source.type != operation.results[0].type:
        return False
    replace(operation, [source])
    return True


# Matrix products ------------------------------------------------------------------------------------------------
@rule("graph.matmul")
def transpose_in_matmul(operation: ir.Operation) -> bool:
    """Swapping an operand's last two dimensions is a flag of the product."""
    for index, flag in enumerate(("transpose_left", "transpose_right")):
        inner = _source(operation.operands[index], "graph.transpose")
        if inner is None or len(list(inner.results[0].uses)) > 1:
            continue
        permutation = integers(inner, "permutation")
        rank = len(permutation)
        if rank < 2 or permutation[-2] != rank - 1:
            continue
        swapped = [*permutation[:-2], permutation[-1], permutation[-2]]
        with building_before(inner):
            operation.operands[index] = graph_builder.transpose(inner.operands[0], swapped)
        operation.attributes[flag] = graph_builder.attribute(1 - integer(operation, flag))
        return True
    return False


# Maps -----------------------------------------------------------------------------------------------------------
@rule("graph.map")
def simplify_map(operation: ir.Operation) -> bool:
    """Maps broadcast by themselves, and a map that only repeats one tensor is that tensor."""
    changed = False
    for inner in captures(operation):
        source = producer(inner.operands[0])
        if source is None:
            continue
        if source.name == "graph.broadcast" or (source.name == "graph.reshape" and _adds_leading_ones(source)):
            inner.operands[0] = source.operands[0]
            changed = True
        elif source.name == "graph.map" and _inline_splat(inner, source):
            changed = True
    body = operations_of(body_of(operation))
    if [inner.name for inner in body] == ["graph.element", "gpu.yield"]:
        source_value = body[0].operands[0]
        if source_value.type == operation.results[0].type:
            replace(operation, [source_value])
            return True
        if element_of(source_value) == element_of(operation.results[0]):
            with building_before(operation):
                stretched = graph_builder.broadcast(source_value, shape_of(operation.results[0]))
            replace(operation, [stretched])
            return True
    changed = sink_reshapes(operation) or rejoin_scores(operation) or changed
    if changed:
        merge_body(operation)
    return changed


def _adds_leading_ones(reshape: ir.Operation) -> bool:
    before, after = shape_of(reshape.operands[0]), shape_of(reshape.results[0])
    extra = len(after) - len(before)
    return extra >= 0 and after[extra:] == before and all(size == ONE for size in after[:extra])


def _inline_splat(inner: ir.Operation, source: ir.Operation) -> bool:
    operations = operations_of(body_of(source))
    if [item.name for item in operations] != ["arith.constant", "gpu.yield"]:
        return False
    copy = operations[0].clone(ir.InsertionPoint(inner)).operation
    replace(inner, list(copy.results))
    return True


def merge_body(operation: ir.Operation) -> None:
    """Remove duplicate and unread operations within the body."""
    merge_duplicates(body_of(operation))
    for inner in reversed(operations_of(body_of(operation))):
        if len(inner.results) and not any(next(iter(result.uses), None) for result in inner.results):
            inner.erase()
