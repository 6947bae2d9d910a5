"""Pass `unfold-reshapes`: reductions over joined dimensions become reductions over the dimensions themselves.

In: group normalisations as exporters write them: a reshape that joins channels of a group with all positions,
reductions over the joined dimension, and a reshape back. Out: the same over [n, groups, channels, h, w], a shape
that channels-last planning can follow and in which the normalisation and what comes after it are one row.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlir import ir

from ...dialects import graph_builder
from ...dialects.tensors import Shape, element_of, shape_of, tensor_type
from ...runtime.symbolic import ONE, Expression
from ..unit import Unit, register_pass
from .rewriting import (
    blocks_within,
    building_before,
    captures,
    erase_dead,
    functions,
    inputs_of,
    integers,
    operations_of,
    producer,
    users,
)

Pieces = list[list[int]]  # for every dimension of a shape, the finer dimensions that it joins


@dataclass(frozen=True)
class Unfolded:
    """A value is also there as `value`, in a finer shape; `pieces` says how its dimensions are made of that."""

    value: ir.Value
    pieces: Pieces


@register_pass("unfold-reshapes", requires="graph", ensures="graph")
def unfold_reshapes(unit: Unit) -> None:
    """Reduce over the dimensions that a reshape joined.

    before::

        %0 = "graph.reshape"(%x) : (tensor<1x8x5x5xf32>) -> tensor<1x4x50xf32>
        %1 = "graph.reduce"(%0) {axes = array<i64: 2>} : ... -> tensor<1x4x1xf32>

    after::

        %0 = "graph.reshape"(%x) : (tensor<1x8x5x5xf32>) -> tensor<1x4x2x5x5xf32>
        %1 = "graph.reduce"(%0) {axes = array<i64: 2, 3, 4>} : ... -> tensor<1x4x1x1x1xf32>
        %2 = "graph.reshape"(%1) : ... -> tensor<1x4x1xf32>
    """
    with unit.module.context, ir.Location.unknown():
        main = functions(unit.module)["main"]
        for block in blocks_within(main):
            _unfold(block)
        erase_dead(main)


def refine(first: Shape, second: Shape) -> tuple[Shape, Pieces, Pieces] | None:
    """The coarsest shape whose dimensions join to both shapes, and how; None when sizes do not divide.

    ``[n, 8, h, w]`` and ``[n, 4, 2*h*w]`` give ``[n, 4, 2, h, w]``.
    """
    fine: list[Expression] = []
    pieces: tuple[Pieces, Pieces] = ([[] for _ in first], [[] for _ in second])
    i = j = 0
    left = first[0] if first else ONE
    right = second[0] if second else ONE
    while i < len(first) and j < len(second):
        rest = left.exact_divide(right)
        size = right if rest is not None else left
        other = right.exact_divide(left) if rest is None else None
        if rest is None and other is None:
            return None
        pieces[0][i].append(len(fine))
        pieces[1][j].append(len(fine))
        fine.append(size)
        left, right = (rest, ONE) if rest is not None else (ONE, other or ONE)
        if left == ONE:
            i += 1
            left = first[i] if i < len(first) else ONE
        if right == ONE:
            j += 1
            right = second[j] if j < len(second) else ONE
    for index, shape, axis in ((0, first, i), (1, second, j)):
        for position in range(axis, len(shape)):
            if shape[position] != ONE:
                return None
            pieces[index][position].append(len(fine))
            fine.append(ONE)
    return tuple(fine), pieces[0], pieces[1]


def is_product(value: ir.Value) -> bool:
    """Whether a matmul made the value, with or without maps of its shape behind it."""
    owner = producer(value)
    if owner is None or owner.name != "graph.map":
        return owner is not None and owner.name == "graph.matmul"
    tensors = [inner.operands[0] for inner in captures(owner)]
    return any(shape_of(tensor) == shape_of(value) and is_product(tensor) for tensor in tensors)


def _unfold(block: ir.Block) -> None:
    known: dict[ir.Value, Unfolded] = {}
    for operation in operations_of(block):
        if operation.name == "graph.reshape":
            _reshape(operation, known)
        elif operation.name == "graph.reduce" and operation.operands[0] in known:
            source = known[operation.operands[0]]
            axes = [fine for axis in integers(operation, "axes") for fine in source.pieces[axis]]
            operation.operands[0] = source.value
            operation.attributes["axes"] = graph_builder.attribute(sorted(axes))
            shape = shape_of(source.value)
            reduced = tuple(ONE if axis in axes else size for axis, size in enumerate(shape))
            _retype(operation, reduced, source.pieces, known)
        elif operation.name == "graph.map":
            _map(operation, known)


def _reshape(operation: ir.Operation, known: dict[ir.Value, Unfolded]) -> None:
    """Start at a reshape that joins what is then reduced; follow one whose result the finer shape joins to, too."""
    source, result = operation.operands[0], operation.results[0]
    if source in known:
        operation.operands[0] = known[source].value
        refined = refine(shape_of(known[source].value), shape_of(result))
        if refined is not None and refined[0] == shape_of(known[source].value):
            known[result] = Unfolded(known[source].value, refined[2])
        return
    refined = refine(shape_of(source), shape_of(result))
    if refined is None or not _joins_reduced(result, refined[2], refined[0]):
        return
    with building_before(operation):
        known[result] = Unfolded(graph_builder.reshape(source, refined[0]), refined[2])


def _joins_reduced(value: ir.Value, pieces: Pieces, fine: Shape) -> bool:
    """True when a reduction, perhaps of a map of it, runs over a dimension that joins several."""
    pending = [value]
    for _ in range(2):
        readers = [reader for current in pending for reader in users(current)]
        for reader in readers:
            if reader.name == "graph.reduce" and any(
                sum(fine[item] != ONE for item in pieces[axis]) > 1 for axis in integers(reader, "axes")
            ):
                return True
        maps = [reader.results[0] for reader in readers if reader.name == "graph.map"]
        # A product would have to be split, and a softmax behind it would no longer be that of an attention.
        pending = [mapped for mapped in maps if len(shape_of(mapped)) == len(pieces) and not is_product(mapped)]
    return False


def _map(operation: ir.Operation, known: dict[ir.Value, Unfolded]) -> None:
    """Compute a map in the finer shape when it reads a value of its own shape that is there in it."""
    result = operation.results[0]
    shape = shape_of(result)
    found = [known[value] for value in inputs_of(operation) if value in known and len(shape_of(value)) == len(shape)]
    if not found or captures(operation, "graph.index") or captures(operation, "graph.element_at"):
        return
    pieces = found[0].pieces
    fine = shape_of(found[0].value)
    full = [all(fine[item] == ONE for item in piece) for piece in pieces]
    if any(one != (size == ONE) for one, size in zip(full, shape, strict=True)):
        return  # what is there is stretched by this map: sizes would be guessed
    for inner in captures(operation):
        tensor = inner.operands[0]
        if tensor in known and known[tensor].pieces == pieces:
            inner.operands[0] = known[tensor].value
            continue
        with building_before(operation):
            inner.operands[0] = graph_builder.reshape(tensor, _split(shape_of(tensor), fine, pieces))
    _retype(operation, fine, pieces, known)


def _split(shape: Shape, fine: Shape, pieces: Pieces) -> Shape:
    """The finer form of a shape that broadcasts against the joined one."""
    padded = (ONE,) * (len(pieces) - len(shape)) + shape
    sizes = [ONE] * len(fine)
    for size, piece in zip(padded, pieces, strict=True):
        for item in piece:
            sizes[item] = ONE if size == ONE else fine[item]
    return tuple(sizes)


def _retype(operation: ir.Operation, fine: Shape, pieces: Pieces, known: dict[ir.Value, Unfolded]) -> None:
    """Give the result its finer shape; others read it through a reshape."""
    result = operation.results[0]
    shape = shape_of(result)
    result.set_type(tensor_type(fine, element_of(result)))
    with ir.InsertionPoint.after(operation), operation.location:
        restored = graph_builder.build("reshape", shape, element_of(result), [result])
    owner = producer(restored)
    assert owner is not None
    result.replace_all_uses_except(restored, [owner])
    known[restored] = Unfolded(result, pieces)
