"""Functions that build operations of the `graph` dialect and compute their result types.

In: tensor values, symbolic shapes, Python functions over `Scalar` for the bodies of maps. Out: the result's
`ir.Value`, built at the current insertion point and location. Importers and passes use these instead of
spelling out operations.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from mlir import ir
from mlir.dialects import arith

from ..runtime.dtypes import DTYPES, from_numpy
from ..runtime.errors import InternalError
from ..runtime.symbolic import ONE, Expression, ExpressionLike, expression
from ..runtime.symbolic import product as symbolic_product
from .scalar import Scalar, is_float
from .tensors import Shape as Shape
from .tensors import element_of as element_of
from .tensors import element_type, scalar_type, tensor_type
from .tensors import rank_of as rank_of
from .tensors import shape_of as shape_of

Unify = Callable[[Expression, Expression], Expression]


def strict(left: Expression, right: Expression) -> Expression:
    """The size of two dimensions that must be equal. Raises InternalError when they are not provably so."""
    if left != right:
        raise InternalError(f"dimensions {left} and {right} are not known to be equal")
    return left


def broadcast_shapes(shapes: Sequence[Sequence[Expression]], unify: Unify = strict) -> Shape:
    """numpy's broadcast of symbolic shapes; `unify` decides about two sizes neither of which is 1."""
    rank = max((len(shape) for shape in shapes), default=0)
    result: list[Expression] = [ONE] * rank
    for shape in shapes:
        for axis, size in enumerate(shape, start=rank - len(shape)):
            if size == result[axis] or size == ONE:
                continue
            result[axis] = size if result[axis] == ONE else unify(result[axis], size)
    return tuple(result)


def build(
    name: str,
    shape: Sequence[ExpressionLike],
    element: str,
    operands: Sequence[ir.Value] = (),
    blocks: Sequence[ir.Block] = (),
    **attributes: Any,
) -> ir.Value:
    """One `graph` operation with one result. Python attributes become MLIR ones; `blocks` are moved in."""
    operation = ir.Operation.create(
        f"graph.{name}",
        results=[tensor_type(shape, element)],
        operands=list(operands),
        attributes={key: attribute(value) for key, value in attributes.items()},
        regions=len(blocks),
    )
    for region, block in zip(operation.regions, blocks, strict=True):
        block.append_to(region)
    return operation.result


def attribute(value: Any) -> ir.Attribute:
    """str -> string, int -> i64, list of int -> dense array, tuple of expressions -> array of strings."""
    if isinstance(value, ir.Attribute):
        return value
    if isinstance(value, str):
        return ir.StringAttr.get(value)
    if isinstance(value, (bool, int)):
        return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), int(value))
    if isinstance(value, list):
        return ir.DenseI64ArrayAttr.get(value)
    if isinstance(value, tuple):
        return ir.ArrayAttr.get([ir.StringAttr.get(str(item)) for item in value])
    raise TypeError(f"no attribute for {value!r}")


def expressions(values: Sequence[ExpressionLike]) -> tuple[Expression, ...]:
    """Symbolic integers from integers, texts or expressions."""
    return tuple(expression(value) for value in values)


# Constants --------------------------------------------------------------------------------------------------
def weight(handle: str, shape: Sequence[ExpressionLike], element: str) -> ir.Value:
    """The constant tensor kept under `handle` in the unit's weight store."""
    return build("weight", shape, element, handle=handle)


def constant(array: np.ndarray[Any, Any] | float | int | bool, element: str | None = None) -> ir.Value:
    """A small constant tensor inside the IR (16 elements at most)."""
    values = np.asarray(array, dtype=DTYPES[element].numpy if element else None)
    name = element or from_numpy(values.dtype).name
    return build("constant", values.shape, name, value=dense(values, name))


def dense(values: np.ndarray[Any, Any], element: str) -> ir.Attribute:
    """A dense attribute from an array of the dtype's numpy type."""
    shape = "x".join([*(str(size) for size in values.shape), str(element_type(element))])
    if values.size == 0:
        return ir.Attribute.parse(f"dense<> : tensor<{shape}>")
    if element == "i1":
        flat = [bool(value) for value in values.ravel()]
        if len(set(flat)) == 1:
            return ir.Attribute.parse(f"dense<{str(flat[0]).lower()}> : tensor<{shape}>")
        nested = str(values.astype(bool).tolist()).lower()
        return ir.Attribute.parse(f"dense<{nested}> : tensor<{shape}>")
    return ir.Attribute.parse(f'dense<"0x{np.ascontiguousarray(values).tobytes().hex().upper()}"> : tensor<{shape}>')


