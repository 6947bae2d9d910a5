"""LSTM, GRU and plain RNN.

In: a sequence [T, N, I] and weights of one or two directions. Out: one matmul for all steps' input
projection and a recurrent operation a direction, or its steps one by one where the operation does not do what
the attributes ask for. Optional initial states are zeros.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.errors import ModelError
from ....runtime.symbolic import ONE, ZERO, Expression
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Tensor
from .recurrent_steps import Advance, Steps, activations_of, gru_step, lstm_step, rnn_step, run_steps

DEFAULT_ACTIVATIONS = {
    "LSTM": ["sigmoid", "tanh", "tanh"],
    "GRU": ["sigmoid", "tanh"],
    "RNN": ["tanh"],
}
UNROLLED_STEPS = 256  # what is unrolled needs a static number of steps


@dataclass
class Sequence:
    """The input as [T, N, I] with the weights' hidden size; `lengths` [N] where sequences differ in length."""

    value: ir.Value
    steps: Expression
    batch: Expression
    hidden: int
    directions: int
    dtype: str
    lengths: Tensor | None

    def reversed(self, direction: int, node: Node) -> bool:
        """Does this direction run from the end?"""
        return direction == 1 or node.get("direction", "forward") == "reverse"


def sequence_of(node: Node, hidden_axis: int = 2) -> Sequence:
    """The checked input; `hidden_axis` of the recurrence weights is the hidden size."""
    x, weight, recurrence = node.input(0), node.input(1), node.input(2)
    direction = node.get("direction", "forward")
    directions = 2 if direction == "bidirectional" else 1
    hidden = recurrence.shape[hidden_axis].as_constant() if recurrence.rank == 3 else None
    if x.rank != 3 or weight.rank != 3 or recurrence.rank != 3:
        raise ModelError(f"{node.operator} needs X, W and R of rank 3")
    if hidden is None:
        raise Unsupported(f"{node.operator} with weights of dynamic size", "static weights")
    value = x.value if not node.get("layout", 0) else build.transpose(x.value, [1, 0, 2])
    steps, batch, _ = build.shape_of(value)
    lengths = node.optional(4)
    known = lengths.known() if lengths is not None else None
    if known is not None and all(item == steps for item in known.ravel()):
        lengths = None
    return Sequence(value, steps, batch, hidden, directions, x.dtype, lengths)


def is_plain(node: Node, sequence: Sequence) -> bool:
    """True when the recurrent operation does all that the attributes ask for."""
    wanted = DEFAULT_ACTIVATIONS[node.operator.removeprefix("DynamicQuantize")] * sequence.directions
    given = [str(name).lower() for name in node.get("activations") or wanted]
    return given == wanted and not node.get("clip") and not node.get("input_forget")


def unrolled(node: Node, sequence: Sequence, direction: int, states: int) -> list[ir.Value]:
    """One direction step by step: all outputs, then the last states."""
    count = sequence.steps.as_constant()
    if count is None or count > UNROLLED_STEPS:
        what = f"{node.operator} of {sequence.steps} steps with such activations or clip"
        raise Unsupported(what, f"a static number of steps up to {UNROLLED_STEPS}")
    weight, recurrence = (direction_of(node, node.input(place), direction) for place in (1, 2))
    gates = weight.shape[0].as_constant() or 0
    first, second = both_biases(node, direction, gates)
    functions = activations_of(node, DEFAULT_ACTIVATIONS[node.operator], sequence.directions)[direction]
    steps = Steps(
        node,
        projection(node, sequence, weight, first),
        recurrence.value,
        second.value if second is not None else None,
        sequence.batch,
        sequence.hidden,
        sequence.reversed(direction, node),
        sequence.lengths.value if sequence.lengths is not None else None,
        functions,
    )
    initial = [state(node, 5 + number, sequence, direction) for number in range(states)]
    return run_steps(steps, count, initial, _advance(node, steps, direction))


def _advance(node: Node, steps: Steps, direction: int) -> Advance:
    if node.operator == "LSTM":
        return lstm_step(steps, direction_of(node, node.input(7), direction).value if node.has(7) else None)
    return gru_step(steps) if node.operator == "GRU" else rnn_step(steps)


