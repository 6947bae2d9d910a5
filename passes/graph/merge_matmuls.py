"""Pass `merge-matmuls`: matmuls of one tensor with several constant weights become one, such as Q, K and V of an
attention.

In: matmuls that share their left operand and whose results, after an optional bias, are only moved about. Out: one
matmul with the weights side by side, one bias, and a slice for each. One larger problem fills a GPU better and costs
one launch; the slices are index functions of whatever reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mlir import ir

from ...dialects import graph_builder
from ...dialects.tensors import element_of, rank_of, shape_of
from ...runtime.symbolic import ZERO
from ..unit import Unit, WeightStore, register_pass
from .rewriting import (
    blocks_within,
    body_of,
    building_before,
    captures,
    erase_dead,
    functions,
    fused_location,
    integer,
    operations_of,
    producer,
    replace,
    string,
    users,
)

_BIAS = ["graph.element", "graph.element", "arith.addf", "gpu.yield"]
_READERS = ("graph.reshape", "graph.transpose", "graph.slice", "graph.matmul")


@dataclass(frozen=True)
class Member:
    """One matmul: `result` is what its readers use, after the bias if there is one."""

    matmul: ir.Operation
    bias: ir.Operation | None  # the map that adds it
    offset: ir.Operation | None  # the graph.weight that it adds

    @property
    def last(self) -> ir.Operation:
        return self.bias or self.matmul


@register_pass("merge-matmuls", requires="graph", ensures="graph")
def merge_matmuls(unit: Unit) -> None:
    """Put matmuls of one tensor with constant weights side by side.

    before::

        %q = "graph.matmul"(%x, %wq) ...   %k = "graph.matmul"(%x, %wk) ...   // then biases, reshapes

    after::

        %m = "graph.matmul"(%x, %wqk) ...
        %q = "graph.slice"(%m) {starts = ["0", "0"]}   %k = "graph.slice"(%m) {starts = ["0", "768"]}
    """
    with unit.module.context, ir.Location.unknown():
        main = functions(unit.module)["main"]
        for block in blocks_within(main):
            for members in _families(block):
                _merge(unit.weights, members)
        erase_dead(main)


def _families(block: ir.Block) -> list[list[Member]]:
    """Matmuls that can be merged, at least two each, in the order of the block."""
    families: dict[tuple[Any, ...], list[Member]] = {}
    for operation in operations_of(block):
        member = _member(operation)
        if member is None:
            continue
        left, right = operation.operands
        key = (
            left,
            integer(operation, "transpose_left"),
            integer(operation, "transpose_right"),
            element_of(right),
            element_of(operation.results[0]),
            member.bias is None,
        )
        families.setdefault(key, []).append(member)
    return [members for members in families.values() if len(members) > 1]


def _member(operation: ir.Operation) -> Member | None:
    if operation.name != "graph.matmul" or not _is_weight(operation.operands[1], 2):
        return None
    readers = users(operation.results[0])
    bias, offset = None, None
    if len(readers) == 1:
        offset = _bias_weight(readers[0], operation.results[0])
        bias = readers[0] if offset is not None else None
    last = bias or operation
    readers = users(last.results[0])
    if not readers or any(reader.name not in _READERS for reader in readers):
        return None
    return Member(operation, bias, offset)


def _is_weight(value: ir.Value, rank: int) -> bool:
    owner = producer(value)
    return owner is not None and owner.name == "graph.weight" and rank_of(value) == rank


def _bias_weight(reader: ir.Operation, result: ir.Value) -> ir.Operation | None:
    """The constant vector that `reader`, a map, adds to the matmul's result, or None when it does anything else."""
    if reader.name != "graph.map" or sorted(o.name for o in operations_of(body_of(reader))) != sorted(_BIAS):
        return None
    others = [inner.operands[0] for inner in captures(reader) if inner.operands[0] != result]
    if len(others) != 1 or not _is_weight(others[0], 1) or shape_of(reader.results[0]) != shape_of(result):
        return None
    same_width = shape_of(others[0])[0] == shape_of(result)[-1]
    return producer(others[0]) if same_width else None


def _merge(weights: WeightStore, members: Sequence[Member]) -> None:
    first = members[0].matmul
    turned = integer(first, "transpose_right")
    left = first.operands[0]
    matrices = [member.matmul.operands[1] for member in members]
    location = fused_location([part.location for member in members for part in (member.matmul, member.last)])
    # In front of the first member everything that is merged is at hand: the left operand and constants.
    with building_before(first, location):
        matrix = _joined(weights, matrices, 0 if turned else 1)
        merged = graph_builder.matmul(
            left,
            matrix,
            transpose_left=bool(integer(first, "transpose_left")),
            transpose_right=bool(turned),
            unify=lambda own, _: own,  # sizes may be equal at run time only
        )
        if members[0].offset is not None:
            vector = _joined(weights, [m.offset.results[0] for m in members if m.offset is not None], 0)
            merged = graph_builder.map([merged, vector], lambda x, b: x + b)
        start, parts = ZERO, []
        rank = rank_of(merged)
        for member in members:
            shape = shape_of(member.last.results[0])
            parts.append(graph_builder.slice(merged, [*[ZERO] * (rank - 1), start], shape, [1] * rank))
            start = start + shape[-1]
    for member, part in zip(members, parts, strict=True):
        replace(member.last, [part])
        if member.bias is not None:
            member.matmul.erase()


def _joined(weights: WeightStore, values: Sequence[ir.Value], axis: int) -> ir.Value:
    """A weight that holds the given ones side by side; its array is made when it is asked for."""
    handles = [string(value.owner, "handle") for value in values]
    handle = weights.add(handles[0] + ".merged", lambda: np.concatenate([weights.get(own) for own in handles], axis))
    shape = list(shape_of(values[0]))
    for value in values[1:]:
        shape[axis] = shape[axis] + shape_of(value)[axis]
    return graph_builder.weight(handle, shape, element_of(values[0]))
