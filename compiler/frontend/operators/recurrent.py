"""LSTM, GRU and plain RNN.

In: a sequence [T, N, I] and weights of one or two directions. Out: one matmul for all steps' input
projection and a recurrent operation a direction. Optional initial states are zeros; per-batch sequence
lengths are not supported unless they are all T.
"""

from __future__ import annotations

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

DEFAULT_ACTIVATIONS = {
    "LSTM": ["sigmoid", "tanh", "tanh"],
    "GRU": ["sigmoid", "tanh"],
    "RNN": ["tanh"],
}
UNROLLED_STEPS = 256  # a plain RNN is unrolled: its number of steps must be static


@dataclass
class Sequence:
    """The input as [T, N, I] with the weights' hidden size."""

    value: ir.Value
    steps: Expression
    batch: Expression
    hidden: int
    directions: int
    dtype: str

    def reversed(self, direction: int, node: Node) -> bool:
        """Does this direction run from the end?"""
        return direction == 1 or node.get("direction", "forward") == "reverse"


def sequence_of(node: Node) -> Sequence:
    """The checked input. Raises Unsupported for what the recurrent operations cannot express."""
    x, weight, recurrence = node.input(0), node.input(1), node.input(2)
    direction = node.get("direction", "forward")
    directions = 2 if direction == "bidirectional" else 1
    wanted = DEFAULT_ACTIVATIONS[node.operator] * directions
    given = [name.lower() for name in node.get("activations") or wanted]
    if given != wanted and not (node.operator == "RNN" and set(given) <= {"tanh", "relu", "sigmoid"}):
        raise Unsupported(f"{node.operator} with activations {given}", ", ".join(wanted))
    for name in ("clip", "input_forget"):
        if node.get(name):
            raise Unsupported(f"{node.operator} with {name}", "the default")
    hidden = recurrence.shape[-1].as_constant() if recurrence.rank else None
    if x.rank != 3 or weight.rank != 3 or recurrence.rank != 3:
        raise ModelError(f"{node.operator} needs X, W and R of rank 3")
    if hidden is None:
        raise Unsupported(f"{node.operator} with weights of dynamic size", "static weights")
    value = x.value if not node.get("layout", 0) else build.transpose(x.value, [1, 0, 2])
    steps, batch, _ = build.shape_of(value)
    lengths = node.optional(4)
    if lengths is not None:
        known = lengths.known()
        if known is None or any(item != steps for item in known.ravel()):
            supported = "all sequences as long as the input"
            raise Unsupported(f"{node.operator} with sequence_lens", supported, node.input(4).sources)
    return Sequence(value, steps, batch, hidden, directions, x.dtype)


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
    outputs: list[tuple[ir.Value, ir.Value, ir.Value]] = []
    for direction in range(sequence.directions):
        weight = direction_of(node, node.input(1), direction)
        recurrence = direction_of(node, node.input(2), direction)
        first, second = both_biases(node, direction, 4 * sequence.hidden)
        bias = None
        if first is not None and second is not None:
            bias = node.tensor(node.map([first, second], lambda x, y: x + y))
        gates = projection(node, sequence, weight, bias)
        hidden, cell = state(node, 5, sequence, direction), state(node, 6, sequence, direction)
        if node.has(7):
            peepholes = direction_of(node, node.input(7), direction).value
        else:
            peepholes = build.splat(0.0, [3 * sequence.hidden], sequence.dtype)
        backwards = sequence.reversed(direction, node)
        outputs.append(build.lstm(gates, recurrence.value, hidden, cell, peepholes, backwards))
    return [stack(node, sequence, [item[number] for item in outputs], number == 0) for number in range(3)]


@onnx_operator("GRU")
def gru(node: Node) -> list[ir.Value]:
    """Gates in ONNX's order z, r, h; the recurrent bias stays apart because of `linear_before_reset`."""
    sequence = sequence_of(node)
    outputs: list[tuple[ir.Value, ir.Value]] = []
    for direction in range(sequence.directions):
        weight = direction_of(node, node.input(1), direction)
        recurrence = direction_of(node, node.input(2), direction)
        first, second = both_biases(node, direction, 3 * sequence.hidden)
        gates = projection(node, sequence, weight, first)
        zeros = build.splat(0.0, [3 * sequence.hidden], sequence.dtype) if second is None else second.value
        hidden = state(node, 5, sequence, direction)
        flags = sequence.reversed(direction, node), bool(node.get("linear_before_reset", 0))
        outputs.append(build.gru(gates, recurrence.value, zeros, hidden, *flags))
    return [stack(node, sequence, [item[number] for item in outputs], number == 0) for number in range(2)]


@onnx_operator("RNN")
def rnn(node: Node) -> list[ir.Value]:
    """Unrolled: one matmul and one map a step."""
    sequence = sequence_of(node)
    steps = sequence.steps.as_constant()
    if steps is None or steps > UNROLLED_STEPS:
        raise Unsupported(f"RNN of {sequence.steps} steps", f"a static number of steps up to {UNROLLED_STEPS}")
    names = [name.lower() for name in node.get("activations") or ["tanh"] * sequence.directions]
    outputs: list[tuple[ir.Value, ir.Value]] = []
    for direction in range(sequence.directions):
        weight = direction_of(node, node.input(1), direction)
        recurrence = direction_of(node, node.input(2), direction)
        first, second = both_biases(node, direction, sequence.hidden)
        bias = None
        if first is not None and second is not None:
            bias = node.tensor(node.map([first, second], lambda x, y: x + y))
        gates = projection(node, sequence, weight, bias)
        hidden = state(node, 5, sequence, direction)
        order = range(steps - 1, -1, -1) if sequence.reversed(direction, node) else range(steps)
        kept: dict[int, ir.Value] = {}
        for step in order:
            hidden = _step(node, sequence, gates, recurrence.value, hidden, step, names[direction])
            kept[step] = build.reshape(hidden, [1, sequence.batch, sequence.hidden])
        outputs.append((build.concatenate([kept[step] for step in range(steps)], 0), hidden))
    return [stack(node, sequence, [item[number] for item in outputs], number == 0) for number in range(2)]


def _step(
    node: Node, sequence: Sequence, gates: ir.Value, recurrence: ir.Value, hidden: ir.Value, step: int, name: str
) -> ir.Value:
    state_shape: list[Expression | int] = [sequence.batch, sequence.hidden]
    current = build.reshape(build.slice(gates, [step, 0, 0], [1, *state_shape]), state_shape)
    carried = build.matmul(hidden, recurrence, transpose_right=True)
    activations = {"tanh": Scalar.tanh, "relu": lambda x: x.maximum(0.0), "sigmoid": Scalar.sigmoid}
    return node.map([current, carried], lambda x, h: activations[name](x + h))
