"""Recurrent networks step by step, for what the recurrent kernels do not compute.

In: gate inputs [T, N, gates * H] of a static number of steps, weights, states, activations. Out: states of every
step: one matrix product and one map a step. All activations, clipping, coupled gates and lengths are possible.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.symbolic import Expression
from ..errors import Unsupported
from ..node import Node

Function = Callable[[Scalar], Scalar]
DEFAULTS: dict[str, tuple[float | None, float | None]] = {  # alpha and beta, None where there is no such parameter
    "affine": (1.0, 0.0),
    "elu": (1.0, None),
    "hardsigmoid": (0.2, 0.5),
    "leakyrelu": (0.01, None),
    "relu": (None, None),
    "scaledtanh": (1.0, 1.0),
    "sigmoid": (None, None),
    "softplus": (None, None),
    "softsign": (None, None),
    "tanh": (None, None),
    "thresholdedrelu": (1.0, None),
}


def _function(name: str, alpha: float, beta: float) -> Function:
    table: dict[str, Function] = {
        "affine": lambda x: x * alpha + beta,
        "elu": lambda x: x.lt(0.0).select((x.minimum(0.0).exp() - 1.0) * alpha, x),
        "hardsigmoid": lambda x: (x * alpha + beta).clip(0.0, 1.0),
        "leakyrelu": lambda x: x.lt(0.0).select(x * alpha, x),
        "relu": lambda x: x.maximum(0.0),
        "scaledtanh": lambda x: (x * beta).tanh() * alpha,
        "sigmoid": Scalar.sigmoid,
        "softplus": Scalar.softplus,
        "softsign": lambda x: x / (1.0 + x.abs()),
        "tanh": Scalar.tanh,
        "thresholdedrelu": lambda x: x.gt(alpha).select(x, 0.0),
    }
    return table[name]


def activations_of(node: Node, default: Sequence[str], directions: int) -> list[list[Function]]:
    """The functions of each direction. `activation_alpha` and `activation_beta` serve, in order, those that have
    such a parameter.
    """
    names = [str(name).lower() for name in node.get("activations") or [*default] * directions]
    if len(names) != len(default) * directions or any(name not in DEFAULTS for name in names):
        raise Unsupported(f"{node.operator} with activations {names}", ", ".join(DEFAULTS))
    given = [list(node.get(f"activation_{key}") or []) for key in ("alpha", "beta")]
    functions = []
    for name in names:
        parameters = [
            0.0 if value is None else float(queue.pop(0)) if queue else value
            for value, queue in zip(DEFAULTS[name], given, strict=True)
        ]
        functions.append(_function(name, *parameters))
    size = len(default)
    return [functions[start : start + size] for start in range(0, len(functions), size)]


@dataclass
class Steps:
    """One direction: gate inputs with the biases of W, the recurrence [gates * H, H], the bias of R or None.

    `lengths` [N] are the steps of each batch entry; beyond them its state stays.
    """

    node: Node
    gates: ir.Value
    recurrence: ir.Value
    bias: ir.Value | None
    batch: Expression
    hidden: int
    backwards: bool
    lengths: ir.Value | None
    functions: list[Function]

    def gate(self, step: int, number: int) -> ir.Value:
        """The input of one gate at one step, [N, H]."""
        sizes: list[Expression | int] = [self.batch, self.hidden]
        piece = build.slice(self.gates, [step, 0, number * self.hidden], [1, *sizes])
        return build.reshape(piece, sizes)

    def carried(self, state: ir.Value, number: int) -> ir.Value:
        """state x R' of one gate, without its bias."""
        weight = build.slice(self.recurrence, [number * self.hidden, 0], [self.hidden, self.hidden])
        return build.matmul(state, weight, transpose_right=True)

    def own_bias(self, number: int) -> list[ir.Value]:
        """The bias of R of one gate; nothing when there is none."""
        return [] if self.bias is None else [build.slice(self.bias, [number * self.hidden], [self.hidden])]

    def clipped(self, x: Scalar) -> Scalar:
        """The input of an activation within the attribute `clip`."""
        limit = float(self.node.get("clip") or 0.0)
        return x.clip(-limit, limit) if limit else x

    def kept(self, step: int, new: ir.Value, old: ir.Value) -> ir.Value:
        """The new state, or the old one where the sequence has ended."""
        if self.lengths is None:
            return new
        lengths = build.reshape(self.lengths, [self.batch, 1])
        return self.node.map([new, old, lengths], lambda n, o, length: length.cast("i64").gt(step).select(n, o))

    def emitted(self, step: int, state: ir.Value) -> ir.Value:
        """What the step gives out, [1, N, H]: the state, zero where the sequence has ended."""
        value = self.kept(step, state, build.splat(0.0, build.shape_of(state), build.element_of(state)))
        return build.reshape(value, [1, self.batch, self.hidden])


