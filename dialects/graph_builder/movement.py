"""Data movement: reshapes, transposes, slices, concatenations, padding.

In: tensors and symbolic sizes. Out: the same elements elsewhere; where nothing moves the tensor itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlir import ir

from ...runtime.symbolic import ONE, ExpressionLike
from ..tensors import Shape, element_of, rank_of, shape_of
from .operations import Unify, build, expressions, strict


def reshape(tensor: ir.Value, shape: Sequence[ExpressionLike]) -> ir.Value:
    """The same elements in row-major order; itself when the shape is the same already."""
    wanted = expressions(shape)
    return tensor if wanted == shape_of(tensor) else build("reshape", wanted, element_of(tensor), [tensor])


def expand_dimensions(tensor: ir.Value, axes: Sequence[int]) -> ir.Value:
    """New dimensions of size 1 at `axes` of the result (not negative)."""
    sizes = iter(shape_of(tensor))
    rank = rank_of(tensor) + len(axes)
    return reshape(tensor, [ONE if axis in axes else next(sizes) for axis in range(rank)])


def remove_dimensions(tensor: ir.Value, axes: Sequence[int]) -> ir.Value:
    """Without the dimensions `axes`, which must have size 1."""
    return reshape(tensor, [size for axis, size in enumerate(shape_of(tensor)) if axis not in axes])


def transpose(tensor: ir.Value, permutation: Sequence[int]) -> ir.Value:
    """Dimension d of the result is dimension permutation[d] of the tensor."""
    if list(permutation) == list(range(len(permutation))):
        return tensor
    shape = shape_of(tensor)
    sizes = [shape[axis] for axis in permutation]
    return build("transpose", sizes, element_of(tensor), [tensor], permutation=list(permutation))


def broadcast(tensor: ir.Value, shape: Sequence[ExpressionLike]) -> ir.Value:
    """Stretched to `shape` as numpy does; itself when the shape is the same already."""
    wanted = expressions(shape)
    return tensor if wanted == shape_of(tensor) else build("broadcast", wanted, element_of(tensor), [tensor])


def slice(
    tensor: ir.Value,
    starts: Sequence[ExpressionLike],
    sizes: Sequence[ExpressionLike],
    steps: Sequence[int] | None = None,
) -> ir.Value:
    """``output[i] = tensor[starts + i*steps]`` of shape `sizes`."""
    strides = list(steps) if steps is not None else [1] * len(starts)
    begin, wanted = expressions(starts), expressions(sizes)
    if wanted == shape_of(tensor) and all(item == 0 for item in begin) and set(strides) <= {1}:
        return tensor
    return build("slice", wanted, element_of(tensor), [tensor], starts=begin, steps=strides)


def concatenate(tensors: Sequence[ir.Value], axis: int, unify: Unify = strict) -> ir.Value:
    """One after the other along `axis` (not negative); the other dimensions must agree."""
    if len(tensors) == 1:
        return tensors[0]
    shapes = [list(shape_of(tensor)) for tensor in tensors]
    result = shapes[0]
    for shape in shapes[1:]:
        for position, size in enumerate(shape):
            if position == axis:
                result[axis] = result[axis] + size
            elif result[position] != size:
                result[position] = unify(result[position], size)
    return concatenate_to(result, tensors, axis)


def concatenate_to(shape: Sequence[ExpressionLike], tensors: Sequence[ir.Value], axis: int) -> ir.Value:
    """One after the other along `axis` in a tensor of `shape`, whose sizes may be written in another way."""
    return build("concatenate", shape, element_of(tensors[0]), blocks=[_yielding(tensors)], axis=axis)


def _yielding(tensors: Sequence[ir.Value]) -> ir.Block:
    """The block of an operation that captures tensors of different shapes."""
    holder = ir.Operation.create("graph.concatenate", regions=1, ip=False)
    block = holder.regions[0].blocks.append()
    with ir.InsertionPoint(block):
        ir.Operation.create("gpu.yield", operands=list(tensors))
    return block


def join(parts: Sequence[ir.Value], axis: int, shape: Shape, place: ir.Attribute | None = None) -> ir.Value:
    """The parts along `axis`, which lie in the memory of the result, of `shape`, already."""
    optional = {} if place is None else {"place": place}
    return build("join", shape, element_of(parts[0]), blocks=[_yielding(parts)], axis=axis, **optional)


def pad(tensor: ir.Value, value: ir.Value, low: Sequence[ExpressionLike], high: Sequence[ExpressionLike]) -> ir.Value:
    """`low` and `high` elements of the 0-d tensor `value` on each side (negative: cropped)."""
    begin, end = expressions(low), expressions(high)
    if all(item == 0 for item in (*begin, *end)):
        return tensor
    sizes = [size + first + last for size, first, last in zip(shape_of(tensor), begin, end, strict=True)]
    return build("pad", sizes, element_of(tensor), [tensor, value], low=begin)
