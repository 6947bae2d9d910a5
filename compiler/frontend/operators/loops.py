"""Loop and Scan: unrolled while importing where the number of iterations is known, else a loop of the program.

In: a body. Out: the operations of every iteration, one after the other, in which constant folding makes the
iteration number a literal; or one `scf.while`, whose carried values keep their shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np
import onnx
from mlir import ir
from mlir.dialects import scf
from mlir.dialects import tensor as tensor_dialect

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.errors import ModelError
from ....runtime.symbolic import ONE, ZERO, Expression
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Tensor

MOST_ITERATIONS = 512
KNOWN = f"a known number of iterations up to {MOST_ITERATIONS}"


class _DependsOnData(Exception):
    """The number of iterations is not known while importing, or too large to write them all down."""


@onnx_operator("Loop", host=True)
def loop(node: Node) -> list[Tensor | ir.Value | None]:
    """Runs while the trip count lasts and the condition holds: unrolled where both are known, else as a loop."""
    carried = max(len(node.inputs) - 2, 0)
    if len(node.get("body").output) < carried + 1:
        raise ModelError(f"the body of a Loop that carries {carried} values has {carried + 1} outputs or more")
    pairs = list(node.importer.constraints.pairs)
    try:
        return _unrolled(node)
    except _DependsOnData:
        node.importer.constraints.pairs[:] = pairs
        return _repeated(node)


def _repeated(node: Node) -> list[Tensor | ir.Value | None]:
    """`scf.while` over the iteration number, whether to go on, and what is carried, which keeps its types."""
    body: onnx.GraphProto = node.get("body")
    carried = [node.input(position) for position in range(2, len(node.inputs))]
    if len(body.output) - 1 > len(carried):
        raise Unsupported(
            "Loop that collects values over an unknown or large number of iterations", KNOWN, node.sources
        )
    if any(tensor.is_on_host for tensor in carried):
        raise Unsupported("Loop over sequences with an unknown or large number of iterations", KNOWN, node.sources)
    trips = node.reshaped(node.input(0), []) if node.has(0) else None
    limits = [trips] if trips is not None else []
    start = [node.reshaped(node.input(1), [])] if node.has(1) else []
    first = node.literal(np.array(0, np.int64), "i64")
    going = node.map([first, *start, *limits], lambda n, *rest: _goes_on(n, rest, bool(start)))
    values = [first.value, going, *[tensor.value for tensor in carried]]
    types = [value.type for value in values]
    operation = ir.Operation.create("scf.while", results=types, operands=values, regions=2)
    before, after = (region.blocks.append(*types) for region in operation.regions)
    with ir.InsertionPoint(before):
        condition = tensor_dialect.ExtractOp(before.arguments[1], []).result
        scf.ConditionOp(condition, list(before.arguments))
    with ir.InsertionPoint(after):
        given = [node.tensor(argument) for argument in after.arguments]
        results = node.importer.run_subgraph(body, node.scope, given)
        done = [result for result in results if result is not None]
        if len(done) != len(results):
            return [None] * len(node.outputs)
        following = node.map([given[0]], lambda n: n + 1)
        again = node.map([following, node.reshaped(done[0], []), *limits], lambda n, *rest: _goes_on(n, rest, True))
        scf.YieldOp([following, again, *[_same_type(node, *pair) for pair in zip(done[1:], carried, strict=True)]])
    return list(operation.results)[2:]


def _goes_on(number: Scalar, rest: Sequence[Scalar], conditional: bool) -> Scalar:
    """The condition, if there is one, and that the number is below the trip count, if there is one."""
    result = rest[0] if conditional else Scalar.constant(1, "i1")
    for trips in rest[1 if conditional else 0 :]:
        result = result & number.lt(trips.cast("i64"))
    return result


def _same_type(node: Node, value: Tensor, carried: Tensor) -> ir.Value:
    """What the body gives for a carried value, in the type with which it came in."""
    differs = value.is_on_host or value.dtype != carried.dtype or value.rank != carried.rank
    pairs = [] if differs else list(zip(value.shape, carried.shape, strict=True))
    if differs or any((a - b).as_constant() not in (None, 0) for a, b in pairs):
        what = "Loop whose carried values change their types in an unknown or large number of iterations"
        raise Unsupported(what, f"types that stay, or {KNOWN}", node.sources)
    for one, two in pairs:
        node.unify(one, two)
    return build.reshape(value.value, carried.shape)


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
        raise Unsupported(f"{node.operator} without iterations whose values are collected", "at least one iteration")
    rank = values[0].rank + 1
    place = node.axis(axis, rank)
    shape = [*values[0].shape[:place], ONE, *values[0].shape[place:]]
    return build.concatenate([node.reshaped(value, shape).value for value in values], place, node.unify)


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
    """The body over the slices of the scanned inputs; their length must be static."""
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
    outputs = len(body.output) - len(states)
    collected: list[list[Tensor]] = [[] for _ in range(outputs)]
    for step in range(length):
        slices = [
            _slice(node, tensor, axis, length - 1 - step if reverse else step)
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


def _length(scanned: Sequence[Tensor], axes: Sequence[int]) -> int:
    if not scanned:
        raise ModelError("Scan without scanned inputs")
    length = scanned[0].shape[axes[0]].as_constant()
    if length is None or length > MOST_ITERATIONS:
        raise Unsupported(f"Scan over {scanned[0].shape[axes[0]]} steps", f"a static number up to {MOST_ITERATIONS}")
    return length


def _slice(node: Node, tensor: Tensor, axis: int, step: int) -> Tensor:
    """One step of a scanned input, without its scan axis."""
    starts = [Expression.constant(step) if place == axis else ZERO for place in range(tensor.rank)]
    sizes = [ONE if place == axis else size for place, size in enumerate(tensor.shape)]
    rest = [size for place, size in enumerate(tensor.shape) if place != axis]
    return node.reshaped(build.slice(tensor.value, starts, sizes), rest)