# Pointwise --------------------------------------------------------------------------------------------------
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


def cast(tensor: ir.Value, element: str) -> ir.Value:
    """The tensor converted as ONNX Cast does; itself when it has that dtype already."""
    if element_of(tensor) == element:
        return tensor
    return map([tensor], lambda x: x.cast(element))


# Data movement ----------------------------------------------------------------------------------------------
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


# Reductions -------------------------------------------------------------------------------------------------
def reduced_shape(shape: Sequence[Expression], axes: Sequence[int]) -> Shape:
    """`shape` with size 1 at `axes`."""
    return tuple(ONE if axis in axes else size for axis, size in enumerate(shape))


def reduce(tensor: ir.Value, kind: str, axes: Sequence[int], element: str | None = None) -> ir.Value:
    """`kind` of sum, product, max, min over `axes` (not negative), which stay as size 1; none: the tensor."""
    if not axes:
        return cast(tensor, element or element_of(tensor))
    shape = reduced_shape(shape_of(tensor), axes)
    dtype = element or element_of(tensor)
    if any(size == 0 for size in (*shape_of(tensor), *shape)):
        return splat(neutral(kind, dtype), shape, dtype)
    return build("reduce", shape, dtype, [tensor], kind=kind, axes=sorted(axes))


def element_count(sizes: Sequence[Expression], dtype: str) -> Scalar:
    """In a map: the product of `sizes` in that dtype."""
    total = ONE
    for size in sizes:
        total = total * size
    return dimension(total).cast(dtype)


def mean(tensor: ir.Value, axes: Sequence[int]) -> ir.Value:
    """Arithmetic mean over `axes`, which stay as size 1."""
    shape, element = shape_of(tensor), element_of(tensor)
    sizes = [shape[axis] for axis in axes]
    return map([reduce(tensor, "sum", axes)], lambda total: total / element_count(sizes, element))


def arg_reduce(tensor: ir.Value, kind: str, axis: int, last: bool = False) -> ir.Value:
    """Index (i64) of the max or min along `axis`, which stays as size 1; of equals the first, or the `last`.

    The extreme first, then the least index where it stands: two reductions, which share a kernel. A NaN is extreme.
    """
    extreme, choice = reduce(tensor, kind, [axis]), "max" if last else "min"
    nowhere = neutral(choice, "i32")

    def place(value: Scalar, best: Scalar) -> Scalar:
        found = value.eq(best)
        if is_float(element_of(tensor)):
            found = found | (value.ne(value) & best.ne(best))
        return found.select(index(axis).cast("i32"), nowhere)

    return cast(reduce(map([tensor, extreme], place), choice, [axis]), "i64")


def scan(tensor: ir.Value, kind: str, axis: int, exclusive: bool = False, reverse: bool = False) -> ir.Value:
    """Running `kind` (sum, product, max, min) along `axis`."""
    options: dict[str, Any] = {"kind": kind, "axis": axis, "exclusive": int(exclusive), "reverse": int(reverse)}
    return build("scan", shape_of(tensor), element_of(tensor), [tensor], **options)


def sort(keys: ir.Value, run: int = 0) -> ir.Value:
    """Positions (i32) along the last axis in the order of unsigned keys, inside runs of `run` elements (0: all)."""
    return build("sort", shape_of(keys), "i32", [keys], run=run)


SCATTERED = ("f32", "f64", "i32", "i64", "ui32", "ui64")  # what atomic operations combine


def scatter(
    places: ir.Value,
    updates: ir.Value,
    kind: str,
    shape: Sequence[ExpressionLike] = (),
    initial: ir.Value | None = None,
) -> ir.Value:
    """`initial`, or zeros of `shape`, with every update combined (sum, product, max) at its flat place; of one of the
    types `SCATTERED`.
    """
    if initial is None:
        return build("scatter", shape, element_of(updates), [places, updates], kind=kind)
    return build("scatter", shape_of(initial), element_of(updates), [places, updates, initial], kind=kind)


