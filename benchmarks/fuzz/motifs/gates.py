"""Gates: two products of one tensor, or two halves of one product, joined by a map. pair-products looks for them.

In: a graph. Out: a gate, or what is nearly one.
"""

from __future__ import annotations

import math

from tilewright.runtime.symbolic import expression

from ..graph_builder import GraphBuilder, Value
from .parts import COLUMNS, WAYS, activated, biased, depth_of, linear, tensor, weight
from .registry import motif

JOINS = ("Mul", "Mul", "Mul", "Add", "Sub")


@motif("gate", weight=2, precisions=("f16", "bf16", "model", "strict", "tf32"))
def gate(graph: GraphBuilder) -> None:
    """silu(x @ a) * (x @ b), sometimes behind an operation of both halves, or with another reader."""
    value = tensor(graph)
    columns = graph.rng.choice(COLUMNS)
    first, second = _halves(graph, value, columns)
    if graph.rng.random() < 0.15:
        graph.like("Neg", [graph.rng.choice((first, second))], first)  # another reader
    if graph.rng.random() < 0.3:
        second = activated(graph, second, ("Tanh", "Sigmoid"))
    if graph.rng.random() < 0.9:
        first = activated(graph, first)
    pair = [first, second] if graph.rng.random() < 0.5 else [second, first]
    joined = graph.like(graph.rng.choice(JOINS), pair, first, first.bound * second.bound + 4)
    if graph.rng.random() < 0.6:
        made = linear(graph, joined, depth_of(value))
        if graph.rng.random() < 0.5:
            graph.like("Add", [value, made], made, made.bound + value.bound)


def _halves(graph: GraphBuilder, value: Value, columns: int) -> tuple[Value, Value]:
    kind = graph.rng.choice(("two", "two", "split", "split", "sliced", "tied", "uneven"))
    if kind == "two":
        ways = graph.rng.choices(WAYS, k=2)
        alike = graph.rng.random() < 0.85
        return linear(graph, value, columns, way=ways[0]), linear(graph, value, columns, way=ways[not alike])
    if kind == "tied":
        matrix = weight(graph, value.dtype, (depth_of(value), columns), 1.5 / math.sqrt(depth_of(value)))
        return linear(graph, value, columns, matrix), linear(graph, value, columns, matrix)
    whole = linear(graph, value, 2 * columns + (kind == "uneven"))
    if kind == "uneven":
        whole = activated(graph, biased(graph, whole), ("Relu",))
    half = Value("", whole.dtype, (*whole.shape[:-1], expression(columns)), whole.bound)
    if kind == "split" and graph.opset >= 18:
        first, second = graph.node("Split", [whole], [half, half], axis=-1, num_outputs=2)
        return first, second
    begins = (0, columns + (kind == "uneven" and graph.rng.randint(0, 1)))
    parts = [
        graph.like("Slice", [whole, graph.constant([at]), graph.constant([at + columns]), graph.constant([-1])], half)
        for at in begins
    ]
    return parts[0], parts[1]
