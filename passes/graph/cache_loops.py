"""The caches of a layer's keys and values are continued by one kernel.

In: a `Grouping` in which loops were formed. Out: the same where two loops that put something behind an input of the
model, of one shape and with a tensor that both read, are one with two results. A launch costs as much as a
cache of some hundred words takes to copy, and a decoder has two of them a layer.
"""

from __future__ import annotations

from mlir import ir

from .grouping import Group, Grouping, Node
from .rewriting import producer, yielded


def pair_cache_loops(grouping: Grouping) -> None:
    """Join every such loop to the one before it with which it shares a tensor."""
    found: list[Group] = []
    for number in sorted(grouping.groups):
        group = grouping.groups[number]
        if not _continues_cache(grouping, group):
            continue
        partner = next((other for other in reversed(found) if _may_pair(grouping, other, group)), None)
        if partner is None:
            found.append(group)
        else:
            grouping.merge(partner, group)
            found.remove(partner)


def _continues_cache(grouping: Grouping, group: Group) -> bool:
    """Whether the loop's one result is a concatenation that begins with an argument of the block."""
    if group.kind != "loop" or grouping.outputs(group) != [group.anchor]:
        return False
    operation = grouping.nodes[group.anchor].operation
    return operation.name == "graph.concatenate" and producer(yielded(operation)[0]) is None


def _may_pair(grouping: Grouping, first: Group, second: Group) -> bool:
    one, other = grouping.nodes[first.anchor], grouping.nodes[second.anchor]
    if one.operation.results[0].type != other.operation.results[0].type:
        return False
    if not _computed(grouping, first) & _computed(grouping, second):
        return False
    return not grouping.reaches(first, {other.index}) and not grouping.reaches(second, {one.index})


def _computed(grouping: Grouping, group: Group) -> set[ir.Value]:
    """What other kernels make for the loop."""
    nodes: list[Node] = [grouping.nodes[index] for index in group.nodes]
    inside = {value for node in nodes for value in node.operation.results}
    return {value for node in nodes for value in node.inputs if producer(value) is not None} - inside
