"""Sequences and optionals: resolved while importing where their tensors are known, else held by the host during a run.

In: tensors and positions. Out: the tensors themselves; or, where a position, a number of tensors or a loop depends on
data, calls of runtime/host_functions/sequences.py on lists whose elements stay on the device.
"""

from __future__ import annotations

import numpy as np
from mlir import ir

from ....dialects import graph_builder as build
from ....runtime.errors import ModelError
from ....runtime.symbolic import ONE, ZERO, Expression
from ..errors import Unsupported
from ..held import Content, HeldValue, State, content_of, held, opened
from ..node import Node
from ..registry import onnx_operator
from ..tensor import EmptyOptional, Tensor, TensorSequence
from . import joining
from .repetition import Repetition

KINDS = ("sequence", "optional")


def sequence_of(node: Node, position: int = 0) -> TensorSequence | HeldValue:
    """A sequence input. Raises ModelError when it is a tensor, Unsupported when nothing is known of its tensors."""
    sequence = node.input(position)
    if isinstance(sequence, TensorSequence) or (isinstance(sequence, HeldValue) and sequence.dtype == "sequence"):
        return sequence
    if sequence.dtype not in KINDS:
        raise ModelError(f"{node.operator} of a tensor")
    what = f"{node.operator} of an optional that is an input of the model and may hold a sequence"
    raise Unsupported(what, "sequences and optionals of tensors", sequence.sources)


def held_sequence(node: Node, position: int = 0) -> HeldValue:
    """A sequence input as a value that the host holds."""
    sequence = sequence_of(node, position)
    if isinstance(sequence, HeldValue):
        return sequence
    content = State.of(sequence).joined(sequence, node).content
    return HeldValue(node.importer.materialiser, "sequence", held(sequence), content)


def known_position(node: Node, place: int, count: int, default: int, limit: int) -> int | None:
    """A position; negative ones count from the end. None where it depends on data."""
    if not node.has(place):
        return default
    known = node.input(place).known()
    position = known.ravel()[0].as_constant() if known is not None else None
    if position is None:
        return None
    if not -count <= position < limit:
        raise ModelError(f"{node.operator} at {position} of a sequence of {count}")
    return int(position) + count if position < 0 else int(position)


def _changed(node: Node, function: str, sequence: HeldValue, inputs: list[Tensor], place: int) -> ir.Value:
    """The value of a function of a sequence and, where it is given, a position."""
    position = [node.input(place)] if node.has(place) else []
    return node.host(function, [sequence, *inputs, *position], 1, {"operator": node.operator})[0]


@onnx_operator("SequenceConstruct", host=True)
def sequence_construct(node: Node) -> TensorSequence:
    return TensorSequence(node.importer.materialiser, [node.input(place) for place in range(len(node.inputs))])


@onnx_operator("SequenceEmpty", host=True)
def sequence_empty(node: Node) -> TensorSequence:
    return TensorSequence(node.importer.materialiser, [])


@onnx_operator("SequenceInsert", host=True)
def sequence_insert(node: Node) -> Tensor:
    sequence, tensor = sequence_of(node), node.input(1)
    if isinstance(sequence, TensorSequence):
        elements = list(sequence.elements)
        at = known_position(node, 2, len(elements), len(elements), len(elements) + 1)
        if at is not None:
            elements.insert(at, tensor)
            return TensorSequence(node.importer.materialiser, elements)
    there = held_sequence(node)
    content = there.content.joined(content_of(tensor, node), node)
    value = _changed(node, "sequence_insert", there, [node.on_host(held(tensor), "object")], 2)
    return HeldValue(node.importer.materialiser, "sequence", value, content)


@onnx_operator("SequenceErase", host=True)
def sequence_erase(node: Node) -> Tensor:
    sequence = sequence_of(node)
    if isinstance(sequence, TensorSequence):
        elements = list(sequence.elements)
        at = known_position(node, 1, len(elements), len(elements) - 1, len(elements))
        if at is not None:
            del elements[at]
            return TensorSequence(node.importer.materialiser, elements)
    there = held_sequence(node)
    value = _changed(node, "sequence_erase", there, [], 1)
    return HeldValue(node.importer.materialiser, "sequence", value, there.content)


