"""Operators that move elements and compute nothing: reshapes, transposes, slices, joins, pads, copies.

In: a graph. Out: one more node; sizes stay expressions over the graph's symbols.
"""

from __future__ import annotations

import math

import numpy as np
import onnx

from tilewright.runtime.symbolic import Expression, expression

from ..graph_builder import ANY, FLOATS, SINGLES, WIDE, GraphBuilder, Shape, Unfit, Value, broadcast, count
from .registry import operator

MOVED = (*FLOATS, *WIDE, "uint8", "bool")


def _split_size(graph: GraphBuilder, size: int) -> list[int]:
    """Factors of a size, in random order."""
    factors: list[int] = []
    while size > 1 and len(factors) < 3:
        divisors = [divisor for divisor in range(2, size + 1) if size % divisor == 0]
        factors.append(graph.rng.choice(divisors))
        size //= factors[-1]
    factors += [size] if size > 1 else []
    graph.rng.shuffle(factors)
    return factors or [1]


@operator("Reshape", weight=3)
def reshape(graph: GraphBuilder) -> None:
    value = graph.pick(MOVED, range(1, 5))
    target: list[Expression] = []
    axis = 0
    while axis < value.rank:  # merge neighbours, split what is static, keep the rest
        size = value.shape[axis]
        axis += 1
        while axis < value.rank and graph.rng.random() < 0.4:
            size = size * value.shape[axis]
            axis += 1
        static = size.as_constant()
        if static is not None and graph.rng.random() < 0.5:
            target += [expression(factor) for factor in _split_size(graph, static)]
        else:
            target.append(size)
    numbers = [size.as_constant() for size in target]
    dynamic = [place for place, number in enumerate(numbers) if number is None]
    if len(target) > 5:
        raise Unfit
    # One size may be -1; further symbolic ones are 0 where they stand at their old place, else no constant says it.
    kept = [place for place in dynamic if place < value.rank and target[place] == value.shape[place]]
    free = [place for place in dynamic if place not in kept]
    if len(free) > 1:
        raise Unfit
    if not free and graph.rng.random() < 0.5 and all(graph.elements((size,)) for size in target):
        free = [graph.rng.randrange(len(target))]
    written = [-1 if place in free else 0 if place in kept else number for place, number in enumerate(numbers)]
    graph.one("Reshape", [value, graph.constant(written)], value.dtype, target, value.bound)


@operator("ReshapeByShape")
def reshape_by_shape(graph: GraphBuilder) -> None:
    """What exporters write: sizes taken from Shape, joined with constants."""
    value = graph.pick(MOVED, range(2, 5))
    sizes = graph.one("Shape", [value], "int64", (expression(value.rank),), MOST)
    place = graph.constant([0])
    first = graph.one("Gather", [sizes, place], "int64", (expression(1),), MOST, axis=0)
    target = graph.one("Concat", [first, graph.constant([-1])], "int64", (expression(2),), MOST, axis=0)
    shape = (value.shape[0], count(value.shape[1:]))
    graph.one("Reshape", [value, target], value.dtype, shape, value.bound)


MOST = 4096.0  # no size exceeds it


@operator("Flatten")
def flatten(graph: GraphBuilder) -> None:
    value = graph.pick(MOVED, range(1, 5))
    axis = graph.rng.randint(-value.rank, value.rank)
    place = axis + value.rank if axis < 0 else axis
    shape = (count(value.shape[:place]), count(value.shape[place:]))
    graph.one("Flatten", [value], value.dtype, shape, value.bound, axis=axis)


@operator("Transpose", weight=3)
def transpose(graph: GraphBuilder) -> None:
    value = graph.pick(MOVED, range(2, 5))
    order = list(range(value.rank))
    graph.rng.shuffle(order)
    graph.one("Transpose", [value], value.dtype, [value.shape[axis] for axis in order], value.bound, perm=order)


@operator("Squeeze")
def squeeze(graph: GraphBuilder) -> None:
    value = graph.pick(MOVED, range(1, 5), lambda value: any(size == 1 for size in value.shape))
    axes = [axis for axis, size in enumerate(value.shape) if size == 1]
    axes = graph.rng.sample(axes, graph.rng.randint(1, len(axes)))
    shape = [size for axis, size in enumerate(value.shape) if axis not in axes]
    axes = [axis - value.rank if graph.rng.random() < 0.3 else axis for axis in axes]
    graph.one("Squeeze", [value, graph.constant(axes)], value.dtype, shape, value.bound)


@operator("Unsqueeze")
def unsqueeze(graph: GraphBuilder) -> None:
    value = graph.pick(MOVED, range(4))
    axis = graph.rng.randint(0, value.rank)
    shape = [*value.shape[:axis], expression(1), *value.shape[axis:]]
    graph.one("Unsqueeze", [value, graph.constant([axis])], value.dtype, shape, value.bound)