# Windows and contractions -----------------------------------------------------------------------------------
def window_output(
    size: Expression, kernel: int, stride: int, low: ExpressionLike, high: ExpressionLike, dilation: int
) -> Expression:
    """Number of window positions along one dimension, rounded down."""
    covered = size + low + high - ((kernel - 1) * dilation + 1)
    return covered // stride + 1


def pool(
    tensor: ir.Value,
    kind: str,
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[ExpressionLike],
    dilations: Sequence[int],
    include_padding: bool = False,
    output: Sequence[ExpressionLike] | None = None,
) -> ir.Value:
    """Channels-first windows over the third dimension and on; `output` overrides the sizes (ceil mode)."""
    shape, rank = shape_of(tensor), len(kernel)
    sizes = output or [
        window_output(shape[2 + i], kernel[i], strides[i], pads[i], pads[rank + i], dilations[i]) for i in range(rank)
    ]
    attributes: dict[str, Any] = {"kind": kind, "kernel": list(kernel), "include_padding": int(include_padding)}
    window = _window(strides, pads, dilations)
    return build("pool", [*shape[:2], *sizes], element_of(tensor), [tensor], **attributes, **window)


def _window(strides: Sequence[int], pads: Sequence[ExpressionLike], dilations: Sequence[int]) -> dict[str, Any]:
    return {
        "strides": list(strides),
        "pads": expressions(pads),
        "dilations": list(dilations),
        "layout": "channels_first",
    }


def matmul(
    left: ir.Value,
    right: ir.Value,
    transpose_left: bool = False,
    transpose_right: bool = False,
    element: str | None = None,
    unify: Unify = strict,
) -> ir.Value:
    """[..., M, K] x [..., K, N] -> [..., M, N]; both of rank 2 at least; batch dimensions broadcast."""
    first, second = shape_of(left), shape_of(right)
    rows, depth = (first[-1], first[-2]) if transpose_left else (first[-2], first[-1])
    other_depth, columns = (second[-1], second[-2]) if transpose_right else (second[-2], second[-1])
    if depth != other_depth:
        unify(depth, other_depth)
    shape = [*broadcast_shapes([first[:-2], second[:-2]], unify), rows, columns]
    flags: dict[str, Any] = {"transpose_left": int(transpose_left), "transpose_right": int(transpose_right)}
    return build("matmul", shape, element or element_of(left), [left, right], **flags)


def convolution(
    tensor: ir.Value,
    kernel: ir.Value,
    groups: int,
    strides: Sequence[int],
    pads: Sequence[ExpressionLike],
    dilations: Sequence[int],
    element: str | None = None,
) -> ir.Value:
    """Channels-first: tensor [N, C, spatial...], kernel [O, C/groups, sizes...] of static sizes."""
    shape, weights = shape_of(tensor), shape_of(kernel)
    rank = len(shape) - 2
    sizes = [
        window_output(
            shape[2 + i],
            int(weights[2 + i].as_constant() or 0),
            strides[i],
            pads[i],
            pads[rank + i],
            dilations[i],
        )
        for i in range(rank)
    ]
    window = _window(strides, pads, dilations)
    result = [shape[0], weights[0], *sizes]
    return build("convolution", result, element or element_of(tensor), [tensor, kernel], groups=groups, **window)


def convolution_transpose(
    tensor: ir.Value,
    kernel: ir.Value,
    groups: int,
    strides: Sequence[int],
    pads: Sequence[ExpressionLike],
    dilations: Sequence[int],
    output: Sequence[ExpressionLike],
) -> ir.Value:
    """Channels-first: tensor [N, C, spatial...], kernel [C, O/groups, sizes...]; `output`: spatial sizes."""
    result = [shape_of(tensor)[0], shape_of(kernel)[1] * groups, *expressions(output)]
    window = _window(strides, pads, dilations)
    return build("convolution_transpose", result, element_of(tensor), [tensor, kernel], groups=groups, **window)


# The host's part --------------------------------------------------------------------------------------------
def object_type() -> ir.Type:
    """The type of a host value."""
    return ir.Type.parse("!graph.object")