# Sequences of different lengths --------------------------------------------------------------------------
def shortened(
    node: Node, sequence: Sequence, gates: ir.Value, backwards: bool, open_gates: dict[int, float]
) -> tuple[ir.Value, bool]:
    """(gate inputs, whether to run from the end) so that a state stays as it is once its sequence has ended.

    `open_gates` says which gates get which infinity there: sigmoid makes exactly 0 or 1 of it. A sequence that
    is read from the end is turned around instead, because it ends at another step for each batch entry.
    """
    if sequence.lengths is None:
        return gates, backwards
    lengths, hidden = sequence.lengths.value, sequence.hidden

    def body() -> Scalar:
        step, entry, place = (build.index(axis) for axis in range(3))
        length = build.element_at(lengths, [entry]).cast("i64")
        source = (length - 1 - step).maximum(0) if backwards else step
        value = build.element_at(gates, [source, entry, place])
        ended = Scalar.constant(0.0, sequence.dtype)
        for number, infinity in open_gates.items():
            inside = place.ge(number * hidden) & place.lt((number + 1) * hidden)
            ended = inside.select(Scalar.constant(infinity, sequence.dtype), ended)
        return step.lt(length).select(value, ended)

    return node.map([], body, shape=build.shape_of(gates)), False


def restored(node: Node, sequence: Sequence, outputs: ir.Value, backwards: bool) -> ir.Value:
    """All outputs in the order of the input, zero where a sequence has ended."""
    if sequence.lengths is None:
        return outputs
    lengths = sequence.lengths.value

    def body() -> Scalar:
        step, entry, place = (build.index(axis) for axis in range(3))
        length = build.element_at(lengths, [entry]).cast("i64")
        source = (length - 1 - step).maximum(0) if backwards else step
        return step.lt(length).select(build.element_at(outputs, [source, entry, place]), 0.0)

    return node.map([], body, shape=build.shape_of(outputs))


def last_output(node: Node, sequence: Sequence, outputs: ir.Value, last: ir.Value) -> ir.Value:
    """The output of each entry's last step, in the order in which they were computed."""
    if sequence.lengths is None:
        return last
    lengths = sequence.lengths.value

    def body() -> Scalar:
        entry, place = build.index(0), build.index(1)
        step = (build.element_at(lengths, [entry]).cast("i64") - 1).maximum(0)
        return build.element_at(outputs, [step, entry, place])

    return node.map([], body, shape=build.shape_of(last))


def direction_of(node: Node, tensor: Tensor, direction: int) -> Tensor:
    """[D, ...] -> the part of one direction, without that dimension; constants stay constants."""
    if tensor.is_constant:
        whole = tensor
        return Tensor(
            node.importer.materialiser,
            tensor.dtype,
            tensor.shape[1:],
            name=tensor.name,
            loader=lambda: whole.array()[direction],
        )
    starts = [Expression.constant(direction), *[ZERO] * (tensor.rank - 1)]
    return node.reshaped(build.slice(tensor.value, starts, [ONE, *tensor.shape[1:]]), tensor.shape[1:])


def part(node: Node, tensor: Tensor, start: int, length: int) -> Tensor:
    """Elements of a vector."""
    if tensor.is_constant:
        whole = tensor
        return Tensor(
            node.importer.materialiser,
            tensor.dtype,
            (Expression.constant(length),),
            name=tensor.name,
            loader=lambda: whole.array()[start : start + length],
        )
    return node.tensor(build.slice(tensor.value, [start], [length]))


def state(node: Node, position: int, sequence: Sequence, direction: int) -> ir.Value:
    """An initial state [N, H]; zeros when it is left out."""
    if not node.has(position):
        return build.splat(0.0, [sequence.batch, sequence.hidden], sequence.dtype)
    given = node.input(position)
    value = given.value if not node.get("layout", 0) else build.transpose(given.value, [1, 0, 2])
    return direction_of(node, node.tensor(value) if node.get("layout", 0) else given, direction).value


def projection(node: Node, sequence: Sequence, weight: Tensor, bias: Tensor | None) -> ir.Value:
    """X * W^T + bias for all steps at once: [T, N, gates * H]."""
    shape = build.shape_of(sequence.value)
    flat = build.reshape(sequence.value, [shape[0] * shape[1], shape[2]])
    value = build.matmul(flat, weight.value, transpose_right=True, unify=node.unify)
    if bias is not None:
        value = node.map([value, bias], lambda x, b: x + b)
    return build.reshape(value, [shape[0], shape[1], weight.shape[0]])


def both_biases(node: Node, direction: int, length: int) -> tuple[Tensor | None, Tensor | None]:
    """(bias of W, bias of R), `length` elements each."""
    if not node.has(3):
        return None, None
    whole = direction_of(node, node.input(3), direction)
    return part(node, whole, 0, length), part(node, whole, length, length)


