"""What stands in one model many times over, with other sizes: dense layers that join what they make to what they read.

In: a graph. Out: layers whose kernels differ in sizes only, which share_programs makes one of; concatenations.
"""

from __future__ import annotations

from tilewright.runtime.symbolic import expression

from ..graph_builder import GraphBuilder, Unfit, Value
from .parts import WAYS, activated, depth_of, given, linear, lines, weight
from .registry import motif

LONG_DEPTHS = (128, 192, 256, 256, 320, 384, 512, 200)  # several steps of a main loop


@motif("dense layers", weight=2, precisions=("f16", "bf16", "model", "strict", "tf32"))
def dense_layers(graph: GraphBuilder) -> None:
    """DenseNet's: each layer reads all before it; of images or of lines."""
    dtype = graph.float_type
    growth = graph.rng.choice((8, 16, 24, 32, 5))
    depth = graph.rng.choice((16, 32, 64, 128, 192, 256, 7))
    of_images = graph.rng.random() < 0.5
    if of_images:
        size = graph.rng.choice((4, 5, 8))
        batch = graph.dimension() if graph.rng.random() < 0.4 else expression(2)
        shape = (batch, *map(expression, (depth, size, size)))
    else:
        shape = (*lines(graph), expression(depth))
    if graph.elements(shape) > graph.most_elements:
        raise Unfit
    value, axis = given(graph, dtype, shape), 1 if of_images else len(shape) - 1
    first = graph.rng.random() < 0.3  # the fresh channels in front
    way, has_bias, rectified = graph.rng.choice(WAYS), graph.rng.random() < 0.5, graph.rng.random() < 0.5
    side, name, width = graph.rng.choice((1, 3, 3)), graph.rng.choice(("Relu", "Tanh")), graph.rng.choice((0, 32, 64))
    for _ in range(graph.rng.randint(2, 5)):
        made = activated(graph, value, ("Relu",)) if rectified else value
        for outputs in (width, growth) if width else (growth,):
            if of_images:
                made = _convolved(graph, made, outputs, side if outputs == growth else 1)
            else:
                made = linear(graph, made, outputs, way=way, has_bias=has_bias)
            made = activated(graph, made, (name,))
        whole = list(value.shape)
        whole[axis] = whole[axis] + growth
        parts = [made, value] if first else [value, made]
        written = graph.rng.choice((axis, axis - value.rank))
        value = graph.one("Concat", parts, dtype, whole, max(made.bound, value.bound), axis=written)
    if not of_images and depth_of(value) >= 1:
        linear(graph, value, 16)


def _convolved(graph: GraphBuilder, value: Value, outputs: int, size: int) -> Value:
    channels = value.extent(1)
    matrix = weight(graph, value.dtype, (outputs, channels, size, size), 1.5 / (channels * size * size) ** 0.5)
    shape = (value.shape[0], expression(outputs), *value.shape[2:])
    return graph.one("Conv", [value, matrix], value.dtype, shape, 1.5 * value.bound, pads=[size // 2] * 4)


@motif("same layers", weight=1.5)
def same_layers(graph: GraphBuilder) -> None:
    """Branches with products of other depths but of one result: programs that are alike but for sizes."""
    columns, leading, way = graph.rng.choice((16, 32, 64)), lines(graph), graph.rng.choice(WAYS)
    has_bias, name = graph.rng.random() < 0.5, graph.rng.choice(("Relu", "gelu", "Tanh"))
    made = []
    for _ in range(graph.rng.randint(2, 4)):
        shape = (*leading, expression(graph.rng.choice(LONG_DEPTHS)))
        if graph.elements(shape) > graph.most_elements:
            raise Unfit
        value = given(graph, graph.float_type, shape)
        made.append(activated(graph, linear(graph, value, columns, way=way, has_bias=has_bias), (name,)))
    if graph.rng.random() < 0.5:
        for other in made[1:]:
            made[0] = graph.like("Add", [made[0], other], made[0], made[0].bound + other.bound)