@onnx_operator("SequenceAt", host=True)
def sequence_at(node: Node) -> Tensor:
    sequence = sequence_of(node)
    if isinstance(sequence, TensorSequence):
        at = known_position(node, 1, len(sequence.elements), 0, len(sequence.elements))
        if at is not None:
            return sequence.elements[at]
    there = held_sequence(node)
    return _content(node, there.content, _changed(node, "sequence_at", there, [], 1))


def _content(node: Node, content: Content, value: ir.Value) -> Tensor:
    """The tensor of a host value: the element of a sequence or an optional."""
    if content.shape is None:
        what = f"{node.operator} of tensors of different or unknown ranks"
        raise Unsupported(what, "one rank, which is declared or shows in the model", node.sources)
    kind = "string" if content.dtype == "string" else "element"
    return opened(node, [State(kind, content)], [value])[0]


@onnx_operator("SequenceLength", host=True)
def sequence_length(node: Node) -> Tensor:
    sequence = sequence_of(node)
    if isinstance(sequence, TensorSequence):
        return node.literal(np.array(len(sequence.elements), np.int64), "i64")
    count = node.found("sequence_length", [sequence], 1)[0]
    return node.symbolic(np.array(count, dtype=object), "i64")


@onnx_operator("ConcatFromSequence", host=True)
def concat_from_sequence(node: Node) -> Tensor:
    """Along an axis, or along a new one."""
    sequence = sequence_of(node)
    new = bool(node.get("new_axis", 0))
    if isinstance(sequence, HeldValue):
        axis = node.axis(node.get("axis", 0), len(sequence.content.shape or ()) + new)
        join = joining.stacked if new else joining.concatenated
        return node.tensor(join(node, sequence, axis))
    elements = sequence.elements
    if not elements:
        raise ModelError("ConcatFromSequence of an empty sequence")
    axis = node.axis(node.get("axis", 0), elements[0].rank + new)
    if new:
        shapes = [[*item.shape[:axis], ONE, *item.shape[axis:]] for item in elements]
        elements = [node.reshaped(item, shape) for item, shape in zip(elements, shapes, strict=True)]
    return node.tensor(build.concatenate([item.value for item in elements], axis, node.unify))


@onnx_operator("SplitToSequence")
def split_to_sequence(node: Node) -> Tensor:
    """Parts of given sizes, or of one size (the last may be smaller); parts of size 1 can lose the axis."""
    x = node.input(0)
    axis = node.axis(node.get("axis", 0), x.rank)
    sizes = _part_sizes(node, x.shape[axis])
    if sizes is None:
        return _split(node, x, axis)
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


def _part_sizes(node: Node, size: Expression) -> list[Expression] | None:
    """The sizes of all parts, None where a run finds how many there are."""
    known = node.input(1).known() if node.has(1) else np.array(ONE, dtype=object)
    if known is not None and known.ndim == 1:
        sizes = node.sizes(1, "sizes")
        node.unify(sum(sizes, ZERO), size)
        return sizes
    length, part = size.as_constant(), known.ravel()[0].as_constant() if known is not None else None
    if part is not None and part < 1:
        raise ModelError(f"SplitToSequence into parts of {part}")
    if length is None or part is None:
        return None
    return [Expression.constant(min(part, length - start)) for start in range(0, length, part)]


