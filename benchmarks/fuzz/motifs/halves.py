"""Models in half precision, with a rounding after each operation; and normalisations of few long lines.

In: a graph. Out: chains that excess-precision computes in f32 between kernels' edges, and lines that are cut in parts.
"""

from __future__ import annotations

from tilewright.runtime.symbolic import expression

from ..graph_builder import GraphBuilder, Value
from .parts import activated, cast, depth_of, given, linear, tensor, weight
from .registry import motif

STEPS = ("activation", "add", "scale", "softmax", "cast", "choose", "linear", "maximum", "floor", "concatenate", "turn")


@motif("halves", weight=2, precisions=("model", "model", "strict", "f16"))
def halves(graph: GraphBuilder) -> None:
    """Three to eight steps in f16; casts to f32 and back among them, values that others read too."""
    value = cast(graph, tensor(graph), "float16")
    for name in graph.rng.choices(STEPS, k=graph.rng.randint(3, 8)):
        value = _step(graph, name, value)


def _step(graph: GraphBuilder, name: str, value: Value) -> Value:
    dtype, rank = value.dtype, value.rank
    if name == "activation":
        return activated(graph, value)
    if name in ("add", "maximum"):
        other = weight(graph, dtype, (depth_of(value),)) if graph.rng.random() < 0.5 else activated(graph, value)
        return graph.like("Add" if name == "add" else "Max", [value, other], value, value.bound + other.bound)
    if name == "scale":
        return graph.like("Mul", [value, graph.constant(graph.rng.choice((0.125, 3.0, -1.0)), dtype)], value)
    if name == "softmax":
        return graph.like("Softmax", [value], value, 1.0, axis=graph.rng.choice((-1, rank - 1)))
    if name == "cast":
        return cast(graph, value, "float32" if dtype == "float16" else "float16")
    if name == "choose":
        chosen = graph.one("Less", [value, graph.constant(0.25, dtype)], "bool", value.shape, 1)
        return graph.like("Where", [chosen, value, activated(graph, value, ("Tanh", "Relu"))], value)
    if name == "linear":
        return linear(graph, value, graph.rng.choice((16, 32, 64)))
    if name == "floor":
        return graph.like(graph.rng.choice(("Floor", "Round", "Abs", "Neg")), [value], value, value.bound + 1)
    if name == "concatenate":
        other = activated(graph, value)
        shape = (*value.shape[:-1], value.shape[-1] + other.shape[-1])
        return graph.one("Concat", [value, other], dtype, shape, max(value.bound, other.bound), axis=-1)
    order = [*range(rank - 2), rank - 1, rank - 2]
    shape = (*value.shape[:-2], value.shape[-1], value.shape[-2])
    turned = graph.one("Transpose", [value], dtype, shape, value.bound, perm=order)
    made = activated(graph, turned, ("Relu", "Tanh"))
    return graph.one("Transpose", [made], dtype, value.shape, made.bound, perm=order)


@motif("long lines", weight=1, precisions=("f16", "model", "strict"), targets=("sm_80", "sm_80", "sm_90a"))
def long_lines(graph: GraphBuilder) -> None:
    """Instance, group and layer normalisation of a few lines of some ten thousand elements."""
    graph.most_elements = max(graph.most_elements, 140_000)
    dtype = graph.float_type
    channels, size = graph.rng.choice(((1, 29_400), (2, 24_576), (2, 24_577), (1, 65_536), (1, 100_003)))
    side = graph.rng.choice((1, 2, 4)) if size % 4 == 0 else 1
    groups = graph.rng.choice((1, channels)) if graph.opset >= 21 else channels
    shape = (expression(1), expression(channels), expression(side), expression(size // side))
    mean = graph.rng.choice((0.0, 0.0, 5.0))
    value = activated(graph, given(graph, dtype, shape, mean - 1, mean + 1), ("Elu", "Relu"))
    rows = [weight(graph, dtype, (channels,), 0.5, middle) for middle in (1.0, 0.0)]
    if groups != channels and graph.rng.random() < 0.5:
        made = graph.like("GroupNormalization", [value, *rows], value, 100.0, num_groups=groups)
    else:
        made = graph.like("InstanceNormalization", [value, *rows], value, 100.0)
    if graph.rng.random() < 0.6:
        activated(graph, made)
