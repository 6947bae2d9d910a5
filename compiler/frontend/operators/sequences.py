"""Sequences and optionals, resolved while importing.

In: tensors and positions that are known. Out: the tensors themselves: a sequence exists at run time only as an
output of the model, where its tensors are gathered on the host.
"""

from __future__ import annotations

import numpy as np

from ....dialects import graph_builder as build
from ....runtime.errors import ModelError
from ....runtime.symbolic import ONE, ZERO, Expression
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator
from ..tensor import EmptyOptional, Tensor, TensorSequence


def elements_of(node: Node, position: int = 0) -> list[Tensor]:
    """The tensors of a sequence input. Raises ModelError when it is a tensor."""
    sequence = node.input(position)
    if not isinstance(sequence, TensorSequence):
        what = f"{node.operator} of a {sequence.dtype} that is an input of the model"
        if sequence.dtype not in ("sequence", "optional"):
            raise ModelError(f"{node.operator} of a tensor")
        raise Unsupported(what, "sequences inside the model, or whose tensors are known", sequence.sources)
    return sequence.elements


def position_of(node: Node, place: int, count: int, default: int, limit: int) -> int:
    """A known position; negative ones count from the end."""
    if not node.has(place):
        return default
    position = node.integers(place, "position")[0]
    if not -count <= position < limit:
        raise ModelError(f"{node.operator} at {position} of a sequence of {count}")
    return position + count if position < 0 else position


@onnx_operator("SequenceConstruct", host=True)
def sequence_construct(node: Node) -> TensorSequence:
    return TensorSequence(node.importer.materialiser, [node.input(place) for place in range(len(node.inputs))])


@onnx_operator("SequenceEmpty", host=True)
def sequence_empty(node: Node) -> TensorSequence:
    return TensorSequence(node.importer.materialiser, [])


@onnx_operator("SequenceInsert", host=True)
def sequence_insert(node: Node) -> TensorSequence:
    elements = list(elements_of(node))
    elements.insert(position_of(node, 2, len(elements), len(elements), len(elements) + 1), node.input(1))
    return TensorSequence(node.importer.materialiser, elements)


@onnx_operator("SequenceErase", host=True)
def sequence_erase(node: Node) -> TensorSequence:
    elements = list(elements_of(node))
    del elements[position_of(node, 1, len(elements), len(elements) - 1, len(elements))]
    return TensorSequence(node.importer.materialiser, elements)


@onnx_operator("SequenceAt", host=True)
def sequence_at(node: Node) -> Tensor:
    elements = elements_of(node)
    return elements[position_of(node, 1, len(elements), 0, len(elements))]


@onnx_operator("SequenceLength", host=True)
def sequence_length(node: Node) -> Tensor:
    return node.literal(np.array(len(elements_of(node)), np.int64), "i64")


@onnx_operator("ConcatFromSequence", host=True)
def concat_from_sequence(node: Node) -> Tensor:
    """Along an axis, or along a new one."""
    elements = elements_of(node)
    if not elements:
        raise ModelError("ConcatFromSequence of an empty sequence")
    new = bool(node.get("new_axis", 0))
    rank = elements[0].rank + new
    axis = node.axis(node.get("axis", 0), rank)
    if new:
        shapes = [[*item.shape[:axis], ONE, *item.shape[axis:]] for item in elements]
        elements = [node.reshaped(item, shape) for item, shape in zip(elements, shapes, strict=True)]
    return node.tensor(build.concatenate([item.value for item in elements], axis, node.unify))


@onnx_operator("SplitToSequence")
def split_to_sequence(node: Node) -> TensorSequence:
    """Parts of given sizes, or of one size (the last may be smaller); parts of size 1 can lose the axis."""
    x = node.input(0)
    axis = node.axis(node.get("axis", 0), x.rank)
    size = x.shape[axis]
    sizes = _part_sizes(node, size)
    results, start = [], ZERO
    for part in sizes:
        starts = [start if place == axis else ZERO for place in range(x.rank)]
        shape = [part if place == axis else other for place, other in enumerate(x.shape)]
        piece = node.tensor(build.slice(x.value, starts, shape))
        if not node.has(1) and not node.get("keepdims", 1):
            piece = node.reshaped(piece, [other for place, other in enumerate(shape) if place != axis])
        results.append(piece)
        start = start + part
    return TensorSequence(node.importer.materialiser, results)


def _part_sizes(node: Node, size: Expression) -> list[Expression]:
    if node.has(1) and node.rank(1) == 1:
        sizes = node.sizes(1, "sizes")
        node.unify(sum(sizes, ZERO), size)
        return sizes
    length = size.as_constant()
    part = node.integers(1, "size")[0] if node.has(1) else 1
    if length is None or part < 1:
        raise Unsupported("SplitToSequence of a dynamic dimension into equal parts", "static sizes")
    return [Expression.constant(min(part, length - start)) for start in range(0, length, part)]


@onnx_operator("Optional", host=True)
def optional(node: Node) -> Tensor:
    """The value itself, or nothing."""
    return node.input(0) if node.has(0) else EmptyOptional(node.importer.materialiser)


@onnx_operator("OptionalHasElement", host=True)
def optional_has_element(node: Node) -> Tensor:
    value = node.optional(0)
    if value is not None and value.dtype == "optional" and not isinstance(value, EmptyOptional):
        raise Unsupported("OptionalHasElement of an input of the model", "known optionals", value.sources)
    there = value is not None and not isinstance(value, EmptyOptional)
    return node.literal(np.array(there), "i1")


@onnx_operator("OptionalGetElement", host=True)
def optional_get_element(node: Node) -> Tensor:
    value = node.input(0)
    if isinstance(value, EmptyOptional):
        raise ModelError(f"node '{node.name}' (OptionalGetElement): the optional is empty")
    if value.dtype == "optional":
        raise Unsupported("OptionalGetElement of an input of the model", "known optionals", value.sources)
    return value


@onnx_operator("SequenceMap", host=True)
def sequence_map(node: Node) -> list[Tensor]:
    """The body for every element of the first sequence; other sequences go along, tensors are the same each time."""
    taken = [
        elements_of(node, position) if tensor is not None and tensor.dtype == "sequence" else [node.input(position)]
        for position, tensor in enumerate(node.inputs)
    ]
    rows: list[list[Tensor]] = []
    for number in range(len(elements_of(node))):
        given = [
            items[number] if tensor is not None and tensor.dtype == "sequence" else items[0]
            for items, tensor in zip(taken, node.inputs, strict=True)
        ]
        results = node.importer.run_subgraph(node.get("body"), node.scope, given)
        rows.append([result for result in results if result is not None])
    count = len(node.get("body").output)
    if any(len(row) != count for row in rows):
        return []  # what failed has been reported
    columns = [[row[position] for row in rows] for position in range(count)]
    return [TensorSequence(node.importer.materialiser, column) for column in columns]
