"""A loop of the program: what Loop, Scan and SequenceMap become where the number of turns is known in a run only.

In: a body, what is carried from turn to turn, what ends the loop. Out: one `scf.while`. Values that each turn gives are
collected in a sequence that the host holds; their elements stay on the device, and are put together after the loop.
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
from ....runtime.symbolic import Expression
from ..held import HeldValue, State, content_of, held, opened
from ..node import Node
from ..tensor import Tensor
from .joining import joined_shape

MOST_ITERATIONS = 512  # that are written down one after the other
Inputs = Callable[[Tensor, Tensor, list[Tensor]], list[Tensor]]


@dataclass
class Turn:
    """A body as it was imported once: the operations of an `scf.while` that is not in the module yet."""

    before: ir.Block
    after: ir.Block
    results: list[Tensor]  # what is carried on
    collected: list[Tensor]
    condition: Tensor | None
    found: set[str]  # the sizes that it finds

    def types(self) -> list[ir.Type]:
        return [argument.type for argument in self.after.arguments]


@dataclass(frozen=True)
class Repetition:
    """`inputs` makes the body's inputs of the turn's number, whether it runs, and what is carried. The loop lasts while
    the number is below `limit`, and with `conditional` while the body's first output is true, at first `start`.
    What is collected stays a sequence with `sequences`.
    """

    node: Node
    body: onnx.GraphProto
    carried: list[Tensor]
    limit: Tensor | None
    start: Tensor | None
    conditional: bool
    inputs: Inputs
    sequences: bool = False

    def run(self) -> list[Tensor | ir.Value | None]:
        """What is carried in the end, then what was collected; None for each output when the body is unsupported.

        The body is imported as if what is carried kept its sizes, and then again with those left open that did not.
        """
        states = [State.of(tensor).joined(tensor, self.node) for tensor in self.carried]
        while True:
            undo = self.node.importer.trial()
            holder = ir.Operation.create("scf.while", regions=2, ip=False)
            turn = self._imported(holder, states)
            if turn is None:
                return [None] * len(self.node.outputs)
            pairs = zip(states, turn.results, strict=True)
            wider = [state.joined(result, self.node).without(turn.found) for state, result in pairs]
            if wider == states:
                return self._finished(turn, states)
            states = wider
            undo()

    def _imported(self, holder: ir.Operation, states: Sequence[State]) -> Turn | None:
        """The body, in blocks of `holder`, for values of these states."""
        node = self.node
        counter = tensor_type([], "i64"), tensor_type([], "i1")
        types = [*counter, *(self._type(*pair) for pair in zip(states, self.carried, strict=True))]
        before, after = (region.blocks.append(*types) for region in holder.regions)
        known = set(node.importer.constraints.found)
        with ir.InsertionPoint(after):
            number, truth, *values = after.arguments
            carried = opened(node, states, values)
            given = self.inputs(node.tensor(number), node.tensor(truth), carried)
            results = node.importer.run_subgraph(self.body, node.scope, given)
            done = [result for result in results if result is not None]
            if len(done) != len(results):
                return None
            condition = node.reshaped(done.pop(0), []) if self.conditional else None
        found = node.importer.constraints.found - known
        return Turn(before, after, done[: len(states)], done[len(states) :], condition, found)

    def _type(self, state: State, tensor: Tensor) -> ir.Type:
        return build.object_type() if state.is_held else tensor.value.type

    def _finished(self, turn: Turn, states: Sequence[State]) -> list[Tensor | ir.Value | None]:
        """The `scf.while` of a body whose results have the states that it was imported for."""
        node, carried = self.node, self.carried
        rows = [turn.after.add_argument(build.object_type(), ir.Location.unknown()) for _ in turn.collected]
        with ir.InsertionPoint(turn.after):
            number = node.tensor(turn.after.arguments[0])
            following = node.map([number], lambda n: n + 1)
            condition = [turn.condition] if turn.condition is not None else []
            again = self._goes_on(node.tensor(following), condition)
            kept = [state.given(result, node) for state, result in zip(states, turn.results, strict=True)]
            more = [self._added(values, row) for values, row in zip(rows, turn.collected, strict=True)]
            scf.YieldOp([following, again, *kept, *more])
        for _ in rows:
            turn.before.add_argument(build.object_type(), ir.Location.unknown())
        with ir.InsertionPoint(turn.before):
            truth = tensor_dialect.ExtractOp(turn.before.arguments[1], []).result
            scf.ConditionOp(truth, list(turn.before.arguments))
        first = node.literal(np.array(0, np.int64), "i64")
        going = self._goes_on(first, [self.start] if self.start is not None else [])
        given = [state.given(tensor, node) for state, tensor in zip(states, carried, strict=True)]
        nothing = [build.host("sequence", [], 1).results[0] for _ in rows]
        operands = [first.value, going, *given, *nothing]
        loop = ir.Operation.create("scf.while", results=turn.types(), operands=operands, regions=2)
        for region, block in zip(loop.regions, (turn.before, turn.after), strict=True):
            block.append_to(region)
        _, _, *values = loop.results
        ends = opened(node, states, values[: len(states)])
        lists = zip(values[len(states) :], turn.collected, strict=True)
        return [*ends, *(self._together(value, row, turn) for value, row in lists)]

    def _goes_on(self, number: Tensor, condition: Sequence[Tensor]) -> ir.Value:
        """The condition, if there is one, and that the number is below the trip count, if there is one."""
        limits = [self.limit] if self.limit is not None else []

        def body(turn: Scalar, *rest: Scalar) -> Scalar:
            result = rest[0] if condition else Scalar.constant(1, "i1")
            for trips in rest[len(condition) :]:
                result = result & turn.lt(trips.cast("i64"))
            return result

        return self.node.map([number, *condition, *limits], body)

    def _added(self, rows: ir.Value, row: Tensor) -> ir.Value:
        """The sequence with one more value at its end."""
        return build.host("sequence_insert", [rows, held(row)], 1, {"operator": self.node.operator}).results[0]

    def _together(self, rows: ir.Value, row: Tensor, turn: Turn) -> Tensor:
        """What was collected, along a new dimension in front: as many as there were turns."""
        node = self.node
        content = State("tensor", content_of(row, node)).without(turn.found).content
        sequence = HeldValue(node.importer.materialiser, "sequence", rows, content)
        if self.sequences:
            return sequence
        always = turn.condition is None or _is_true(turn.condition)
        shape = joined_shape(node, sequence, 0, stack=True, count=self._turns if always else None)
        return node.tensor(build.upload(rows, shape, row.dtype))

    @property
    def _turns(self) -> Expression | None:
        """The trip count, where it is known and at least 0, and nothing else can keep the loop from starting."""
        if self.limit is None or (self.start is not None and not _is_true(self.start)):
            return None
        known = self.limit.known()
        turns = known.ravel()[0] if known is not None else None
        return turns if isinstance(turns, Expression) and turns.is_nonnegative() else None


def _is_true(truth: Tensor) -> bool:
    known = truth.known()
    return known is not None and known.ravel()[0].as_constant() == 1