@operator("Slice", weight=3)
def cut(graph: GraphBuilder) -> None:
    value = graph.pick(MOVED, range(1, 5))
    axes = graph.rng.sample(range(value.rank), graph.rng.randint(1, min(2, value.rank)))
    shape, starts, ends, steps = list(value.shape), [], [], []
    for axis in axes:
        size, smallest = value.shape[axis], graph.smallest(value.shape[axis])
        if smallest < 2:
            raise Unfit
        step = graph.rng.choice((1, 1, 1, 2, 3))
        skipped = graph.rng.randint(0, smallest - 1)
        dropped = graph.rng.choice((0, 0, graph.rng.randint(0, smallest - 1 - skipped)))
        shape[axis] = (size - skipped - dropped).ceil_divide(step)
        if graph.rng.random() < 0.2:  # backwards
            starts.append(-1 - skipped)
            ends.append(dropped - (1 << 31) if not dropped else dropped - 1)
            steps.append(-step)
        else:
            starts.append(skipped)
            ends.append(-dropped if dropped else graph.rng.choice(((1 << 31) - 1, (1 << 63) - 1)))
            steps.append(step)
    constants = [graph.constant(numbers) for numbers in (starts, ends, axes, steps)]
    graph.one("Slice", [value, *constants], value.dtype, shape, value.bound)


@operator("Concat", weight=3)
def concatenate(graph: GraphBuilder) -> None:
    first = graph.pick(MOVED, range(1, 5))
    axis = graph.rng.randrange(first.rank)

    def fits(other: Value) -> bool:
        pairs = zip(other.shape, first.shape, strict=True) if other.rank == first.rank else ()
        return bool(pairs) and all(a == b for place, (a, b) in enumerate(pairs) if place != axis)

    inputs = [first]
    for _ in range(graph.rng.randint(1, 3)):
        found = [other for other in graph.visible() if other.dtype == first.dtype and other.known and fits(other)]
        if found and graph.rng.random() < 0.7:
            inputs.append(graph.rng.choice(found))
        else:
            shape = (*first.shape[:axis], expression(graph.rng.randint(1, 5)), *first.shape[axis + 1 :])
            inputs.append(graph.fresh(first.dtype, shape))
    graph.rng.shuffle(inputs)
    joined = sum((value.shape[axis] for value in inputs), expression(0))
    shape = (*first.shape[:axis], joined, *first.shape[axis + 1 :])
    bound = max(value.bound for value in inputs)
    graph.one("Concat", inputs, first.dtype, shape, bound, axis=graph.rng.choice((axis, axis - first.rank)))


@operator("Split", weight=2)
def split(graph: GraphBuilder) -> None:
    value = graph.pick(MOVED, range(1, 5), lambda value: any((size.as_constant() or 0) > 1 for size in value.shape))
    axis = graph.rng.choice([axis for axis, size in enumerate(value.shape) if (size.as_constant() or 0) > 1])
    size = value.extent(axis)
    sizes = [graph.rng.randint(1, size - 1)]
    sizes.append(size - sizes[0])
    outputs = [
        Value("", value.dtype, (*value.shape[:axis], expression(part), *value.shape[axis + 1 :]), value.bound)
        for part in sizes
    ]
    graph.node("Split", [value, graph.constant(sizes)], outputs, axis=axis)


@operator("SplitEvenly", since=18)
def split_evenly(graph: GraphBuilder) -> None:
    value = graph.pick(MOVED, range(1, 5), lambda value: any((size.as_constant() or 0) > 1 for size in value.shape))
    axis = graph.rng.choice([axis for axis, size in enumerate(value.shape) if (size.as_constant() or 0) > 1])
    size = value.extent(axis)
    parts = graph.rng.randint(2, min(3, size))
    chunk = math.ceil(size / parts)
    sizes = [chunk] * (parts - 1) + [size - chunk * (parts - 1)]
    if sizes[-1] < 1:
        raise Unfit
    outputs = [
        Value("", value.dtype, (*value.shape[:axis], expression(part), *value.shape[axis + 1 :]), value.bound)
        for part in sizes
    ]
    graph.node("Split", [value], outputs, axis=axis, num_outputs=parts)


@operator("Expand", weight=2)
def expand(graph: GraphBuilder) -> None:
    value = graph.pick(MOVED, range(4))
    target = tuple(
        graph.dimension() if size == 1 and graph.rng.random() < 0.7 else size
        for size in (*(expression(1),) * graph.rng.randint(0, 1), *value.shape)
    )
    numbers = [size.as_constant() for size in target]
    if None in numbers:  # the sizes are those of another tensor
        like = graph.pick(("float32",), fits=lambda other: broadcast(other.shape, value.shape) is not None)
        sizes: Value | str = graph.one("Shape", [like], "int64", (expression(like.rank),), MOST)
        shape = broadcast(like.shape, value.shape)
        assert shape is not None
        graph.one("Expand", [value, sizes], value.dtype, shape, value.bound)
        return
    graph.one("Expand", [value, graph.constant(numbers)], value.dtype, target, value.bound)


@operator("Tile")
def tile(graph: GraphBuilder) -> None:
    value = graph.pick(("float32", "float64", "int64", "int32", "uint8", "bool"), range(1, 4))
    repeats = [graph.rng.choice((1, 1, 2, 3)) for _ in range(value.rank)]
    shape = [size * times for size, times in zip(value.shape, repeats, strict=True)]
    graph.one("Tile", [value, graph.constant(repeats)], value.dtype, shape, value.bound)