def download(tensor: ir.Value) -> ir.Value:
    """The whole tensor as a host value."""
    return ir.Operation.create("graph.download", results=[object_type()], operands=[tensor]).result


def upload(value: ir.Value, shape: Sequence[ExpressionLike], element: str) -> ir.Value:
    """The host value, which must be an array of that element type and shape or a list of as many elements, as a tensor."""
    return build("upload", shape, element, [value])


def keep(tensor: ir.Value) -> ir.Value:
    """A copy of the whole tensor on the device, as a host value that holds it."""
    return ir.Operation.create("graph.keep", results=[object_type()], operands=[tensor]).result


def fetch(value: ir.Value) -> ir.Value:
    """The host value with what it keeps on the device brought to the host."""
    return ir.Operation.create("graph.fetch", results=[object_type()], operands=[value]).result


def host(
    function: str,
    values: Sequence[ir.Value],
    results: int,
    options: Mapping[str, Any] | None = None,
    sizes: Sequence[ExpressionLike] = (),
    symbols: Sequence[str] = (),
) -> ir.Operation:
    """A call of a function of runtime/host_functions; its results are host values."""
    attributes = {
        "function": function,
        "options": json.dumps(dict(options or {}), sort_keys=True),
        "sizes": expressions(sizes),
        "symbols": tuple(symbols),
    }
    return ir.Operation.create(
        "graph.host",
        results=[object_type()] * results,
        operands=list(values),
        attributes={key: attribute(value) for key, value in attributes.items()},
    )


# Recurrence -------------------------------------------------------------------------------------------------
def lstm(
    gates: ir.Value,
    recurrence: ir.Value,
    hidden: ir.Value,
    cell: ir.Value,
    peepholes: ir.Value,
    reverse: bool,
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """One direction: gates [T, N, 4H] -> Y [T, N, H], Y_h and Y_c [N, H]."""
    operands = [gates, recurrence, hidden, cell, peepholes]
    results = _recurrent("lstm", operands, 3, reverse=int(reverse))
    return results[0], results[1], results[2]


def gru(
    gates: ir.Value,
    recurrence: ir.Value,
    bias: ir.Value,
    hidden: ir.Value,
    reverse: bool,
    linear_before_reset: bool,
) -> tuple[ir.Value, ir.Value]:
    """One direction: gates [T, N, 3H] -> Y [T, N, H], Y_h [N, H]."""
    flags = {"reverse": int(reverse), "linear_before_reset": int(linear_before_reset)}
    results = _recurrent("gru", [gates, recurrence, bias, hidden], 2, **flags)
    return results[0], results[1]


def _recurrent(name: str, operands: list[ir.Value], count: int, **attributes: Any) -> list[ir.Value]:
    steps, batch, _ = shape_of(operands[0])
    hidden = shape_of(operands[1])[1]
    state = tensor_type([batch, hidden], element_of(operands[0]))
    sequence = tensor_type([steps, batch, hidden], element_of(operands[0]))
    operation = ir.Operation.create(
        f"graph.{name}",
        results=[sequence, *[state] * (count - 1)],
        operands=operands,
        attributes={key: attribute(value) for key, value in attributes.items()},
    )
    return list(operation.results)


def splat(value: float | int | bool, shape: Sequence[ExpressionLike], element: str) -> ir.Value:
    """A tensor of one repeated value, as a map that later fuses into its users."""
    return map([], lambda: Scalar.constant(value, element), shape=shape)


def neutral(kind: str, element: str) -> float | int:
    """The neutral element of a reduction in that dtype."""
    if kind in ("sum", "product"):
        return 0 if kind == "sum" else 1
    if is_float(element):
        return float("-inf") if kind == "max" else float("inf")
    if element == "i1":
        return 0 if kind == "max" else 1
    information = np.iinfo(DTYPES[element].numpy)
    return int(information.min if kind == "max" else information.max)


def true() -> ir.Value:
    """A host-side `arith.constant true`."""
    return arith.ConstantOp(scalar_type("i1"), ir.BoolAttr.get(True)).result


def product(sizes: Sequence[Expression]) -> Expression:
    """The number of elements of a shape."""
    return symbolic_product(tuple(sizes))
