"""Recognition of attention: softmax(f(Q x K^T)) x V becomes one group of kind ``attention``.

In: a `Grouping`. Out: the same with every attention found owned by a group. The pattern is that of the decomposed
operators, so it does not matter which exporter wrote the softmax: maximum, exp of the difference, sum, quotient. It
exists because the scores are the largest tensors of a transformer and never need to reach memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlir import ir

from ...dialects.tensors import element_of
from .grouping import CHEAP_OPERATIONS, Group, Grouping, Node
from .rewriting import body_of, operations_of, producer, string

MAXIMUM_HEAD = 256  # columns of a head that an accumulator holds in registers
_MASK_MOVEMENTS = ("reshape", "broadcast", "transpose")
_REPLACEMENT = ["graph.element", "arith.cmpf", "arith.select", "gpu.yield"]


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


def copy_masks(grouping: Grouping, group: Group) -> None:
    """Let an attention compute what it adds to its scores where that is made of smaller tensors and positions: a mask
    of queries x keys costs more to read than to compute, and its bounds tell which keys to leave out.
    """
    maps = [member for member in sorted(group.members) if grouping.nodes[member].is_map]
    producers = [index for member in maps for index in grouping.nodes[member].producers]
    pending = [index for index in producers if _spreads(grouping, grouping.nodes[index])]
    while pending:
        index = pending.pop()
        if index in group.nodes or not grouping.is_free(index):
            continue
        grouping.add_copy(group, index)
        for source in grouping.producer_nodes(index):
            if source.name in _MASK_MOVEMENTS or _is_mask(grouping, source):
                pending.append(source.index)


def _spreads(grouping: Grouping, node: Node) -> bool:
    """Whether the node makes something large of smaller tensors: such a map, or a repetition, both maybe moved."""
    current: Node | None = node
    while current is not None and current.name in _MASK_MOVEMENTS:
        if current.name == "broadcast":
            return True
        current = _source(grouping, current.operation.operands[0])
    return current is not None and _is_mask(grouping, current)


def _is_mask(grouping: Grouping, node: Node) -> bool:
    """A cheap map that reads nothing of its own size, but for other such maps."""
    if not node.is_map or node.gathers or node.cost[0] > CHEAP_OPERATIONS or node.cost[1]:
        return False
    for value in node.inputs:
        source = _source(grouping, value)
        if node.shape_of(value) == node.shape and (source is None or not _is_mask(grouping, source)):
            return False
    return True


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
    exponential, total = (_source(grouping, value) for value in _quotient(weights) or (None, None))
    if exponential is None or total is None or not _is_reduction(total, "sum", exponential):
        return None
    difference = _exponent(exponential)
    if difference is None:
        return None
    seen, maximum = difference[0], _source(grouping, difference[1])
    if maximum is not None and _is_guard(maximum):
        chain.append(maximum)
        maximum = _source(grouping, maximum.inputs[0])
    if maximum is None or not _is_maximum(maximum) or maximum.operation.operands[0] != seen:
        return None
    chain += [exponential, total, maximum]
    scores = _scores(grouping, seen, chain)
    if scores is None or not _fits(scores, output):
        return None
    members = {node.index for node in [*chain, scores, output]}
    inside = all(set(node.users) <= members for node in [*chain, scores])
    gathered = [_source(grouping, value) for node in chain for value in node.gathers]
    computed = any(source is not None and source.index in members for source in gathered)
    return members if inside and not computed else None


def _scores(grouping: Grouping, value: ir.Value, chain: list[Node]) -> Node | None:
    """The matmul behind `value` through maps of its shape, which are added to the chain."""
    node = _source(grouping, value)
    while node is not None and node.is_map:
        full = [own for own in node.inputs if node.shape_of(own) == node.shape and own not in node.gathers]
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
    batched = not _repeats_all(scores, 0) and _repeats_all(scores, 1) == _repeats_all(output, 1)
    elements = {element_of(operand) for node in (scores, output) for operand in node.operation.operands}
    plain = len(elements) == 1 and "f64" not in elements
    return depth is not None and depth <= MAXIMUM_HEAD and same and batched and plain


def _repeats_all(node: Node, operand: int) -> bool:
    """Whether a product has one matrix for all batches, and so more rows or columns instead of batches
    (passes/tile/contraction.py).
    """
    own = node.shape_of(node.operation.operands[operand])[:-2]
    return any(size != 1 for size in node.shape[:-2]) and all(size == 1 for size in own)


def _source(grouping: Grouping, value: ir.Value) -> Node | None:
    owner = producer(value)
    if owner is None:
        return None
    return grouping.node_of(owner)


def _names(node: Node) -> list[str]:
    return [inner.name for inner in operations_of(body_of(node.operation))] if node.is_map else []


def _is_quotient(node: Node) -> bool:
    return _quotient(node) is not None


def _quotient(node: Node) -> tuple[ir.Value, ir.Value] | None:
    """(dividend, divisor) of a map that divides, maybe rounds, and maybe gives zero where a comparison holds: a row
    without any valid key is NaN, which some exporters replace, or its sum is zero.
    """
    value = _inside(_yielded(node), "arith.truncf")
    choice = producer(value) if value is not None else None
    if choice is not None and choice.name == "arith.select":
        kept = [own for own in list(choice.operands)[1:] if not _is_constant(own)]
        if len(kept) != 1 or not _is_comparison(choice.operands[0]):
            return None
        value = _inside(kept[0], "arith.truncf")
    return _elements(value, "arith.divf")


def _exponent(node: Node) -> tuple[ir.Value, ir.Value] | None:
    """(a, b) of a map exp(a - b)."""
    value = _yielded(node)
    inner = _inside(value, "math.exp")
    return _elements(inner, "arith.subf") if inner != value else None


def _yielded(node: Node) -> ir.Value | None:
    return operations_of(body_of(node.operation))[-1].operands[0] if node.is_map else None


def _inside(value: ir.Value | None, name: str) -> ir.Value | None:
    """The operand of the operation `name` that makes the value; any other value itself."""
    owner = producer(value) if value is not None else None
    return owner.operands[0] if owner is not None and owner.name == name else value


def _elements(value: ir.Value | None, name: str) -> tuple[ir.Value, ir.Value] | None:
    """The tensors whose elements the operation `name` combines to the value."""
    owner = producer(value) if value is not None else None
    if owner is None or owner.name != name:
        return None
    sides = [producer(operand) for operand in owner.operands]
    if any(side is None or side.name != "graph.element" for side in sides):
        return None
    first, second = (side.operands[0] for side in sides if side is not None)
    return first, second


def _is_constant(value: ir.Value) -> bool:
    owner = producer(value)
    return owner is not None and owner.name == "arith.constant"


def _is_comparison(value: ir.Value) -> bool:
    owner = producer(value)
    return owner is not None and owner.name == "arith.cmpf"


def _same_operations(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """The same operations, in any order and with any constants."""
    return sorted(name for name in names if name != "arith.constant") == sorted(pattern)


def _is_guard(node: Node) -> bool:
    """The replacement of a maximum of -inf, so that rows without any key subtract something finite."""
    return len(node.inputs) == 1 and _same_operations(_names(node), _REPLACEMENT)


def _is_pointwise_step(node: Node) -> bool:
    """A cast or the replacement of NaN between the softmax and the second contraction."""
    names = _names(node)
    steps = (["arith.truncf", "gpu.yield", "graph.element"], _REPLACEMENT)
    return len(node.inputs) == 1 and any(_same_operations(names, step) for step in steps)


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
