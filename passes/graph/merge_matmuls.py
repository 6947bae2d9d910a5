"""Pass `merge-matmuls`: matmuls of one tensor with several constant weights become one, such as Q, K and V of an
attention.

In: matmuls that share their left operand and whose results, after an optional bias, are only moved about. Out: one
matmul with the weights side by side, one bias (zeros where a matmul has none), and a slice for each. One larger problem
fills a GPU better and costs one launch; the slices are index functions of whatever reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mlir import ir

from ...dialects import graph_builder
from ...dialects.tensors import element_of, rank_of, shape_of
from ...runtime.dtypes import dtype
from ...runtime.symbolic import ZERO
from ..unit import Unit, WeightStore, register_pass
from .constant_rows import add_row, added_row, body_names, is_weight
from .rewriting import (
    blocks_within,
    building_before,
    erase_dead,
    functions,
    fused_location,
    integer,
    operations_of,
    replace,
    string,
    users,
)

_READERS = ("graph.reshape", "graph.transpose", "graph.slice", "graph.matmul")


@dataclass(frozen=True)
class Member:
    """One matmul: `result` is what its readers use, after the bias if there is one."""

    matmul: ir.Operation
    bias: ir.Operation | None  # the map that adds it
    row: ir.Value | None  # the weight that it adds

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
            element_of(member.last.results[0]),
        )
        families.setdefault(key, []).append(member)
    return [members for members in map(_added_alike, families.values()) if len(members) > 1]


def _added_alike(members: list[Member]) -> list[Member]:
    """Those whose biases, if they have one, are added as the first one's is; sizes have to be known for zeros."""
    first = next((member for member in members if member.bias is not None), None)
    if first is None or first.bias is None:
        return members
    names = sorted(body_names(first.bias))
    return [
        member
        for member in members
        if (member.bias is None and shape_of(member.matmul.results[0])[-1].as_constant() is not None)
        or (member.bias is not None and sorted(body_names(member.bias)) == names)
    ]


def _member(operation: ir.Operation) -> Member | None:
    if operation.name != "graph.matmul" or not is_weight(operation.operands[1], 2):
        return None
    readers = users(operation.results[0])
    row = added_row(readers[0], operation.results[0]) if len(readers) == 1 else None
    bias = readers[0] if row is not None else None
    readers = users((bias or operation).results[0])
    if not readers or any(reader.name not in _READERS for reader in readers):
        return None
    return Member(operation, bias, row)


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
        bias = next((member.bias for member in members if member.bias is not None), None)
        if bias is not None:
            merged = add_row(bias, merged, _joined_rows(weights, members), first)
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


def _joined_rows(weights: WeightStore, members: Sequence[Member]) -> ir.Value:
    """The biases side by side."""
    element = next(element_of(member.row) for member in members if member.row is not None)
    rows = []
    for member in members:
        row = member.row
        if row is None:
            width = shape_of(member.matmul.results[0])[-1]
            handle = weights.add("no bias", np.zeros(width.as_constant() or 0, dtype(element).numpy))
            row = graph_builder.weight(handle, [width], element)
        rows.append(row)
    return _joined(weights, rows, 0)


def _joined(weights: WeightStore, values: Sequence[ir.Value], axis: int) -> ir.Value:
    """A weight that holds the given ones side by side; its array is made when it is asked for."""
    handles = [string(value.owner, "handle") for value in values]
    handle = weights.add(handles[0] + ".merged", lambda: np.concatenate([weights.get(own) for own in handles], axis))
    shape = list(shape_of(values[0]))
    for value in values[1:]:
        shape[axis] = shape[axis] + shape_of(value)[axis]
    return graph_builder.weight(handle, shape, element_of(values[0]))
