"""Pass `pair-products`: the two products of a gate become one, whose columns are theirs in turn.

In: silu(x @ a) * (x @ b) and its kin (SwiGLU, GEGLU, GLU), written as two products or as one that is split into
halves. Out: one product with the weights' columns in turn, and two slices of every other column. A thread of the
kernel then holds both factors, so that the gate is its epilogue: the wide results never reach memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from mlir import ir

from ...dialects import graph_builder
from ...dialects.tensors import element_of, rank_of, shape_of
from ...runtime.symbolic import ZERO, Expression
from ..unit import Unit, WeightStore, register_pass
from .constant_rows import add_row, added_row, is_weight
from .gates import maps_to_join
from .rewriting import (
    Array,
    blocks_within,
    building_before,
    erase_dead,
    expressions,
    functions,
    fused_location,
    inputs_of,
    integer,
    integers,
    operations_of,
    producer,
    replace,
    string,
    users,
)


@dataclass(frozen=True)
class Gate:
    """Two halves of as many columns each: `products` (one of them, or one for each), the map that adds a bias to a
    single product, and what the join reads now.
    """

    products: tuple[ir.Operation, ...]
    bias: ir.Operation | None
    halves: tuple[ir.Value, ir.Value]

    @property
    def columns(self) -> Expression:
        """Columns of a half."""
        return shape_of(self.halves[0])[-1]


@register_pass("pair-products", requires="graph", ensures="graph")
def pair_products(unit: Unit) -> None:
    """Let a gate read the even and the odd columns of one product.

    before::

        %a = "graph.matmul"(%x, %wa)   %b = "graph.matmul"(%x, %wb)
        %y = "graph.map"() ({ silu(%a) * %b })

    after::

        %m = "graph.matmul"(%x, %w)    // columns of %wa and %wb in turn
        %a = "graph.slice"(%m) {starts = ["0", "0"], steps = [1, 2]}
        %b = "graph.slice"(%m) {starts = ["0", "1"], steps = [1, 2]}
        %y = "graph.map"() ({ silu(%a) * %b })
    """
    with unit.module.context, ir.Location.unknown():
        main = functions(unit.module)["main"]
        for block in blocks_within(main):
            for gate in list(_gates(block)):
                if gate.columns != 1:  # one column each: no kernel takes them in turn (gates.py)
                    _pair(unit.weights, gate)
        erase_dead(main)


# Recognition ----------------------------------------------------------------------------------------------------
def _gates(block: ir.Block) -> Iterator[Gate]:
    waiting: list[ir.Operation] = []
    for operation in operations_of(block):
        if operation.name != "graph.matmul" or not _has_own_weight(operation):
            continue
        split = _split(operation)
        if split is not None:
            yield split
            continue
        partner = next((own for own in waiting if _is_gate(own, operation)), None)
        if partner is None:
            waiting.append(operation)
        else:
            waiting.remove(partner)
            yield Gate((partner, operation), None, (partner.results[0], operation.results[0]))


def _has_own_weight(product: ir.Operation) -> bool:
    """The right operand is a constant matrix that nothing else needs as it is."""
    return is_weight(product.operands[1], 2) and len(list(product.operands[1].uses)) == 1


def _is_gate(first: ir.Operation, second: ir.Operation) -> bool:
    """Two products of one tensor with weights of one type, joined by a map."""
    alike = first.operands[0] == second.operands[0] and first.operands[1].type == second.operands[1].type
    flags = all(integer(first, name) == integer(second, name) for name in ("transpose_left", "transpose_right"))
    types = first.results[0].type == second.results[0].type
    return alike and flags and types and maps_to_join(first.results[0], second.results[0]) is not None


def _split(product: ir.Operation) -> Gate | None:
    """A product, maybe with a bias, that only a gate reads, one half of its columns on either side."""
    readers = users(product.results[0])
    bias = readers[0] if len(readers) == 1 and added_row(readers[0], product.results[0]) is not None else None
    value = (bias or product).results[0]
    readers = users(value)
    if len(readers) != 2 or any(reader.name != "graph.slice" for reader in readers):
        return None
    shape = shape_of(value)
    half = shape[-1].exact_divide(2)
    if half is None or half.as_constant() is None:
        return None
    parts = sorted(readers, key=lambda reader: expressions(reader, "starts")[-1] != ZERO)
    for part, start in zip(parts, (ZERO, half), strict=True):
        whole = expressions(part, "starts") == (*[ZERO] * (len(shape) - 1), start)
        if not whole or set(integers(part, "steps")) != {1} or shape_of(part.results[0]) != (*shape[:-1], half):
            return None
    halves = (parts[0].results[0], parts[1].results[0])
    return Gate((product,), bias, halves) if maps_to_join(*halves) is not None else None


# Rewriting ------------------------------------------------------------------------------------------------------
def _pair(weights: WeightStore, gate: Gate) -> None:
    first, half = gate.products[0], gate.columns
    turned = bool(integer(first, "transpose_right"))
    left, location = first.operands[0], fused_location([product.location for product in gate.products])
    with building_before(first, location):
        merged = graph_builder.matmul(
            left,
            _in_turn(weights, [product.operands[1] for product in gate.products], 0 if turned else 1),
            transpose_left=bool(integer(first, "transpose_left")),
            transpose_right=turned,
            element=element_of(first.results[0]),
            unify=lambda own, _: own,  # sizes may be equal at run time only
        )
        rank = rank_of(merged)
        shape = [*shape_of(merged)[:-1], half]
        steps = [*[1] * (rank - 1), 2]
        columns = [graph_builder.slice(merged, [*[0] * (rank - 1), start], shape, steps) for start in (0, 1)]
    if gate.bias is not None:
        columns = [_biased(weights, gate.bias, own, start) for own, start in zip(columns, (ZERO, half), strict=True)]
    for old, new in zip(gate.halves, columns, strict=True):
        owner = producer(old)
        assert owner is not None
        replace(owner, [new])
    if gate.bias is not None:
        gate.bias.erase()


def _biased(weights: WeightStore, bias: ir.Operation, half: ir.Value, start: Expression) -> ir.Value:
    """Half of the product with its half of the bias."""
    value = next(own for own in inputs_of(bias) if is_weight(own, 1))
    handle, width = string(value.owner, "handle"), shape_of(half)[-1]
    begin, count = start.as_constant() or 0, width.as_constant() or 0
    part = weights.add(f"{handle}.half", lambda: weights.get(handle)[begin : begin + count])
    with building_before(bias):
        row = graph_builder.weight(part, [width], element_of(value))
    return add_row(bias, half, row, bias)


def _in_turn(weights: WeightStore, values: Sequence[ir.Value], axis: int) -> ir.Value:
    """A weight whose columns (along `axis`) are those of two weights, or of the halves of one, in turn."""
    handles = [string(value.owner, "handle") for value in values]
    handle = weights.add(f"{handles[0]}.paired", _columns_in_turn(weights, handles, axis))
    shape = list(shape_of(values[0]))
    shape[axis] = shape[axis] * len(values)
    return graph_builder.weight(handle, shape, element_of(values[0]))


def _columns_in_turn(weights: WeightStore, handles: Sequence[str], axis: int) -> Callable[[], Array]:
    def make() -> Array:
        arrays = [weights.get(handle) for handle in handles]
        halves = arrays if len(arrays) == 2 else np.split(arrays[0], 2, axis)
        shape = list(halves[0].shape)
        shape[axis] *= 2
        return np.stack(halves, axis + 1).reshape(shape)

    return make
