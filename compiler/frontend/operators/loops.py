"""Loop and Scan: unrolled while importing where the number of iterations is known, else a loop of the program.

In: a body. Out: the operations of every iteration, one after the other, in which constant folding makes the
iteration number a literal; or a loop of the program (repetition.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
import onnx
from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.errors import ModelError
from ....runtime.symbolic import ONE, ZERO, Expression
from ..errors import Unsupported
from ..held import HeldValue, declared_content, held
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Tensor, TensorSequence
from .repetition import MOST_ITERATIONS, Repetition


class _DependsOnData(Exception):
    """The number of iterations is not known while importing, or too large to write them all down."""


@onnx_operator("Loop", host=True)
def loop(node: Node) -> list[Tensor | ir.Value | None]:
    """Runs while the trip count lasts and the condition holds: unrolled where both are known, else as a loop."""
    carried = max(len(node.inputs) - 2, 0)
    if len(node.get("body").output) < carried + 1:
        raise ModelError(f"the body of a Loop that carries {carried} values has {carried + 1} outputs or more")
    undo = node.importer.trial()
    marker = build.constant(np.array(0, np.int64), "i64").owner
    try:
        results = _unrolled(node)
    except _DependsOnData:
        _erase_after(marker)
        undo()
        results = _repeated(node)
    marker.erase()
    return results


def _erase_after(marker: Any) -> None:
    """What was written down of a loop that turned out to depend on data."""
    operations = list(marker.operation.block.operations)
    first = next(place for place, item in enumerate(operations) if item.operation == marker.operation)
    for operation in reversed(operations[first + 1 :]):
        operation.operation.erase()


def _repeated(node: Node) -> list[Tensor | ir.Value | None]:
    """A loop of the program."""
    body: onnx.GraphProto = node.get("body")
    declared = [value.type for value in body.input[2:]]
    given = [node.input(position) for position in range(2, len(node.inputs))]
    carried = [_of_declared_rank(node, tensor, kind) for tensor, kind in zip(given, declared, strict=False)]
    repetition = Repetition(
        node,
        body,
        carried,
        limit=node.reshaped(node.input(0), []) if node.has(0) else None,
        start=node.reshaped(node.input(1), []) if node.has(1) else None,
        conditional=True,
        inputs=lambda number, going, states: [number, going, *states],
    )
    return repetition.run()


def _of_declared_rank(node: Node, tensor: Tensor, kind: onnx.TypeProto) -> Tensor:
    """An empty sequence, with what the body says of the tensors that will be in it."""
    content = declared_content(kind) if isinstance(tensor, TensorSequence) and not tensor.elements else None
    if content is None or content.shape is None:
        return tensor
    return HeldValue(node.importer.materialiser, "sequence", held(tensor), content)


def _unrolled(node: Node) -> list[Tensor | ir.Value | None]:
    body: onnx.GraphProto = node.get("body")
    trips = _number(node, 0) if node.has(0) else MOST_ITERATIONS + 1
    if node.has(0) and trips > MOST_ITERATIONS:
        raise _DependsOnData
    going = _number(node, 1) != 0 if node.has(1) else True
    carried = [node.input(position) for position in range(2, len(node.inputs))]
    collected: list[list[Tensor]] = [[] for _ in range(len(body.output) - 1 - len(carried))]
    iteration = 0
    while going and iteration < trips:
        if iteration >= MOST_ITERATIONS:
            raise _DependsOnData
        number = node.literal(np.array(iteration, np.int64), "i64")
        truth = node.literal(np.array(True), "i1")
        results = node.importer.run_subgraph(body, node.scope, [number, truth, *carried])
        done = [result for result in results if result is not None]
        if len(done) != len(results):
            return [None] * len(node.outputs)
        condition = done[0].known()
        decided = condition.ravel()[0].as_constant() if condition is not None and condition.size == 1 else None
        if decided is None:
            raise _DependsOnData
        going = bool(decided)
        carried = done[1 : 1 + len(carried)]
        for kept, value in zip(collected, done[1 + len(carried) :], strict=True):
            kept.append(value)
        iteration += 1
    return [*carried, *[_stacked(node, kept, 0) for kept in collected]]


def _number(node: Node, position: int) -> int:
    known = node.input(position).known()
    value = known.ravel()[0].as_constant() if known is not None and known.size == 1 else None
    if value is None:
        raise _DependsOnData
    return int(value)


def _stacked(node: Node, values: list[Tensor], axis: int) -> ir.Value:
    """The values of all iterations along a new dimension."""
    if not values:
        raise _DependsOnData  # on nothing, but what the body gives shows when it is imported as a loop
    rank = values[0].rank + 1
    place = node.axis(axis, rank)
    shapes = [[*value.shape[:place], ONE, *value.shape[place:]] for value in values]
    rows = [node.reshaped(value, shape).value for value, shape in zip(values, shapes, strict=True)]
    return build.concatenate(rows, place, node.unify)


@onnx_operator("Scan")
def scan_of_batches(node: Node) -> list[Tensor | ir.Value | None]:
    """Opset 8: every state and scanned input has a batch dimension in front, and each entry is scanned alone."""
    if node.has(0):
        raise Unsupported("Scan with sequence_lens", "sequences of one length", node.input(0).sources)
    tensors = [node.input(position) for position in range(1, len(node.inputs))]
    batch = tensors[0].shape[0].as_constant() if tensors else None
    if batch is None or not 0 < batch <= MOST_ITERATIONS:
        raise Unsupported("Scan of a dynamic batch", f"a static number up to {MOST_ITERATIONS}")
    count = int(node.get("num_scan_inputs"))
    directions = node.get("directions")
    rows: list[list[Tensor]] = []
    for number in range(batch):
        entry = copy(node)
        entry.inputs = [_slice(node, tensor, 0, number) for tensor in tensors]
        entry.attributes = {"body": node.get("body"), "num_scan_inputs": count, "scan_input_directions": directions}
        results = [result for result in scan(entry) if result is not None]
        if len(results) != len(node.outputs):
            return [None] * len(node.outputs)
        rows.append([node.tensor(result) for result in results])
    return [_stacked(node, list(column), 0) for column in zip(*rows, strict=True)]


@onnx_operator("Scan", since=9, host=True)
def scan(node: Node) -> list[Tensor | ir.Value | None]:
    """The body over the slices of the scanned inputs: unrolled where their length is known, else as a loop."""
    body: onnx.GraphProto = node.get("body")
    count = int(node.get("num_scan_inputs"))
    states = [node.input(position) for position in range(len(node.inputs) - count)]
    scanned = [node.input(position) for position in range(len(states), len(node.inputs))]
    axes = [
        node.axis(axis, tensor.rank)
        for axis, tensor in zip(node.get("scan_input_axes") or [0] * count, scanned, strict=True)
    ]
    backwards = node.get("scan_input_directions") or [0] * count
    length = _length(scanned, axes)
    steps = length.as_constant()
    outputs = len(body.output) - len(states)
    if steps is None or steps > MOST_ITERATIONS:
        return _scanned_by_loop(node, states, scanned, axes, length)
    collected: list[list[Tensor]] = [[] for _ in range(outputs)]
    for step in range(steps):
        slices = [
            _slice(node, tensor, axis, steps - 1 - step if reverse else step)
            for tensor, axis, reverse in zip(scanned, axes, backwards, strict=True)
        ]
        results = node.importer.run_subgraph(body, node.scope, [*states, *slices])
        done = [result for result in results if result is not None]
        if len(done) != len(results):
            return [None] * len(node.outputs)
        states = done[: len(states)]
        for kept, value in zip(collected, done[len(states) :], strict=True):
            kept.append(value)
    placed = node.get("scan_output_axes") or [0] * outputs
    turned = node.get("scan_output_directions") or [0] * outputs
    stacks = [
        _stacked(node, kept[::-1] if turn else kept, axis)
        for kept, axis, turn in zip(collected, placed, turned, strict=True)
    ]
    return [*states, *stacks]


def _scanned_by_loop(
    node: Node, states: list[Tensor], scanned: list[Tensor], axes: list[int], length: Expression
) -> list[Tensor | ir.Value | None]:
    """A loop of the program whose turns gather their slices."""
    backwards = node.get("scan_input_directions") or [0] * len(scanned)

    def inputs(number: Tensor, _: Tensor, carried: list[Tensor]) -> list[Tensor]:
        given = zip(scanned, axes, backwards, strict=True)
        return [*carried, *(_slice_at(node, tensor, axis, number, bool(reverse)) for tensor, axis, reverse in given)]

    body: onnx.GraphProto = node.get("body")
    limit = node.symbolic(np.array(length, dtype=object), "i64")
    repetition = Repetition(node, body, states, limit, None, False, inputs)
    results = repetition.run()
    outputs = len(body.output) - len(states)
    placed = node.get("scan_output_axes") or [0] * outputs
    turned = node.get("scan_output_directions") or [0] * outputs
    stacks = []
    for result, axis, turn in zip(results[len(states) :], placed, turned, strict=True):
        if result is None:
            return [None] * len(node.outputs)
        stack = node.tensor(result)
        value = _turned(node, stack) if turn else stack.value
        order = list(range(1, stack.rank))
        order.insert(node.axis(axis, stack.rank), 0)
        stacks.append(build.transpose(value, order))
    return [*results[: len(states)], *stacks]


def _turned(node: Node, tensor: Tensor) -> ir.Value:
    """The first dimension from its end."""
    last = build.dimension
    table, length = tensor.value, tensor.shape[0]

    def body() -> Scalar:
        first, *rest = (build.index(axis) for axis in range(tensor.rank))
        return build.element_at(table, [last(length) - 1 - first, *rest])

    return node.map([], body, shape=tensor.shape)


def _slice_at(node: Node, tensor: Tensor, axis: int, number: Tensor, reverse: bool) -> Tensor:
    """The step of a scanned input whose number a tensor holds, without its scan axis."""
    table, size = tensor.value, tensor.shape[axis]
    rest = [extent for place, extent in enumerate(tensor.shape) if place != axis]

    def body(step: Scalar) -> Scalar:
        own = [build.index(place) for place in range(len(rest))]
        at = build.dimension(size) - 1 - step if reverse else step
        return build.element_at(table, [*own[:axis], at, *own[axis:]])

    return node.tensor(node.map([number], body, shape=rest))


def _length(scanned: Sequence[Tensor], axes: Sequence[int]) -> Expression:
    if not scanned:
        raise ModelError("Scan without scanned inputs")
    return scanned[0].shape[axes[0]]


def _slice(node: Node, tensor: Tensor, axis: int, step: int) -> Tensor:
    """One step of a scanned input, without its scan axis."""
    starts = [Expression.constant(step) if place == axis else ZERO for place in range(tensor.rank)]
    sizes = [ONE if place == axis else size for place, size in enumerate(tensor.shape)]
    rest = [size for place, size in enumerate(tensor.shape) if place != axis]
    return node.reshaped(build.slice(tensor.value, starts, sizes), rest)
