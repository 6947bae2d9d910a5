"""Operators that reduce or normalise along axes.

In: a graph. Out: one more node. Reductions take their axes as the opset does: an attribute, later an input.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tilewright.runtime.symbolic import Expression, expression

from ..graph_builder import SINGLES, GraphBuilder, Unfit, Value
from .registry import operator

AXES_AS_INPUT = 18  # the opset from which every reduction takes its axes as an input; ReduceSum does since 13
REDUCED = ("float32", "float32", "float64", "int32", "int64")
BOUNDS: dict[str, tuple[tuple[str, ...], Callable[[float, int], float]]] = {
    "ReduceSum": (REDUCED, lambda bound, count: bound * count),
    "ReduceMean": (("float32", "float32", "float64"), lambda bound, count: bound),
    "ReduceMax": ((*REDUCED, "uint8", "int8"), lambda bound, count: bound),
    "ReduceMin": ((*REDUCED, "uint8", "int8"), lambda bound, count: bound),
    "ReduceProd": (("float32", "int64"), lambda bound, count: max(bound, 1.0) ** min(count, 40)),
    "ReduceL1": (("float32", "int32"), lambda bound, count: bound * count),
    "ReduceL2": (("float32",), lambda bound, count: bound * math.sqrt(count)),
    "ReduceSumSquare": (("float32", "float64", "int32"), lambda bound, count: bound * bound * count),
    "ReduceLogSum": (("float32",), lambda bound, count: 10 + math.log(bound * count + 1)),
    "ReduceLogSumExp": (("float32", "float64"), lambda bound, count: bound + math.log(count + 1)),
}


def _reduction(name: str, types: tuple[str, ...], bound: Callable[[float, int], float]) -> None:
    @operator(name, weight=0.8)
    def add(graph: GraphBuilder) -> None:
        value = graph.pick(types, range(1, 5))
        if name == "ReduceLogSum":
            value = graph.positive(value)
        keep = graph.rng.randint(0, 1)
        axes = graph.rng.sample(range(value.rank), graph.rng.randint(1, value.rank))
        everything = graph.rng.random() < 0.15
        reduced = list(range(value.rank)) if everything else axes
        if any(graph.smallest(value.shape[axis]) < 1 for axis in reduced):
            raise Unfit
        count = graph.elements([value.shape[axis] for axis in reduced])
        one = expression(1)
        shape = [
            one if axis in reduced else size for axis, size in enumerate(value.shape) if keep or axis not in reduced
        ]
        result = float(bound(value.bound, count))
        written = [axis - value.rank if graph.rng.random() < 0.3 else axis for axis in axes]
        if everything:
            graph.one(name, [value], value.dtype, shape, result, keepdims=keep)
        elif graph.opset >= AXES_AS_INPUT or name == "ReduceSum":
            graph.one(name, [value, graph.constant(written)], value.dtype, shape, result, keepdims=keep)
        else:
            graph.one(name, [value], value.dtype, shape, result, keepdims=keep, axes=written)


for _name, (_types, _bound) in BOUNDS.items():
    _reduction(_name, _types, _bound)


def _along_axis(name: str, bound: float | None) -> None:
    @operator(name, weight=1.5, shallow=True)
    def add(graph: GraphBuilder) -> None:
        value = graph.pick((*SINGLES, "float64"), range(1, 5))
        axis = graph.rng.randint(-value.rank, value.rank - 1)
        graph.like(name, [value], value, value.bound * 2 + 10 if bound is None else bound, axis=axis)


_along_axis("Softmax", 1.0)
_along_axis("LogSoftmax", None)


def _static_tail(value: Value) -> bool:
    return value.rank >= 2 and (value.shape[-1].as_constant() or 0) > 1


def _vector(graph: GraphBuilder, dtype: str, size: Expression, low: float = -1, high: float = 1) -> Value:
    return graph.fresh(dtype, (size,), low, high)


@operator("LayerNormalization", weight=1.5, since=17, shallow=True)
def layer_normalisation(graph: GraphBuilder) -> None:
    value = graph.pick(SINGLES, range(2, 5), _static_tail)
    axes = graph.rng.randint(1, 2) if value.rank > 2 and value.shape[-2].as_constant() is not None else 1
    shape = value.shape[-axes:]
    extra = [graph.fresh(value.dtype, shape, -1, 1) for _ in range(graph.rng.randint(1, 2))]
    graph.like(
        "LayerNormalization", [value, *extra], value, math.sqrt(graph.elements(shape)) + 1, axis=-axes, epsilon=1e-2
    )


@operator("RMSNormalization", since=23, shallow=True)
def root_mean_square(graph: GraphBuilder) -> None:
    value = graph.pick(("float32",), range(2, 4), _static_tail)
    scale = _vector(graph, value.dtype, value.shape[-1])
    graph.like("RMSNormalization", [value, scale], value, math.sqrt(value.extent(-1)) + 1, epsilon=1e-2)


def _image(graph: GraphBuilder) -> Value:
    value = graph.pick(("float32",), range(3, 5), lambda value: value.shape[1].as_constant() is not None)
    if any(graph.smallest(size) < 1 for size in value.shape):
        raise Unfit
    return value


@operator("InstanceNormalization", shallow=True)
def instance_normalisation(graph: GraphBuilder) -> None:
    value = _image(graph)
    vectors = [_vector(graph, value.dtype, value.shape[1]) for _ in range(2)]
    graph.like("InstanceNormalization", [value, *vectors], value, 40, epsilon=1e-2)


@operator("BatchNormalization", weight=1.5, shallow=True)
def batch_normalisation(graph: GraphBuilder) -> None:
    value = _image(graph)
    size = value.shape[1]
    vectors = [_vector(graph, value.dtype, size) for _ in range(3)] + [_vector(graph, value.dtype, size, 0.5, 2)]
    graph.like("BatchNormalization", [value, *vectors], value, 2 * value.bound + 4)


@operator("GroupNormalization", since=21, shallow=True)
def group_normalisation(graph: GraphBuilder) -> None:
    value = _image(graph)
    channels = value.extent(1)
    groups = graph.rng.choice([number for number in range(1, channels + 1) if channels % number == 0])
    vectors = [_vector(graph, value.dtype, value.shape[1]) for _ in range(2)]
    graph.like("GroupNormalization", [value, *vectors], value, 60, num_groups=groups, epsilon=1e-2)


@operator("LpNormalization", shallow=True)
def lp_normalisation(graph: GraphBuilder) -> None:
    value = graph.positive(graph.pick(("float32", "float64"), range(1, 4)))
    graph.like("LpNormalization", [value], value, 1, axis=graph.rng.randrange(value.rank), p=graph.rng.randint(1, 2))


@operator("MeanVarianceNormalization", weight=0.5, shallow=True)
def mean_variance(graph: GraphBuilder) -> None:
    value = graph.pick(("float32",), (4,), lambda value: all(graph.smallest(size) > 1 for size in value.shape))
    graph.like("MeanVarianceNormalization", [value], value, 60, axes=[0, 2, 3])


@operator("LRN", weight=0.5, shallow=True)
def local_response(graph: GraphBuilder) -> None:
    value = graph.pick(("float32",), (4,))
    graph.like("LRN", [value], value, size=graph.rng.choice((1, 3, 5)), alpha=0.01, beta=0.75, bias=1.0)
