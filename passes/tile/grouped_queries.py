"""Attention of single queries whose heads share keys: the heads of a group become the rows of one problem.

In: the contractions of an attention in which several heads of queries read the same keys and values, one query each, as
decoding with grouped heads has it. Out: the same with a batch for each head of keys, and its heads of queries as rows:
keys and values are then read once, and a tile of rows is not one query and otherwise empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mlir import ir

from ...dialects.tensors import shape_of
from ...runtime.symbolic import ZERO, Expression
from .builder import TileBuilder
from .contraction import Contraction, PlaceFunction
from .elements import Address, ElementEmitter, load_rules


def group_heads(
    builder: TileBuilder, operations: Sequence[ir.Operation], first: Contraction, second: Contraction
) -> tuple[Contraction, Contraction]:
    """Both contractions with heads as rows, where there is one query a head and heads share keys; else as they are."""
    if first.rows != 1:
        return first, second
    for size in _group_sizes(operations):
        batch = first.batch.exact_divide(size)
        shared = batch is not None and all(
            _is_shared(builder, view.right, (batch, view.depth, view.columns), size) for view in (first, second)
        )
        if batch is not None and shared:
            return _grouped(first, batch, size), _grouped(second, batch, size)
    return first, second


def _group_sizes(operations: Sequence[ir.Operation]) -> list[int]:
    """How many times a broadcast of the kernel repeats something, the most first."""
    found: set[int] = set()
    for operation in operations:
        if operation.name == "graph.broadcast":
            source, result = shape_of(operation.operands[0]), shape_of(operation.results[0])
            padded = (*[None] * (len(result) - len(source)), *source)
            found |= {size.as_constant() or 1 for own, size in zip(padded, result, strict=True) if own != size}
    return sorted(found - {1}, reverse=True)


def _is_shared(
    builder: TileBuilder, place: PlaceFunction, extents: tuple[Expression, Expression, Expression], size: int
) -> bool:
    """Whether `size` batches in turn find the same at the same place."""
    names = ("%group", "%depth", "%column")
    builder.extents.update(zip(names, extents, strict=True))
    builder.extents["%member"] = Expression.constant(size)
    group, depth, column = map(Expression.symbol, names)
    member, leader = (
        _address(builder, place, group * size + own, depth, column) for own in (Expression.symbol("%member"), ZERO)
    )
    return member is not None and member == leader


def _address(
    builder: TileBuilder, place: PlaceFunction, batch: Expression, depth: Expression, column: Expression
) -> Address | None:
    load_rules()
    found = place(batch, depth, column)
    return None if found.conditions else ElementEmitter(builder).address(found.tensor, found.indices)


def _grouped(view: Contraction, batch: Expression, size: int) -> Contraction:
    """The view with a batch for `size` of its batches, which become its rows."""
    return replace(
        view,
        batch=batch,
        rows=Expression.constant(size),
        left=lambda own, row, depth: view.left(own * size + row, ZERO, depth),
        right=lambda own, depth, column: view.right(own * size, depth, column),
        result=lambda own, row, column: view.result(own * size + row, ZERO, column),
    )
