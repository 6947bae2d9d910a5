"""A loop of the program: what Loop and Scan become where the number of turns is known in a run only.

In: a body, what is carried from turn to turn, what ends the loop. Out: one `scf.while`. Values that each turn gives are
collected in a tensor with room for the most turns, of which as many rows are taken as there were turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from mlir import ir
from mlir.dialects import scf
from mlir.dialects import tensor as tensor_dialect

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....dialects.tensors import tensor_type
from ....runtime.symbolic import ZERO, Expression
from ..errors import Unsupported
from ..node import Node
from ..tensor import Tensor

MOST_ITERATIONS = 512  # that are written down one after the other
KNOWN = f"a known number of iterations up to {MOST_ITERATIONS}"
Inputs = Callable[[Tensor, Tensor, list[Tensor]], list[Tensor]]


@dataclass(frozen=True)
class Repetition:
    """`inputs` makes the body's inputs of the turn's number, whether it runs, and what is carried. The loop lasts while
    the number is below `limit`, and with `conditional` while the body's first output is true, at first `start`.
    `room` is the most turns, where the body gives more than it carries.
    """

    node: Node
    body: onnx.GraphProto
    carried: list[Tensor]
    limit: Tensor | None
    start: Tensor | None
    conditional: bool
    room: Expression | None
    inputs: Inputs

    def run(self) -> list[Tensor | ir.Value | None]:
        """What is carried in the end, then what was collected; None for each output when the body is unsupported."""
        node, body = self.node, self.body
        if any(tensor.is_on_host for tensor in self.carried):
            raise Unsupported("Loop over sequences with an unknown or large number of iterations", KNOWN, node.sources)
        first = node.literal(np.array(0, np.int64), "i64")
        start = [self.start] if self.start is not None else []
        going = node.map([first, *start, *self._limits], lambda n, *rest: _goes_on(n, rest, bool(start)))
        values = [first.value, going, *[tensor.value for tensor in self.carried]]
        holder = ir.Operation.create("scf.while", regions=2, ip=False)
        before, after = (region.blocks.append(*[value.type for value in values]) for region in holder.regions)
        found = set(node.importer.constraints.found)
        with ir.InsertionPoint(after):
            number, truth, *states = (node.tensor(argument) for argument in after.arguments)
            results = node.importer.run_subgraph(body, node.scope, self.inputs(number, truth, states))
            done = [result for result in results if result is not None]
            if len(done) != len(results):
                return [None] * len(node.outputs)
            condition = [node.reshaped(done.pop(0), [])] if self.conditional else []
            collected = done[len(states) :]
            self._check(collected, node.importer.constraints.found - found)
            following = node.map([number], lambda n: n + 1)
            again = node.map(
                [following, *condition, *self._limits], lambda n, *rest: _goes_on(n, rest, self.conditional)
            )
            kept = [self._same_type(*pair) for pair in zip(done[: len(states)], self.carried, strict=True)]
            rows = [self._with_row(after, number, value) for value in collected]
            scf.YieldOp([following, again, *kept, *rows])
        values += [build.splat(0, self._rows_of(value), value.dtype) for value in collected]
        for value in collected:
            before.add_argument(tensor_type(self._rows_of(value), value.dtype), ir.Location.unknown())
        with ir.InsertionPoint(before):
            scf.ConditionOp(tensor_dialect.ExtractOp(before.arguments[1], []).result, list(before.arguments))
        loop = ir.Operation.create("scf.while", results=[value.type for value in values], operands=values, regions=2)
        for region, block in zip(loop.regions, (before, after), strict=True):
            block.append_to(region)
        turns, _, *outputs = loop.results
        states_end = len(self.carried)
        return [*outputs[:states_end], *self._taken(turns, outputs[states_end:], condition)]

    @property
    def _limits(self) -> list[Tensor]:
        return [self.limit] if self.limit is not None else []

    def _rows_of(self, value: Tensor) -> Sequence[Expression]:
        assert self.room is not None
        return [self.room, *value.shape]

    def _check(self, collected: Sequence[Tensor], inside: set[str]) -> None:
        for value in collected:
            if value.is_on_host or any(size.symbols & inside for size in value.shape):
                what = f"{self.node.operator} that collects values of sizes that are found in its turns"
                raise Unsupported(what, KNOWN, self.node.sources)

    def _with_row(self, block: ir.Block, number: Tensor, value: Tensor) -> ir.Value:
        """The collected tensor, one more argument of the block, with this turn's row."""
        shape = self._rows_of(value)
        rows = block.add_argument(tensor_type(shape, value.dtype), ir.Location.unknown())
        row = self.node.reshaped(value, [1, *value.shape])

        def body(old: Scalar, new: Scalar, turn: Scalar) -> Scalar:
            return turn.eq(build.index(0)).select(new, old)

        return self.node.map([rows, row, number], body, shape=list(shape))

    def _taken(self, turns: ir.Value, collected: Sequence[ir.Value], condition: Sequence[Tensor]) -> list[ir.Value]:
        """As many rows as there were turns: all, unless a condition may have ended the loop before."""
        known = condition[0].known() if condition else None
        if not collected or not condition or (known is not None and known.ravel()[0].as_constant() == 1):
            return list(collected)
        count = build.reshape(turns, [1])
        options = {"operator": self.node.operator}
        length = self.node.found("sizes", [self.node.tensor(count)], 1, options=options)[0]
        taken = []
        for rows in collected:
            shape = build.shape_of(rows)
            taken.append(build.slice(rows, [ZERO] * len(shape), [length, *shape[1:]]))
        return taken

    def _same_type(self, value: Tensor, carried: Tensor) -> ir.Value:
        """What the body gives for a carried value, in the type with which it came in."""
        differs = value.is_on_host or value.dtype != carried.dtype or value.rank != carried.rank
        pairs = [] if differs else list(zip(value.shape, carried.shape, strict=True))
        if differs or any((a - b).as_constant() not in (None, 0) for a, b in pairs):
            what = "Loop whose carried values change their types in an unknown or large number of iterations"
            raise Unsupported(what, f"types that stay, or {KNOWN}", self.node.sources)
        for one, two in pairs:
            self.node.unify(one, two)
        return build.reshape(value.value, carried.shape)


def _goes_on(number: Scalar, rest: Sequence[Scalar], conditional: bool) -> Scalar:
    """The condition, if there is one, and that the number is below the trip count, if there is one."""
    result = rest[0] if conditional else Scalar.constant(1, "i1")
    for trips in rest[1 if conditional else 0 :]:
        result = result & number.lt(trips.cast("i64"))
    return result
