"""Operators that read elements at computed positions.

In: data and indices. Out: maps with graph.element_at. Indices count from the end when negative; ONNX leaves
indices out of bounds undefined, here they are clamped, so that no kernel ever reads outside its tensors.
"""

from __future__ import annotations

from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.errors import ModelError
from ....runtime.symbolic import ONE, Expression
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Tensor


def in_bounds(position: Scalar, size: Expression) -> Scalar:
    """An index as ONNX means it: wrapped once when negative, clamped to the dimension."""
    wide, extent = position.cast("i64"), build.dimension(size)
    wrapped = wide.lt(0).select(wide + extent, wide)
    return wrapped.clip(0, extent - 1)


@onnx_operator("Gather")
def gather(node: Node) -> ir.Value:
    """data[..., indices, ...] along one axis; an evenly spaced constant row of indices is a slice."""
    data, indices = node.input(0), node.input(1)
    axis = node.axis(node.get("axis", 0), data.rank)
    shape = [*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :]]
    sliced = _as_slice(node, data, indices, axis)
    if sliced is not None:
        return build.reshape(sliced, shape)
    table, rows = data.value, indices.value

    def body() -> Scalar:
        places = [build.index(axis + offset) for offset in range(indices.rank)]
        found = in_bounds(build.element_at(rows, places), data.shape[axis])
        before = [build.index(position) for position in range(axis)]
        after = [build.index(position + indices.rank - 1) for position in range(axis + 1, data.rank)]
        return build.element_at(table, [*before, found, *after])

    return node.map([], body, shape=shape)


def _as_slice(node: Node, data: Tensor, indices: Tensor, axis: int) -> ir.Value | None:
    known = indices.known()
    if known is None or known.size == 0:
        return None
    size = data.shape[axis]
    positions = [item if isinstance(item, Expression) else None for item in known.ravel()]
    if any(item is None for item in positions):
        return None
    wrapped = [item + size if (item.as_constant() or 0) < 0 else item for item in positions if item is not None]
    steps = {wrapped[i + 1] - wrapped[i] for i in range(len(wrapped) - 1)} or {ONE}
    step = steps.pop().as_constant()
    if steps or step is None or step == 0:
        return None
    static = size.as_constant()
    if static is not None and any(not 0 <= (item.as_constant() or 0) < static for item in wrapped):
        raise ModelError(f"Gather index outside a dimension of size {static}")
    starts = [wrapped[0] if position == axis else Expression.constant(0) for position in range(data.rank)]
    if static is None:
        for end in (wrapped[0], wrapped[-1]):
            node.assume_nonnegative(size - 1 - end)
            node.assume_nonnegative(end)
    sizes = [Expression.constant(len(wrapped)) if i == axis else s for i, s in enumerate(data.shape)]
    strides = [step if position == axis else 1 for position in range(data.rank)]
    return build.slice(data.value, starts, sizes, strides)


@onnx_operator("GatherElements")
def gather_elements(node: Node) -> ir.Value:
    node.same_rank(0, 1)
    data, indices = node.input(0), node.input(1)
    axis = node.axis(node.get("axis", 0), data.rank)
    table = data.value

    def body(position: Scalar) -> Scalar:
        places = [build.index(number) for number in range(data.rank)]
        places[axis] = in_bounds(position, data.shape[axis])
        return build.element_at(table, places)

    return node.map([indices], body, shape=indices.shape)


@onnx_operator("GatherND")
def gather_nd(node: Node) -> ir.Value:
    data, indices = node.input(0), node.input(1)
    batches = int(node.get("batch_dims", 0))
    depth = indices.shape[-1].as_constant() if indices.rank else None
    if depth is None or not 0 < depth <= data.rank - batches:
        raise Unsupported("GatherND with index tuples of dynamic or wrong length", "static lengths up to the rank")
    shape = [*indices.shape[:-1], *data.shape[batches + depth :]]
    table, rows, length = data.value, indices.value, depth

    def body() -> Scalar:
        places = [build.index(position) for position in range(indices.rank - 1)]
        found = [
            in_bounds(build.element_at(rows, [*places, number]), data.shape[batches + number])
            for number in range(length)
        ]
        rest = [build.index(indices.rank - 1 + offset) for offset in range(data.rank - batches - length)]
        return build.element_at(table, [*places[:batches], *found, *rest])

    return node.map([], body, shape=shape)


@onnx_operator("ReverseSequence")
def reverse_sequence(node: Node) -> ir.Value:
    """The first `sequence_lens[b]` steps of every batch entry in reverse."""
    data, lengths = node.input(0), node.input(1)
    time = node.axis(int(node.get("time_axis", 0)), data.rank)
    batch = node.axis(int(node.get("batch_axis", 1)), data.rank)
    table, counts = data.value, lengths.value

    def body() -> Scalar:
        places = [build.index(position) for position in range(data.rank)]
        count = build.element_at(counts, [places[batch]]).cast("i64")
        turned = count - 1 - places[time]
        places[time] = (
            places[time].lt(count).select(turned, places[time]).clip(0, build.dimension(data.shape[time]) - 1)
        )
        return build.element_at(table, places)

    return node.map([], body, shape=data.shape)


@onnx_operator("Trilu")
def triangle(node: Node) -> ir.Value:
    x, upper = node.input(0), bool(node.get("upper", 1))
    inputs = [x, node.reshaped(node.input(1), [])] if node.has(1) else [x]

    def body(value: Scalar, *diagonal: Scalar) -> Scalar:
        offset = build.index(x.rank - 1) - build.index(x.rank - 2)
        limit = diagonal[0] if diagonal else Scalar.constant(0, "i64")
        return (offset.ge(limit) if upper else offset.le(limit)).select(value, 0)

    return node.map(inputs, body, shape=x.shape)


@onnx_operator("OneHot")
def one_hot(node: Node) -> ir.Value:
    """Off and on values are the two elements of the last input."""
    indices, values = node.input(0), node.input(2)
    depth = node.sizes(1, "depth")[0]
    axis = node.axis(node.get("axis", -1), indices.rank + 1)
    shape = [*indices.shape[:axis], depth, *indices.shape[axis:]]
    rows, choices = indices.value, values.value

    def body() -> Scalar:
        places = [build.index(position) for position in range(len(shape)) if position != axis]
        chosen, extent = build.element_at(rows, places).cast("i64"), build.dimension(depth)
        wrapped = chosen.lt(0).select(chosen + extent, chosen)
        on, off = build.element_at(choices, [1]), build.element_at(choices, [0])
        return build.index(axis).eq(wrapped).select(on, off)

    return node.map([], body, shape=shape)
