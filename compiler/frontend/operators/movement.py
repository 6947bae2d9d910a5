"""Operators that move elements without computing on them.

In: a tensor and symbolic sizes, starts or repeats. Out: graph.reshape, transpose, slice, concatenate,
broadcast.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlir import ir

from ....dialects import graph_builder as build
from ....runtime.errors import ModelError
from ....runtime.symbolic import ONE, ZERO, Expression, maximum, minimum
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Tensor

FAR = 10**9  # ends at least this large mean "to the end"


@onnx_operator("Reshape")
def reshape(node: Node) -> Tensor:
    """0 copies a size (unless `allowzero`), -1 takes what is left."""
    x = node.input(0)
    if "shape" in node.attributes:  # opset 1
        wanted = [Expression.constant(size) for size in node.get("shape")]
    else:
        wanted = node.sizes(1, "shape", "reshape_sizes", x.shape)
    return node.reshaped(x, reshaped_sizes(node, x, wanted))


def reshaped_sizes(node: Node, x: Tensor, wanted: Sequence[Expression]) -> list[Expression]:
    """The sizes with 0 and -1 replaced. Raises ModelError when the numbers of elements cannot agree."""
    sizes = list(wanted)
    if not node.get("allowzero", 0):
        for axis, size in enumerate(sizes):
            if size == 0:
                if axis >= x.rank:
                    raise ModelError(f"Reshape copies dimension {axis} of a tensor of rank {x.rank}")
                sizes[axis] = x.shape[axis]
    total = build.product(x.shape)
    unknown = [axis for axis, size in enumerate(sizes) if size == -1]
    if len(unknown) > 1:
        raise ModelError("Reshape with more than one -1")
    if unknown:
        rest = build.product([size for axis, size in enumerate(sizes) if axis != unknown[0]])
        if rest == 0:
            raise ModelError("Reshape with -1 beside a size of 0")
        quotient = total.exact_divide(rest)
        sizes[unknown[0]] = quotient if quotient is not None else total // rest
    node.unify(build.product(sizes), total)
    return sizes


@onnx_operator("Flatten")
def flatten(node: Node) -> Tensor:
    x = node.input(0)
    axis = int(node.get("axis", 1))
    axis = axis + x.rank if axis < 0 else axis
    return node.reshaped(x, [build.product(x.shape[:axis]), build.product(x.shape[axis:])])


@onnx_operator("Squeeze")
def squeeze(node: Node) -> Tensor:
    x = node.input(0)
    axes = node.axes_input(1)
    ones = [axis for axis, size in enumerate(x.shape) if size == 1]
    gone = ones if axes is None else node.axes(axes, x.rank)
    for axis in gone:
        node.unify(x.shape[axis], ONE)
    return node.reshaped(x, [size for axis, size in enumerate(x.shape) if axis not in gone])


@onnx_operator("Unsqueeze")
def unsqueeze(node: Node) -> Tensor:
    x = node.input(0)
    given = node.axes_input(1) or []
    axes = node.axes(given, x.rank + len(given))
    if len(axes) != len(given):
        raise ModelError(f"Unsqueeze with repeated axes {given}")
    sizes = iter(x.shape)
    return node.reshaped(x, [ONE if axis in axes else next(sizes) for axis in range(x.rank + len(axes))])


@onnx_operator("Transpose")
def transpose(node: Node) -> ir.Value:
    rank = node.rank(0)
    permutation = list(node.get("perm") or range(rank - 1, -1, -1))
    if sorted(permutation) != list(range(rank)):
        raise ModelError(f"Transpose with perm {permutation} of a tensor of rank {rank}")
    return build.transpose(node.value(0), permutation)


@onnx_operator("Concat")
def concat(node: Node) -> ir.Value | Tensor:
    """Empty tensors of other rank do not matter; a single input is returned as it is."""
    tensors = [tensor for tensor in node.inputs if tensor is not None]
    axis = node.axis(node.get("axis", 1 if node.version < 4 else 0), tensors[0].rank)
    filled = [tensor for tensor in tensors if tensor.size != 0] or tensors[:1]
    if any(tensor.rank != filled[0].rank for tensor in filled):
        raise ModelError("Concat of tensors of different rank")
    return build.concatenate([tensor.value for tensor in filled], axis, node.unify)


@onnx_operator("Split")
def split(node: Node) -> list[ir.Value]:
    """Sizes from an attribute, an input, or equal parts (the last one smaller, since opset 18)."""
    x = node.input(0)
    axis = node.axis(node.get("axis", 0), x.rank)
    size = x.shape[axis]
    if node.has(1):
        sizes = node.sizes(1, "sizes")
    elif node.get("split"):
        sizes = [Expression.constant(value) for value in node.get("split")]
    else:
        count = int(node.get("num_outputs", len(node.outputs)))
        if count != len(node.outputs):
            raise ModelError(f"Split into {count} parts has {len(node.outputs)} outputs")
        part = size.ceil_divide(count)
        sizes = [part] * (count - 1) + [size - part * (count - 1)]
    node.unify(sum(sizes, ZERO), size)
    results, start = [], ZERO
    for part in sizes:
        starts = [start if position == axis else ZERO for position in range(x.rank)]
        shape = [part if position == axis else other for position, other in enumerate(x.shape)]
        results.append(build.slice(x.value, starts, shape))
        start = start + part
    return results


# Slice ------------------------------------------------------------------------------------------------------
@onnx_operator("Slice")
def slice_tensor(node: Node) -> ir.Value | Tensor:
    """Starts and ends clamp to the dimension; negative ones count from its end."""
    x = node.input(0)
    if node.version < 10:
        starts = [Expression.constant(value) for value in node.get("starts")]
        ends = [Expression.constant(value) for value in node.get("ends")]
        axes, steps = node.get("axes") or list(range(len(starts))), [1] * len(starts)
    else:
        if node.input(1).known() is None or node.input(2).known() is None:
            return _computed_slice(node, x)
        starts, ends = node.sizes(1, "starts"), node.sizes(2, "ends")
        axes = node.integers(3, "axes") if node.has(3) else list(range(len(starts)))
        steps = node.integers(4, "steps") if node.has(4) else [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise ModelError("Slice with starts, ends, axes and steps of different lengths")
    begin, shape, strides = [ZERO] * x.rank, list(x.shape), [1] * x.rank
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        position = node.axis(axis, x.rank)
        if step == 0:
            raise ModelError("Slice with step 0")
        begin[position], shape[position] = _range(node, x.shape[position], start, end, step)
        strides[position] = step
    return build.slice(x.value, begin, shape, strides)


def _computed_slice(node: Node, x: Tensor) -> ir.Value:
    """Starts or ends that depend on data: the host finds the first element and the number of elements."""
    count = node.computed(1, "starts").size or 0
    given = node.integers(3, "axes") if node.has(3) else list(range(count))
    steps = node.integers(4, "steps") if node.has(4) else [1] * count
    if not count == node.computed(2, "ends").size == len(given) == len(steps):
        raise ModelError("Slice with starts, ends, axes and steps of different lengths")
    axes = [node.axis(axis, x.rank) for axis in given]
    begin, shape, strides = [ZERO] * x.rank, list(x.shape), [1] * x.rank
    sizes = [x.shape[axis] for axis in axes]
    inputs = [node.computed(1, "starts"), node.computed(2, "ends")]
    bounds = node.found("slice_bounds", inputs, 2 * count, options={"steps": steps}, sizes=sizes)
    for number, axis in enumerate(axes):
        begin[axis], shape[axis], strides[axis] = bounds[2 * number], bounds[2 * number + 1], steps[number]
    return build.slice(x.value, begin, shape, strides)


def _range(
    node: Node, size: Expression, start: Expression, end: Expression, step: int
) -> tuple[Expression, Expression]:
    """(first element, number of elements)"""
    if step > 0:
        first, last = _bound(node, start, size, ZERO, size), _bound(node, end, size, ZERO, size)
        span = last - first
    else:
        first = _bound(node, start, size, Expression.constant(-1), size - 1)
        last = _bound(node, end, size, Expression.constant(-1), size - 1)
        span = first - last
    if step == 1 and first == 0 and last == size:
        return ZERO, size
    if last == size:  # written with one of two clamped positions
        if first == minimum(start, size):
            span = maximum(size - start, ZERO)
        elif first == maximum(start + size, ZERO):
            span = minimum(-start, size)
    known = span.as_constant()
    if known is not None and known <= 0:
        return ZERO, ZERO
    count = span.ceil_divide(abs(step))
    return first, count if count.is_nonnegative() else maximum(count, 0)


def _bound(node: Node, value: Expression, size: Expression, low: Expression, high: Expression) -> Expression:
    """A start or end within [low, high].

    A symbolic end of a constant dimension (positions[:s]) is assumed to lie inside, and a symbolic dimension whose last
    or first element is left out (x[:-1], x[1:], x[:0:-1]) to have one, so that sizes stay sums: constraints that are
    checked at run time.
    """
    constant, static = value.as_constant(), size.as_constant()
    if constant is not None and static is not None:
        absolute = constant + static if constant < 0 else constant
        return Expression.constant(min(max(absolute, low.as_constant() or 0), high.as_constant() or 0))
    if constant is not None:
        if constant >= FAR:
            return high
        if constant <= -FAR:
            return low
        if constant < 0:
            position = value + size
            if constant == -1 and low == 0:
                return node.assume_nonnegative(position)
            return position if (position - low).is_nonnegative() else maximum(position, low)
        if constant == 0 and low == 0:
            return ZERO
        return _least(node, value, high, assume=constant == low + 1)
    if (-value).is_nonnegative():  # x[-s:]
        position = value + size
        # Where s is 0 this is x[0:]: the same only where s is the whole dimension.
        return ZERO if position == 0 else node.assume_nonnegative(node.unify(-value, maximum(-value, 1)) * -1 + size)
    return _least(node, node.assume_nonnegative(value), high, assume=static is not None)


def _least(node: Node, value: Expression, high: Expression, assume: bool) -> Expression:
    if (high - value).is_nonnegative():
        return value
    if (value - high).is_nonnegative():
        return high
    return node.unify(value, minimum(value, high)) if assume else minimum(value, high)


# Broadcast --------------------------------------------------------------------------------------------------
@onnx_operator("Expand")
def expand(node: Node) -> ir.Value:
    if node.input(1).known() is None:
        return _computed_expand(node)
    shape = build.broadcast_shapes([node.shape(0), node.sizes(1, "shape")], node.unify)
    return build.broadcast(node.value(0), shape)


def _computed_expand(node: Node) -> ir.Value:
    """A shape that depends on data: only dimensions that are 1 while compiling stretch."""
    x = node.input(0)
    given = node.computed(1, "shape")
    sizes = [*[ONE] * max((given.size or 0) - x.rank, 0), *x.shape]
    shape = node.found("expand_sizes", [given], len(sizes), sizes=sizes)
    known = node.or_known(1, shape) if len(sizes) == given.size else shape
    for found, size in zip(shape, sizes, strict=True):
        if size != 1:
            node.unify(size, found)
    return build.broadcast(x.value, [found if size == 1 else size for found, size in zip(known, sizes, strict=True)])


@onnx_operator("Tile")
def tile(node: Node) -> ir.Value | Tensor:
    """Each dimension becomes [repeats, size], is broadcast, and is merged again."""
    x = node.input(0)
    given = node.input(1)
    if given.rank == 1 and given.size is None:  # a run finds how many there are: as many as dimensions
        node.unify(given.shape[0], Expression.constant(x.rank))
        node.inputs[1] = node.reshaped(given, [x.rank])
    repeats = node.sizes(1, "repeats")
    if len(repeats) != x.rank:
        raise ModelError(f"Tile with {len(repeats)} repeats of a tensor of rank {x.rank}")
    if all(count == 1 for count in repeats):
        return x
    narrow = [item for size in x.shape for item in (ONE, size)]
    spread = [item for size, count in zip(x.shape, repeats, strict=True) for item in (count, size)]
    merged = [size * count for size, count in zip(x.shape, repeats, strict=True)]
    return build.reshape(build.broadcast(node.reshaped(x, narrow).value, spread), merged)


@onnx_operator("DepthToSpace")
def depth_to_space(node: Node) -> ir.Value:
    x, block = node.input(0), int(node.get("blocksize"))
    batch, channels, height, width = _image(node, x)
    depth = channels // (block * block)
    split_shape: list[Expression | int]
    if node.get("mode", "DCR") == "DCR":
        split_shape, order = [batch, block, block, depth, height, width], [0, 3, 4, 1, 5, 2]
    else:
        split_shape, order = [batch, depth, block, block, height, width], [0, 1, 4, 2, 5, 3]
    value = build.transpose(build.reshape(x.value, split_shape), order)
    return build.reshape(value, [batch, depth, height * block, width * block])


@onnx_operator("SpaceToDepth")
def space_to_depth(node: Node) -> ir.Value:
    x, block = node.input(0), int(node.get("blocksize"))
    batch, channels, height, width = _image(node, x)
    rows, columns = height // block, width // block
    value = build.reshape(x.value, [batch, channels, rows, block, columns, block])
    order = [0, 3, 5, 1, 2, 4] if node.get("mode", "DCR") == "DCR" else [0, 1, 3, 5, 2, 4]
    return build.reshape(build.transpose(value, order), [batch, channels * (block * block), rows, columns])


def _image(node: Node, x: Tensor) -> Sequence[Expression]:
    if x.rank != 4:
        raise Unsupported(f"{node.operator} of a tensor of rank {x.rank}", "rank 4")
    return x.shape