def stack(node: Node, sequence: Sequence, values: list[ir.Value], steps: bool) -> ir.Value:
    """Outputs of the directions as [T, D, N, H] or [D, N, H] (batch first when `layout` says so)."""
    sizes: list[Expression | int] = [sequence.batch, sequence.hidden]
    if not steps:
        joined = build.concatenate([build.reshape(value, [1, *sizes]) for value in values], 0)
        return build.transpose(joined, [1, 0, 2]) if node.get("layout", 0) else joined
    parts = [build.reshape(value, [sequence.steps, 1, *sizes]) for value in values]
    joined = build.concatenate(parts, 1)
    return build.transpose(joined, [2, 0, 1, 3]) if node.get("layout", 0) else joined


@onnx_operator("LSTM")
def lstm(node: Node) -> list[ir.Value]:
    """Gates in ONNX's order i, o, f, c."""
    sequence = sequence_of(node)
    run = _lstm_direction if is_plain(node, sequence) else lambda n, s, d: unrolled(n, s, d, 2)
    outputs = [run(node, sequence, direction) for direction in range(sequence.directions)]
    return [stack(node, sequence, [item[number] for item in outputs], number == 0) for number in range(3)]


def _lstm_direction(node: Node, sequence: Sequence, direction: int) -> list[ir.Value]:
    weight = direction_of(node, node.input(1), direction)
    recurrence = direction_of(node, node.input(2), direction)
    gates = projection(node, sequence, weight, lstm_bias(node, sequence, direction))
    return run_lstm(node, sequence, direction, gates, recurrence.value)


def lstm_bias(node: Node, sequence: Sequence, direction: int) -> Tensor | None:
    """The sum of both biases: nothing stands between them."""
    first, second = both_biases(node, direction, 4 * sequence.hidden)
    if first is None or second is None:
        return None
    return node.tensor(node.map([first, second], lambda x, y: x + y))


def run_lstm(node: Node, sequence: Sequence, direction: int, gates: ir.Value, recurrence: ir.Value) -> list[ir.Value]:
    """All outputs, the last output and the last cell, from the input's part of the gates [T, N, 4H] and the
    recurrence weights [4H, H].
    """
    hidden, cell = state(node, 5, sequence, direction), state(node, 6, sequence, direction)
    if node.has(7):
        peepholes = direction_of(node, node.input(7), direction).value
    else:
        peepholes = build.splat(0.0, [3 * sequence.hidden], sequence.dtype)
    backwards = sequence.reversed(direction, node)
    # Input gate shut, forget gate open: the cell stays, and the last output is looked up.
    gates, from_end = shortened(node, sequence, gates, backwards, {0: -math.inf, 2: math.inf})
    outputs, last, last_cell = build.lstm(gates, recurrence, hidden, cell, peepholes, from_end)
    last = last_output(node, sequence, outputs, last)
    return [restored(node, sequence, outputs, backwards), last, last_cell]


@onnx_operator("GRU")
def gru(node: Node) -> list[ir.Value]:
    """Gates in ONNX's order z, r, h; the recurrent bias stays apart because of `linear_before_reset`."""
    sequence = sequence_of(node)
    run = _gru_direction if is_plain(node, sequence) else lambda n, s, d: unrolled(n, s, d, 1)
    outputs = [run(node, sequence, direction) for direction in range(sequence.directions)]
    return [stack(node, sequence, [item[number] for item in outputs], number == 0) for number in range(2)]


def _gru_direction(node: Node, sequence: Sequence, direction: int) -> list[ir.Value]:
    weight = direction_of(node, node.input(1), direction)
    recurrence = direction_of(node, node.input(2), direction)
    first, second = both_biases(node, direction, 3 * sequence.hidden)
    gates = projection(node, sequence, weight, first)
    zeros = build.splat(0.0, [3 * sequence.hidden], sequence.dtype) if second is None else second.value
    hidden = state(node, 5, sequence, direction)
    backwards = sequence.reversed(direction, node)
    gates, from_end = shortened(node, sequence, gates, backwards, {0: math.inf})  # z = 1 keeps the state
    early = bool(node.get("linear_before_reset", 0))
    outputs, last = build.gru(gates, recurrence.value, zeros, hidden, from_end, early)
    return [restored(node, sequence, outputs, backwards), last]


@onnx_operator("RNN")
def rnn(node: Node) -> list[ir.Value]:
    """Always step by step."""
    sequence = sequence_of(node)
    outputs = [unrolled(node, sequence, direction, 1) for direction in range(sequence.directions)]
    return [stack(node, sequence, [item[number] for item in outputs], number == 0) for number in range(2)]