Advance = Callable[[int, list[ir.Value]], list[ir.Value]]  # (step, states) -> states; the first one is the output


def run_steps(steps: Steps, count: int, states: list[ir.Value], advance: Advance) -> list[ir.Value]:
    """[all outputs [T, N, H], the last states...]"""
    outputs: dict[int, ir.Value] = {}
    for step in reversed(range(count)) if steps.backwards else range(count):
        fresh = advance(step, states)
        outputs[step] = steps.emitted(step, fresh[0])
        states = [steps.kept(step, new, old) for new, old in zip(fresh, states, strict=True)]
    return [build.concatenate([outputs[step] for step in range(count)], 0), *states]


def rnn_step(steps: Steps) -> Advance:
    """f(x + h x R' + bias)"""

    def advance(step: int, states: list[ir.Value]) -> list[ir.Value]:
        parts = [steps.gate(step, 0), steps.carried(states[0], 0), *steps.own_bias(0)]
        return [steps.node.map(parts, lambda *terms: steps.functions[0](steps.clipped(_sum(terms))))]

    return advance


def gru_step(steps: Steps) -> Advance:
    """Gates z, r, h."""
    early = bool(steps.node.get("linear_before_reset", 0))

    def advance(step: int, states: list[ir.Value]) -> list[ir.Value]:
        (state,) = states
        update, reset = (
            steps.node.map(
                [steps.gate(step, number), steps.carried(state, number), *steps.own_bias(number)],
                lambda *terms: steps.functions[0](steps.clipped(_sum(terms))),
            )
            for number in (0, 1)
        )
        if early:
            inner = steps.node.map([steps.carried(state, 2), *steps.own_bias(2)], lambda *terms: _sum(terms))
            parts = [steps.gate(step, 2), steps.node.map([inner, reset], lambda x, r: x * r)]
        else:
            kept = steps.node.map([state, reset], lambda h, r: h * r)
            parts = [steps.gate(step, 2), steps.carried(kept, 2), *steps.own_bias(2)]
        candidate = steps.node.map(parts, lambda *terms: steps.functions[1](steps.clipped(_sum(terms))))
        return [steps.node.map([update, candidate, state], lambda z, g, h: (1.0 - z) * g + z * h)]

    return advance


def lstm_step(steps: Steps, peepholes: ir.Value | None) -> Advance:
    """Gates i, o, f, c and peepholes i, o, f; the output gate sees the new cell. States are h, then c."""
    coupled = bool(steps.node.get("input_forget", 0))
    first, second, third = steps.functions

    def gate(step: int, states: list[ir.Value], number: int, cell: ir.Value | None, function: Function) -> ir.Value:
        parts = [steps.gate(step, number), steps.carried(states[0], number), *steps.own_bias(number)]
        if cell is not None and peepholes is not None:
            piece = build.slice(peepholes, [number * steps.hidden], [steps.hidden])
            parts.append(steps.node.map([cell, piece], lambda c, p: c * p))
        return steps.node.map(parts, lambda *terms: function(steps.clipped(_sum(terms))))

    def advance(step: int, states: list[ir.Value]) -> list[ir.Value]:
        cell = states[1]
        given = gate(step, states, 0, cell, first)
        forget = steps.node.map([given], lambda i: 1.0 - i) if coupled else gate(step, states, 2, cell, first)
        candidate = gate(step, states, 3, None, second)
        new = steps.node.map([forget, cell, given, candidate], lambda f, c, i, g: f * c + i * g)
        output = gate(step, states, 1, new, first)
        return [steps.node.map([output, new], lambda o, c: o * third(c)), new]

    return advance


def _sum(terms: Sequence[Scalar]) -> Scalar:
    result = terms[0]
    for term in terms[1:]:
        result = result + term
    return result