@operator("Pad", weight=2)
def pad(graph: GraphBuilder) -> None:
    value = graph.pick((*FLOATS, *WIDE), range(1, 5))
    modes = ["constant", "constant", "reflect", "edge"] + ["wrap"] * (graph.opset >= 19)
    mode = graph.rng.choice(modes)
    amounts: list[list[int]] = []
    for size in value.shape:
        most = graph.smallest(size) - 1 if mode in ("reflect", "wrap") else 3
        amounts.append([graph.rng.choice((0, graph.rng.randint(0, max(0, min(most, 3))))) for _ in range(2)])
        if mode == "constant" and graph.smallest(size) > 3 and graph.rng.random() < 0.2:
            amounts[-1][graph.rng.randint(0, 1)] = -1  # cuts
    shape = [size + sum(amount) for size, amount in zip(value.shape, amounts, strict=True)]
    pads = graph.constant([begin for begin, _ in amounts] + [end for _, end in amounts])
    inputs: list[Value | str] = [value, pads]
    if mode == "constant" and graph.rng.random() < 0.5:
        inputs.append(graph.constant(2, value.dtype))
    graph.one("Pad", inputs, value.dtype, shape, max(value.bound, 2), mode=mode)


@operator("DepthToSpace")
def depth_to_space(graph: GraphBuilder) -> None:
    batch, height, width = (graph.dimension() for _ in range(3))
    shape = (batch, expression(graph.rng.choice((4, 8))), height, width)
    value = graph.fresh(graph.rng.choice(SINGLES), shape)
    result = (batch, shape[1] // 4, height * 2, width * 2)
    graph.one(
        "DepthToSpace", [value], value.dtype, result, value.bound, blocksize=2, mode=graph.rng.choice(("DCR", "CRD"))
    )


@operator("SpaceToDepth")
def space_to_depth(graph: GraphBuilder) -> None:
    batch, channels, height, width = (graph.dimension() for _ in range(4))
    value = graph.fresh("float32", (batch, channels, height * 2, width * 2))
    graph.one("SpaceToDepth", [value], value.dtype, (batch, channels * 4, height, width), value.bound, blocksize=2)


@operator("Trilu")
def triangle(graph: GraphBuilder) -> None:
    value = graph.pick(("float32", "float64", "int64", "bool"), range(2, 5))
    offset = [graph.constant(graph.rng.randint(-2, 2))] if graph.rng.random() < 0.6 else []
    graph.like("Trilu", [value, *offset], value, upper=graph.rng.randint(0, 1))


@operator("ConstantOfShape")
def constant_of_shape(graph: GraphBuilder) -> None:
    like = graph.pick(ANY, range(1, 4))
    sizes = graph.one("Shape", [like], "int64", (expression(like.rank),), MOST)
    dtype = graph.rng.choice(("float32", "int64", "bool"))
    fill = onnx.numpy_helper.from_array(np.array([1], dtype))
    graph.one("ConstantOfShape", [sizes], dtype, like.shape, 1, value=fill)


@operator("Shape", weight=0.5)
def shape_of(graph: GraphBuilder) -> None:
    value = graph.pick(ANY, range(1, 5))
    start = graph.rng.randint(0, value.rank - 1) if graph.opset >= 15 else 0
    attributes = {"start": start} if start else {}
    graph.one("Shape", [value], "int64", (expression(value.rank - start),), MOST, **attributes)


@operator("Size", weight=0.3)
def size_of(graph: GraphBuilder) -> None:
    graph.one("Size", [graph.pick(ANY)], "int64", (), MOST)


@operator("Range", weight=0.5)
def arange(graph: GraphBuilder) -> None:
    """As many numbers as a dimension has."""
    value = graph.pick(ANY, range(1, 5))
    axis = graph.rng.randrange(value.rank)
    sizes = graph.one("Shape", [value], "int64", (expression(value.rank),), MOST)
    size = graph.one("Gather", [sizes, graph.constant(axis)], "int64", (), MOST, axis=0)
    graph.one("Range", [graph.constant(0), size, graph.constant(1)], "int64", (value.shape[axis],), MOST)


@operator("EyeLike", weight=0.4)
def eye_like(graph: GraphBuilder) -> None:
    value = graph.pick(("float32", "int64"), (2,))
    graph.like("EyeLike", [value], value, 1, k=graph.rng.randint(-1, 1))


@operator("ReverseSequence")
def reverse_sequence(graph: GraphBuilder) -> None:
    value = graph.pick(("float32", "int64"), range(2, 4), lambda value: value.shape[0].as_constant() is not None)
    longest = graph.smallest(value.shape[1])
    if longest < 1:
        raise Unfit
    lengths = graph.fresh("int64", (value.shape[0],), 1, longest)
    graph.like("ReverseSequence", [value, lengths], value, batch_axis=0, time_axis=1)


def shrunk(shape: Shape, axis: int, size: Expression | int) -> Shape:
    """The shape with another size at an axis."""
    return (*shape[:axis], expression(size), *shape[axis + 1 :])
