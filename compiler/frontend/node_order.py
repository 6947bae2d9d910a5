"""Nodes of a graph in an order in which each comes after those that make what it reads.

In: a model as a tool wrote it. Out: itself, or a copy with its nodes sorted. ONNX asks for the order, but converters
(onnxruntime's to float16 for one) append nodes at the end, and runtimes accept what they write.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx


def with_sorted_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the main graph in order. Nodes on a cycle, or not unique, stay last, for the checker to name."""
    nodes = list(model.graph.node)
    order = _order(nodes)
    if order == list(range(len(nodes))):
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:]
    result.graph.node.extend(nodes[index] for index in order)
    return result


def _order(nodes: list[onnx.NodeProto]) -> list[int]:
    """Positions in an order that differs from the given one only where it must."""
    makers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    missing = [{makers[name] for name in _reads(node) if name in makers} for node in nodes]
    if all(index > max(needed, default=-1) for index, needed in enumerate(missing)):
        return list(range(len(nodes)))
    readers: list[list[int]] = [[] for _ in nodes]
    for index, needed in enumerate(missing):
        for maker in needed:
            readers[maker].append(index)
    order: list[int] = []
    waiting = [len(needed) for needed in missing]
    for first in range(len(nodes)):  # each node as early as in the file, or right after the last that it waits for
        ready = [first] if waiting[first] == 0 else []
        while ready:
            index = ready.pop()
            order.append(index)
            waiting[index] = -1
            for reader in readers[index]:
                waiting[reader] -= 1
            ready += [reader for reader in reversed(readers[index]) if waiting[reader] == 0 and reader < first]
    return order + [index for index, count in enumerate(waiting) if count >= 0]


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Names that the node, or a graph inside it, reads; those that are made inside do no harm."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            for inner in graph.node:
                yield from _reads(inner)
