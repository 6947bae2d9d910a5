"""Control flow.

In: a condition and branches. Out: the branch itself when the condition is known while importing, else
`scf.if` on the condition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx
from mlir import ir
from mlir.dialects import scf, tensor

from ....dialects import graph_builder as build
from ....runtime.symbolic import Expression
from ..element_arithmetic import assumed_gap
from ..errors import Unsupported
from ..held import State, opened
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Tensor, TensorSequence

EQUAL = "equal types, or a condition that is known: fixing dimensions with --shape may decide it"
KINDS = ("sequence", "optional")
DIFFERENT = "If whose branches give different dtypes or ranks"


@dataclass
class Branch:
    """An imported branch: its block, outputs, the symbols found inside, and what must hold where it is taken."""

    block: ir.Block
    results: list[Tensor | None]
    found: set[str]
    pairs: list[tuple[Expression, Expression]]

    @property
    def outputs(self) -> list[Tensor]:
        return [result for result in self.results if result is not None]


@onnx_operator("If", host=True)
def conditional(node: Node) -> Sequence[Tensor | ir.Value | None]:
    graphs: list[onnx.GraphProto] = [node.get("then_branch"), node.get("else_branch")]
    known = node.input(0).known()
    truth = known.ravel()[0] if known is not None and known.size == 1 else None
    if truth is not None and truth.as_constant() is not None:
        return _run(node, graphs[0 if truth.as_constant() else 1])
    condition = tensor.ExtractOp(node.reshaped(node.input(0), []).value, []).result
    holder = ir.Operation.create("scf.if", regions=2, ip=False)
    branches = [_import(node, graph, region) for graph, region in zip(graphs, holder.regions, strict=True)]
    for branch in branches:
        if None in branch.results:
            return branch.results
    if truth is not None and any(a.rank != b.rank for a, b in zip(*(b.outputs for b in branches), strict=True)):
        return _assumed(node, truth, graphs)
    return _both(node, condition, branches)


def _import(node: Node, graph: onnx.GraphProto, region: ir.Region) -> Branch:
    """Import a branch into a region. What it assumes of sizes counts only where it is taken."""
    constraints = node.importer.constraints
    before, count = set(constraints.found), len(constraints.pairs)
    block = region.blocks.append()
    with ir.InsertionPoint(block):
        results = _run(node, graph)
        for result in results:
            for tensor in result.elements if isinstance(result, TensorSequence) else [result]:
                if tensor is not None and tensor.dtype not in KINDS:
                    _ = tensor.value  # made here, where everything that it reads is visible
    return Branch(block, results, constraints.found - before, constraints.take(count))


def _assumed(node: Node, truth: Expression, graphs: list[onnx.GraphProto]) -> Sequence[Tensor | ir.Value | None]:
    """Branches of different ranks, as exporters write `squeeze`: every later operator has one rank only, so the branch
    that needs two sizes to be equal is taken, and each run checks that they are.
    """
    for value, graph in zip((True, False), graphs, strict=True):
        gap = assumed_gap(truth, value)
        if gap is not None:
            constant = dict(gap.terms).get((), 0)
            sides = gap - constant, Expression.constant(-constant)
            node.unify(*(sides if constant <= 0 else (-side for side in sides)))
            return _run(node, graph)
    raise Unsupported(DIFFERENT, EQUAL, node.input(0).sources)


def _both(node: Node, condition: ir.Value, branches: list[Branch]) -> list[Tensor | ir.Value | None]:
    """`scf.if` with both branches. What they give in sizes of their own is held by the host in between."""
    inside = branches[0].found | branches[1].found
    pairs = zip(*(branch.outputs for branch in branches), strict=True)
    states = [_state(node, *pair).without(inside) for pair in pairs]
    for branch in branches:
        with ir.InsertionPoint(branch.block):
            outputs = zip(states, branch.outputs, strict=True)
            scf.YieldOp([state.given(output, node) for state, output in outputs])
        _check(node, branch)
    types = [value.type for value in list(branches[0].block.operations)[-1].operands]
    operation = ir.Operation.create("scf.if", results=types, operands=[condition], regions=2)
    for region, branch in zip(operation.regions, branches, strict=True):
        branch.block.append_to(region)
    return [*opened(node, states, list(operation.results))]


def _state(node: Node, first: Tensor, second: Tensor) -> State:
    """What holds for the outputs of both branches. Raises Unsupported."""
    try:
        return State.of(first).joined(first, node).joined(second, node)
    except Unsupported:
        raise Unsupported(DIFFERENT, EQUAL, node.input(0).sources) from None


def _check(node: Node, branch: Branch) -> None:
    """Compare the sizes that the branch needs to be equal, before anything else there or where they are found."""
    for pair in branch.pairs:
        late = (pair[0].symbols | pair[1].symbols) & branch.found
        start = ir.InsertionPoint.at_block_begin(branch.block)
        with node.importer.materialiser.point(late) if late else start:
            build.host("equal_sizes", [], 0, {"pair": [str(size) for size in pair]}, pair)


def _run(node: Node, graph: onnx.GraphProto) -> list[Tensor | None]:
    return node.importer.run_subgraph(graph, node.scope)

