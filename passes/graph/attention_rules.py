"""Recognition of attention: softmax(f(Q x K^T)) x V becomes one group of kind ``attention``.

In: a `Grouping`. Out: the same with every attention found owned by a group. The pattern is that of the decomposed
operators, so it does not matter which exporter wrote the softmax: maximum, exp of the difference, sum, quotient. It
exists because the scores are the largest tensors of a transformer and never need to reach memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlir import ir

from ...dialects.tensors import element_of
from .grouping import Group, Grouping, Node
from .rewriting import body_of, operations_of, producer, string

MAXIMUM_HEAD = 128  # columns of a head that an accumulator holds in registers
_QUOTIENTS = (
    ["graph.element", "graph.element", "arith.divf", "gpu.yield"],
    # A row without any valid key gives NaN; some exporters replace it by zero.
    ["graph.element", "graph.element", "arith.divf", "arith.cmpf", "arith.constant", "arith.select", "gpu.yield"],
)


def form_attentions(grouping: Grouping) -> list[Group]:
    """A group for every second contraction of an attention."""
    groups = []
    for node in grouping.nodes:
        members = _attention_members(grouping, node) if node.name == "matmul" else None
        if members is not None and all(grouping.is_free(index) for index in members):
            group = grouping.start("attention", node.index)
            for index in members:
                if index != node.index:
                    grouping.add(group, index)
            groups.append(group)
    return groups


def first_contraction(grouping: Grouping, group: Group) -> Node:
    """The product of queries and keys."""
    return next(grouping.nodes[i] for i in sorted(group.members) if grouping.nodes[i].name == "matmul")


def _attention_members(grouping: Grouping, output: Node) -> set[int] | None:
    """Nodes from the first contraction to `output`, or None when the pattern does not hold."""
    width = output.shape[-1].as_constant()
    if width is None or width > MAXIMUM_HEAD or _flag(output.operation, "transpose_left"):
        return None
    chain: list[Node] = []
    weights = _source(grouping, output.operation.operands[0])
    while weights is not None and _is_pointwise_step(weights) and not _is_quotient(weights):
        chain.append(weights)
        weights = _source(grouping, weights.inputs[0])
    if weights is None or not _is_quotient(weights):
        return None
    chain.append(weights)
    exponential, total = (_source(grouping, value) for value in weights.inputs[:2])
    if exponential is None or total is None or not _is_reduction(total, "sum", exponential):
        return None
    if _names(exponential) != ["graph.element", "graph.element", "arith.subf", "math.exp", "gpu.yield"]:
        return None
    seen, maximum = exponential.inputs[0], _source(grouping, exponential.inputs[1])
    if maximum is None or maximum.operation.operands[0] != seen or not _is_maximum(maximum):
        return None
    chain += [exponential, total, maximum]
    scores = _scores(grouping, seen, chain)
    if scores is None or not _fits(scores, output):
        return None
    members = {node.index for node in [*chain, scores, output]}
    inside = all(set(node.users) <= members for node in [*chain, scores])
    return members if inside else None


def _scores(grouping: Grouping, value: ir.Value, chain: list[Node]) -> Node | None:
    """The matmul behind `value` through maps of its shape, which are added to the chain."""
    node = _source(grouping, value)
    while node is not None and node.is_map and not node.gathers:
        full = [own for own in node.inputs if node.shape_of(own) == node.shape]
        behind = [source for source in (_source(grouping, own) for own in full) if source is not None]
        candidates = [source for source in behind if _leads_to_matmul(grouping, source)]
        if len(candidates) != 1:
            return None
        chain.append(node)
        node = candidates[0]
    return node if node is not None and node.name == "matmul" else None


def _leads_to_matmul(grouping: Grouping, node: Node) -> bool:
    if node.name == "matmul":
        return True
    if not node.is_map:
        return False
    pending, seen = [node], {node.index}
    while pending:
        current = pending.pop()
        for own in current.inputs:
            source = _source(grouping, own) if node.shape_of(own) == node.shape else None
            if source is None or source.index in seen:
                continue
            if source.name == "matmul":
                return True
            seen.add(source.index)
            if source.is_map:
                pending.append(source)
    return False


def _fits(scores: Node, output: Node) -> bool:
    """The head size is known and small, and both contractions run over the same batch, in one element type."""
    left = scores.shape_of(scores.operation.operands[0])
    depth = left[-2 if _flag(scores.operation, "transpose_left") else -1].as_constant()
    same = scores.shape[:-1] == output.shape[:-1]
    batched = all(
        scores.shape_of(operand)[:-2] == scores.shape[:-2]
        for operand in [*scores.operation.operands, output.operation.operands[1]]
    )
    elements = {element_of(operand) for node in (scores, output) for operand in node.operation.operands}
    plain = len(elements) == 1 and "f64" not in elements
    return depth is not None and depth <= MAXIMUM_HEAD and same and batched and plain


def _source(grouping: Grouping, value: ir.Value) -> Node | None:
    owner = producer(value)
    if owner is None:
        return None
    return grouping.node_of(owner)


def _names(node: Node) -> list[str]:
    return [inner.name for inner in operations_of(body_of(node.operation))] if node.is_map else []


def _is_quotient(node: Node) -> bool:
    return any(_same_operations(_names(node), pattern) for pattern in _QUOTIENTS) and len(node.inputs) == 2


def _same_operations(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """The same operations, in any order: constants may stand anywhere."""
    return sorted(names) == sorted(pattern)


def _is_pointwise_step(node: Node) -> bool:
    """A cast or the replacement of NaN between the softmax and the second contraction."""
    names = sorted(_names(node))
    return len(node.inputs) == 1 and names in (
        ["arith.truncf", "gpu.yield", "graph.element"],
        sorted(["graph.element", "arith.cmpf", "arith.constant", "arith.select", "gpu.yield"]),
    )


def _is_reduction(node: Node, kind: str, of: Node) -> bool:
    return (
        node.name == "reduce"
        and string(node.operation, "kind") == kind
        and node.operation.operands[0] in of.operation.results
        and node.axes == (len(of.shape) - 1,)
    )


def _is_maximum(node: Node) -> bool:
    rank = len(node.shape)
    return node.name == "reduce" and string(node.operation, "kind") == "max" and node.axes == (rank - 1,)


def _flag(operation: ir.Operation, name: str) -> bool:
    return bool(ir.IntegerAttr(operation.attributes[name]).value)