def _split(node: Node, x: Tensor, axis: int) -> HeldValue:
    """The sequence of parts of which only a run knows how many they are."""
    known = node.input(1).known() if node.has(1) else None
    size = known.ravel()[0].as_constant() if known is not None else None
    given = [node.input(1)] if node.has(1) and size is None else []
    options = {} if given else {"size": size or 1}
    symbol = node.importer.fresh_symbols(node.operator, 1)
    values = node.host("part_sizes", given, 1, options, sizes=[x.shape[axis]], symbols=symbol)
    lengths = node.on_host(values[0], "object")
    shape: list[Expression | None] = list(x.shape)
    if node.has(1):
        on_device = build.upload(lengths.value, [Expression.symbol(symbol[0])], "i64")
        value = joining.split(node, x, axis, on_device, lengths)
        shape[axis] = None
    else:
        keep = bool(node.get("keepdims", 1))
        value = joining.rows(node, x, axis, lengths, keep)
        shape[axis : axis + 1] = [ONE] if keep else []
    return HeldValue(node.importer.materialiser, "sequence", value, Content(x.dtype, tuple(shape)))


@onnx_operator("Optional", host=True)
def optional(node: Node) -> Tensor:
    """The value itself, or nothing."""
    return node.input(0) if node.has(0) else EmptyOptional(node.importer.materialiser)


@onnx_operator("OptionalHasElement", host=True)
def optional_has_element(node: Node) -> Tensor:
    value = node.optional(0)
    if value is not None and value.dtype == "optional" and not isinstance(value, EmptyOptional):
        return node.tensor(build.upload(node.host("has_element", [value])[0], [], "i1"))
    there = value is not None and not isinstance(value, EmptyOptional)
    return node.literal(np.array(there), "i1")


@onnx_operator("OptionalGetElement", host=True)
def optional_get_element(node: Node) -> Tensor:
    value = node.input(0)
    if isinstance(value, EmptyOptional):
        raise ModelError(f"node '{node.name}' (OptionalGetElement): the optional is empty")
    if isinstance(value, HeldValue) and value.dtype == "optional":
        return _content(node, value.content, value.value)
    if value.dtype == "optional":
        raise Unsupported("OptionalGetElement of an optional sequence", "optional tensors", value.sources)
    return value


@onnx_operator("SequenceMap", host=True)
def sequence_map(node: Node) -> list[Tensor | ir.Value | None]:
    """The body for every element of the first sequence; other sequences go along, tensors are the same each time."""
    tensors = [node.input(position) for position in range(len(node.inputs))]
    sequences = [tensor.dtype == "sequence" for tensor in tensors]
    if any(isinstance(tensor, HeldValue) for tensor in tensors):
        return _mapped_by_loop(node, tensors)
    rows: list[list[Tensor]] = []
    taken = [_elements(node, place) if among else [tensors[place]] for place, among in enumerate(sequences)]
    for number in range(len(taken[0])):
        given = [items[number] if among else items[0] for items, among in zip(taken, sequences, strict=True)]
        results = node.importer.run_subgraph(node.get("body"), node.scope, given)
        rows.append([result for result in results if result is not None])
    count = len(node.get("body").output)
    if any(len(row) != count for row in rows):
        return []  # what failed has been reported
    columns = [[row[position] for row in rows] for position in range(count)]
    return [TensorSequence(node.importer.materialiser, column) for column in columns]


def _elements(node: Node, position: int) -> list[Tensor]:
    sequence = sequence_of(node, position)
    assert isinstance(sequence, TensorSequence)
    return sequence.elements


def _mapped_by_loop(node: Node, tensors: list[Tensor]) -> list[Tensor | ir.Value | None]:
    """A loop of the program over sequences whose length a run knows."""
    given = [held_sequence(node, place) if item.dtype == "sequence" else item for place, item in enumerate(tensors)]
    first = next(item for item in given if isinstance(item, HeldValue))
    length = node.symbolic(np.array(node.found("sequence_length", [first], 1)[0], dtype=object), "i64")

    def inputs(number: Tensor, _: Tensor, __: list[Tensor]) -> list[Tensor]:
        return [_element(node, item, number) if isinstance(item, HeldValue) else item for item in given]

    return Repetition(node, node.get("body"), [], length, None, False, inputs, sequences=True).run()


def _element(node: Node, sequence: HeldValue, number: Tensor) -> Tensor:
    options = {"operator": node.operator}
    return _content(node, sequence.content, node.host("sequence_at", [sequence, number], 1, options)[0])
