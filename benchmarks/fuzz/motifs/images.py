"""Convolutions that become others: narrow groups, and transposed ones that are a product or an ordinary one.

In: a graph. Out: such a convolution of one to three spatial dimensions, maybe with what stands around it.
"""

from __future__ import annotations

from typing import Any

from tilewright.runtime.symbolic import Expression, expression

from ..graph_builder import GraphBuilder, Unfit, Value
from .parts import activated, given, weight
from .registry import motif


def _image(graph: GraphBuilder, channels: int, dtype: str) -> Value:
    """[n, channels, ...]: one of the graph with as many channels, or a new one."""
    found = [
        value
        for value in graph.values
        if value.dtype == dtype and value.rank >= 3 and value.shape[1] == channels and value.bound < 50
    ]
    if found and graph.rng.random() < 0.5:
        return graph.rng.choice(found)
    rank = graph.rng.choice((1, 2, 2, 2, 3))
    sizes = [expression(graph.rng.choice((4, 5, 7, 8, 9) if rank > 1 else (16, 33, 64))) for _ in range(rank)]
    symbols = list(graph.bindings[0])
    if symbols and graph.rng.random() < 0.4:
        sizes[0] = Expression.symbol(graph.rng.choice(symbols))
    shape = (graph.dimension() if graph.rng.random() < 0.3 else expression(graph.rng.choice((1, 2, 3))),)
    shape = (*shape, expression(channels), *sizes)
    if graph.elements(shape) > graph.most_elements:
        raise Unfit
    return given(graph, dtype, shape)


def _spatial(value: Value) -> int:
    return value.rank - 2


@motif("grouped convolution", weight=2, precisions=("f16", "bf16", "model", "strict"))
def grouped_convolution(graph: GraphBuilder) -> None:
    """ResNeXt's: several groups of a few channels, with a residual or an activation behind."""
    dtype = graph.float_type
    count, channels = graph.rng.choice((2, 3, 4, 6, 8, 8, 16)), graph.rng.choice((1, 2, 3, 4, 4, 6, 8, 8, 16, 20, 32))
    outputs = graph.rng.choice((1, 2, 4, channels, channels))
    value = _image(graph, count * channels, dtype)
    rank = _spatial(value)
    kernel = [graph.rng.choice((1, 3, 3)) for _ in range(rank)]
    strides = [graph.rng.choice((1, 1, 2)) for _ in range(rank)]
    dilations = [graph.rng.choice((1, 1, 1, 2)) for _ in range(rank)]
    pads = [graph.rng.choice((0, 1, 1)) for _ in range(2 * rank)]
    sizes = []
    for axis, size in enumerate(value.shape[2:]):
        room = size + pads[axis] + pads[rank + axis] - dilations[axis] * (kernel[axis] - 1) - 1
        if graph.smallest(room) < 0:
            raise Unfit
        sizes.append(room // strides[axis] + 1)
    terms = channels * graph.elements([expression(size) for size in kernel])
    matrix = weight(graph, dtype, (count * outputs, channels, *kernel), 1.5 / terms**0.5)
    inputs = [value, matrix, weight(graph, dtype, (count * outputs,))][: graph.rng.randint(2, 3)]
    shape = (value.shape[0], expression(count * outputs), *sizes)
    attributes: dict[str, Any] = {"strides": strides, "dilations": dilations, "pads": pads, "group": count}
    made = graph.one("Conv", inputs, dtype, shape, 1.5 * value.bound + 1, **attributes)
    if made.shape == value.shape:
        graph.like("Add", [made, value], made, made.bound + value.bound)
    elif graph.rng.random() < 0.6:
        activated(graph, made)


@motif("transposed convolution", weight=2, precisions=("f16", "bf16", "model", "strict", "tf32"))
def transposed_convolution(graph: GraphBuilder) -> None:
    """A U-Net's: windows side by side, or a stride of one; and those that are nearly so."""
    dtype = graph.float_type
    channels, outputs = graph.rng.choice((1, 3, 8, 16, 32, 64)), graph.rng.choice((1, 2, 8, 17, 32))
    group = graph.rng.choice((1, 1, 1, 1, 2)) if channels % 2 == 0 else 1
    value = _image(graph, channels, dtype)
    rank = _spatial(value)
    kernel = [graph.rng.choice((1, 2, 2, 3)) for _ in range(rank)]
    strides = list(kernel) if graph.rng.random() < 0.5 else [graph.rng.choice((1, 1, 2)) for _ in range(rank)]
    if graph.rng.random() < 0.4:
        strides = [1] * rank
    dilations = [graph.rng.choice((1, 1, 1, 1, 2)) for _ in range(rank)]
    pads = [graph.rng.choice((0, 0, 0, 1)) for _ in range(2 * rank)]
    more = [graph.rng.randint(0, step - 1) if graph.rng.random() < 0.2 else 0 for step in strides]
    sizes = []
    for axis, size in enumerate(value.shape[2:]):
        covered = dilations[axis] * (kernel[axis] - 1) + 1 + more[axis] - pads[axis] - pads[rank + axis]
        sizes.append((size - 1) * strides[axis] + covered)
        if graph.smallest(sizes[-1]) < 1:
            raise Unfit
    matrix = weight(graph, dtype, (channels, outputs, *kernel), 1.5 / channels**0.5)
    inputs = [value, matrix, weight(graph, dtype, (outputs * group,))][: graph.rng.randint(2, 3)]
    attributes: dict[str, Any] = {"strides": strides, "dilations": dilations, "pads": pads, "group": group}
    if any(more):
        attributes["output_padding"] = more
    shape = (value.shape[0], expression(outputs * group), *sizes)
    made = graph.one("ConvTranspose", inputs, dtype, shape, 4 * value.bound + 1, **attributes)
    if graph.rng.random() < 0.4:
        activated(graph, made)
