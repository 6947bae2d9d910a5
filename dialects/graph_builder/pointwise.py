"""Maps: a Python function over `Scalar` becomes the body of one operation.

In: tensors, and a function of one Scalar an input. Out: the tensor of its results at every position of a shape. What the
function may ask for besides its arguments, positions and elements elsewhere, stands here too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlir import ir

from ...runtime.symbolic import ONE, Expression, ExpressionLike, expression
from ..scalar import Scalar
from ..tensors import element_of, scalar_type, shape_of
from .operations import Unify, attribute, broadcast_shapes, build, expressions, strict


def map(
    inputs: Sequence[ir.Value],
    function: Callable[..., Scalar],
    shape: Sequence[ExpressionLike] | None = None,
    element: str | None = None,
    unify: Unify = strict,
) -> ir.Value:
    """`function` of one Scalar an input at every position of `shape` (by default the inputs' broadcast
    shape).

    The result has the dtype of what the function returns, cast to `element` when that is given. The function
    may use `index`, `dimension` and `element_at`.
    """
    result_shape = (
        broadcast_shapes([shape_of(value) for value in inputs], unify) if shape is None else expressions(shape)
    )
    # The result's dtype is known only after the body is built, so the body grows in a block that moves
    # afterwards.
    holder = ir.Operation.create("graph.map", regions=1, ip=False)
    block = holder.regions[0].blocks.append()
    with ir.InsertionPoint(block):
        result = function(*[element_here(value) for value in inputs])
        result = result.cast(element) if element else result
        ir.Operation.create("gpu.yield", operands=[result.value])
    return build("map", result_shape, result.dtype, blocks=[block])


def element_here(tensor: ir.Value) -> Scalar:
    """In a map: the tensor's element at the current position, broadcast."""
    element = element_of(tensor)
    operation = ir.Operation.create("graph.element", results=[scalar_type(element)], operands=[tensor])
    return Scalar(operation.result, element)


def element_at(tensor: ir.Value, indices: Sequence[Scalar | int]) -> Scalar:
    """In a map: the element at i64 indices, one a dimension, which must be in bounds and not negative."""
    element = element_of(tensor)
    values = [(item if isinstance(item, Scalar) else Scalar.constant(item, "i64")).value for item in indices]
    operation = ir.Operation.create("graph.element_at", results=[scalar_type(element)], operands=[tensor, *values])
    return Scalar(operation.result, element)


def index(axis: int) -> Scalar:
    """In a map: the current position along `axis`, i64."""
    i64 = ir.IntegerType.get_signless(64)
    operation = ir.Operation.create("graph.index", results=[i64], attributes={"axis": attribute(axis)})
    return Scalar(operation.result, "i64")


def dimension(size: ExpressionLike) -> Scalar:
    """In a map: the value of a symbolic integer, i64; a literal when it is constant."""
    value = expression(size)
    known = value.as_constant()
    if known is not None:
        return Scalar.constant(known, "i64")
    i64 = ir.IntegerType.get_signless(64)
    operation = ir.Operation.create("graph.dimension", results=[i64], attributes={"expression": attribute(str(value))})
    return Scalar(operation.result, "i64")


def element_count(sizes: Sequence[Expression], dtype: str) -> Scalar:
    """In a map: the product of `sizes` in that dtype."""
    total = ONE
    for size in sizes:
        total = total * size
    return dimension(total).cast(dtype)


def cast(tensor: ir.Value, element: str) -> ir.Value:
    """The tensor converted as ONNX Cast does; itself when it has that dtype already."""
    if element_of(tensor) == element:
        return tensor
    return map([tensor], lambda x: x.cast(element))


def splat(value: float | int | bool, shape: Sequence[ExpressionLike], element: str) -> ir.Value:
    """A tensor of one repeated value, as a map that later fuses into its users."""
    return map([], lambda: Scalar.constant(value, element), shape=shape)
