"""Control flow.

In: a condition and branches. Out: the branch itself when the condition is known while importing, else
`scf.if` on the condition.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from mlir import ir
from mlir.dialects import scf, tensor

from ....dialects import graph_builder as build
from ....dialects.tensors import element_of, shape_of
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Tensor

EQUAL = "equal types, or a condition that is known: fixing dimensions with --shape may decide it"


@onnx_operator("If", host=True)
def conditional(node: Node) -> Sequence[Tensor | ir.Value | None]:
    branches: list[onnx.GraphProto] = [node.get("then_branch"), node.get("else_branch")]
    known = node.input(0).known()
    decided = known.ravel()[0].as_constant() if known is not None and known.size == 1 else None
    if decided is not None:
        return _run(node, branches[0 if decided else 1])
    condition = tensor.ExtractOp(node.reshaped(node.input(0), []).value, []).result
    blocks, outputs = [], []
    before = set(node.importer.constraints.found)
    kinds: list[str] = []  # of the results that stay on the host
    holder = ir.Operation.create("scf.if", regions=2, ip=False)
    for region, graph in zip(holder.regions, branches, strict=True):
        block = region.blocks.append()
        with ir.InsertionPoint(block):
            results = _run(node, graph)
            if any(result is None for result in results):
                return results
            outputs.append([result.value for result in results if result is not None])
            kinds = [result.dtype if result.is_on_host else "" for result in results if result is not None]
        blocks.append(block)
    types = _agree(node, blocks, outputs)
    inside = node.importer.constraints.found - before
    if any(
        size.symbols & inside
        for values in outputs
        for value in values
        if value.type != build.object_type()
        for size in shape_of(value)
    ):
        what = "If whose branches give tensors of sizes that depend on data"
        raise Unsupported(what, "sizes known before the If", node.sources)
    for block, values in zip(blocks, outputs, strict=True):
        with ir.InsertionPoint(block):
            scf.YieldOp(values)
    operation = ir.Operation.create("scf.if", results=types, operands=[condition], regions=2)
    for region, block in zip(operation.regions, blocks, strict=True):
        block.append_to(region)
    return [
        node.on_host(value, kinds[number]) if kinds[number] else value for number, value in enumerate(operation.results)
    ]


def _run(node: Node, graph: onnx.GraphProto) -> list[Tensor | None]:
    return node.importer.run_subgraph(graph, node.scope)


def _agree(node: Node, blocks: list[ir.Block], outputs: list[list[ir.Value]]) -> list[ir.Type]:
    """Make both branches' outputs of the same types: equal sizes may be spelled differently."""
    types = []
    for number, (first, second) in enumerate(zip(*outputs, strict=True)):
        if first.type == second.type == build.object_type():
            types.append(first.type)
            continue
        if build.object_type() in (first.type, second.type):
            what = "If whose branches give a tensor and a value on the host"
            raise Unsupported(what, "equal types", node.input(0).sources)
        one, two = shape_of(first), shape_of(second)
        if element_of(first) != element_of(second) or len(one) != len(two):
            raise Unsupported("If whose branches give different dtypes or ranks", EQUAL, node.input(0).sources)
        if any((a - b).as_constant() not in (None, 0) for a, b in zip(one, two, strict=True)):
            raise Unsupported("If whose branches give different sizes", EQUAL, node.input(0).sources)
        shape = [node.unify(a, b) for a, b in zip(one, two, strict=True)]
        for block, values in zip(blocks, outputs, strict=True):
            with ir.InsertionPoint(block):
                values[number] = build.reshape(values[number], shape)
        types.append(outputs[0][number].type)
    return types
