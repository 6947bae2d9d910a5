"""Shape arithmetic: what small integer tensors hold, followed symbolically through the graph.

In: a node whose inputs are known as object arrays of expressions (sizes, starts, repeats), with None for elements that
depend on data. Out: its outputs known in the same way, or None. This is what lets Reshape, Expand, Slice or Range have
symbolic shapes without any run-time shape computation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ...runtime.errors import ModelError
from ...runtime.symbolic import Expression
from .element_arithmetic import ELEMENTWISE, FLOATS, Element, converted
from .evaluation import GROWING, evaluate
from .node import Node
from .tensor import KNOWN_ELEMENTS, Array

Known = list[tuple[Array, str]] | None  # each output's elements and dtype
INTEGERS = ("i64", "i32", "i1", "i16", "i8", "ui8", "ui16", "ui32", "ui64")

# Operators that only move elements: positions of the inputs whose elements move; the others must be constant.
MOVERS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(
        ("Identity", "Gather", "GatherND", "GatherElements", "Slice", "Unsqueeze", "Squeeze", "Reshape"), (0,)
    ),
    **dict.fromkeys(("Transpose", "Flatten", "Expand", "Tile", "Split"), (0,)),
    "ScatterND": (0, 2),
    "ScatterElements": (0, 2),
    "OneHot": (2,),
}


def propagate(node: Node) -> Known:
    """The outputs with their dtypes, None for elements that depend on data; None when all do or it is too large."""
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.operator in ("Shape", "Size"):
        return [(_shape(node), "i64")]
    special = _SPECIAL.get(node.operator)
    if not node.inputs or (special is None and node.operator not in MOVERS and node.operator not in ELEMENTWISE):
        return None
    given = [tensor for tensor in node.inputs if tensor is not None]
    for tensor in sorted(given, key=lambda tensor: tensor.is_constant):  # reading constants comes last
        if tensor.partly_known() is None:
            return None
    if special is not None:
        found = special(node)
    elif node.operator in MOVERS:
        found = _move(node)
    else:
        found = _elementwise(node)
    items = [item for array, _ in found or [] for item in array.flat]
    return None if items and all(item is None for item in items) else found


def _shape(node: Node) -> Array:
    shape = node.shape(0)
    if node.operator == "Size":
        total = Expression.constant(1)
        for size in shape:
            total = total * size
        return _array([total], ())
    start, end = node.get("start", 0), node.get("end")
    part = shape[start:end] if end is not None else shape[start:]
    return _array(list(part), (len(part),))


def _array(elements: list[Any], shape: tuple[int, ...]) -> Array:
    result = np.empty(len(elements), dtype=object)
    for position, element in enumerate(elements):
        result[position] = element
    return result.reshape(shape)


def _move(node: Node) -> Known:
    """Run the operator on the positions of the elements instead of the elements."""
    if node.get("reduction", "none") != "none":
        return None  # a scatter that computes
    moved = range(len(node.inputs)) if node.operator == "Concat" else MOVERS[node.operator]
    pool: list[Element | None] = []
    arrays: list[Array | None] = []
    for position, tensor in enumerate(node.inputs):
        known = tensor.partly_known() if tensor is not None else None
        if known is None:
            arrays.append(None)
        elif position in moved:
            arrays.append(np.arange(len(pool), len(pool) + known.size, dtype=np.int64).reshape(known.shape))
            pool.extend(known.ravel())
        else:
            constants = [item.as_constant() if isinstance(item, Expression) else None for item in known.ravel()]
            if None in constants:
                return None
            arrays.append(np.array(constants, dtype=np.int64).reshape(known.shape))
    if node.operator in (*GROWING, "OneHot") and _grown(arrays) > KNOWN_ELEMENTS:  # files are untrusted
        return None
    results = evaluate(node, arrays)
    if results is None or any(result.size > KNOWN_ELEMENTS for result in results):
        return None
    return [(_array([pool[int(item)] for item in result.ravel()], result.shape), node.dtype(0)) for result in results]


def _grown(arrays: list[Array | None]) -> int:
    """An upper bound of the elements that an Expand or Tile gives, or a OneHot for an index."""
    return math.prod(max(abs(int(item)), 1) for array in arrays[1:] if array is not None for item in array.ravel())


def _elementwise(node: Node) -> Known:
    function, result_dtype = ELEMENTWISE["fmod" if node.operator == "Mod" and node.get("fmod") else node.operator]
    arrays = _broadcast(node)
    floating = node.dtype(0) in FLOATS
    elements: list[Element | None] = []
    for items in zip(*[array.ravel() for array in arrays], strict=True):
        element = None if any(item is None for item in items) else function(floating, *items)
        if result_dtype == "i1" and arrays[0].size > 1 and isinstance(element, Expression) and element.symbols:
            return None  # one symbolic truth may decide an If; many are a mask, which a kernel computes better
        elements.append(element)
    return [(_array(elements, arrays[0].shape), result_dtype or node.dtype(0))]


def _broadcast(node: Node) -> list[Array]:
    """The elements of all inputs, in one shape. Raises ModelError where there is none."""
    given = [tensor.partly_known() for tensor in node.inputs if tensor is not None]
    arrays = [array for array in given if array is not None]
    try:
        return [*np.broadcast_arrays(*arrays)]
    except ValueError:
        shapes = ", ".join(str(list(array.shape)) for array in arrays)
        raise ModelError(f"inputs of the shapes {shapes} do not fit together") from None


def _cast(node: Node) -> Known:
    known = node.input(0).partly_known()
    target = node.importer.element_name(node.get("to"))
    if known is None:
        return None
    elements = [None if item is None else converted(item, target) for item in known.flat]
    return [(_array(elements, known.shape), target)]


def _where(node: Node) -> Known:
    condition, first, second = _broadcast(node)
    elements = []
    for chosen, one, two in zip(condition.ravel(), first.ravel(), second.ravel(), strict=True):
        constant = chosen.as_constant() if chosen is not None else None
        elements.append(None if constant is None else one if constant else two)
    return [(_array(elements, condition.shape), node.dtype(1))]


def _reduce(operator: str) -> Callable[[Node], Known]:
    function = ELEMENTWISE[operator][0]

    def reduce(node: Node) -> Known:
        known = node.input(0).known()
        if known is None or known.ndim > 1 or known.size == 0:
            return None
        result = known.ravel()[0]
        for item in known.ravel()[1:]:
            result = function(node.dtype(0) in FLOATS, result, item)
            if result is None:
                return None
        keep = node.get("keepdims", 1)
        return [(_array([result], (1,) * known.ndim if keep else ()), node.dtype(0))]

    return reduce


def fill_value(node: Node) -> tuple[float | int, str]:
    """The value and dtype of ConstantOfShape."""
    proto = node.get("value")
    if proto is None:
        return 0.0, "f32"
    tensor = node.importer.constant_of(proto, node.name)
    return tensor.array().reshape(-1)[0].item(), tensor.dtype


def _fill(node: Node) -> Known:
    sizes = [item.as_constant() for item in node.sizes(0, "shape")]
    value, dtype = fill_value(node)
    if None in sizes or dtype not in INTEGERS:
        return None
    shape = tuple(size for size in sizes if size is not None)
    if any(size < 0 for size in shape) or int(np.prod([min(size, 1 << 20) for size in shape])) > KNOWN_ELEMENTS:
        return None
    count = int(np.prod(shape))
    return [(_array([Expression.constant(int(value))] * count, shape), dtype)]


def _range(node: Node) -> Known:
    known = [tensor.known() for tensor in node.inputs if tensor is not None]
    items = [array.ravel()[0] for array in known if array is not None]
    if node.dtype(0) in FLOATS or len(items) != 3:
        return None
    start, limit, step = items
    length = (limit - start).as_constant()
    stride = step.as_constant()
    if length is None or not stride:
        return None
    count = max(-(-length // stride), 0)
    if count > KNOWN_ELEMENTS:
        return None
    return [(_array([start + step * position for position in range(count)], (count,)), node.dtype(0))]


_SPECIAL: dict[str, Callable[[Node], Known]] = {
    "Cast": _cast,
    "Where": _where,
    "Concat": _move,
    "ConstantOfShape": _fill,
    "Range": _range,
    "ReduceProd": _reduce("Mul"),
    "ReduceSum": _reduce("Add"),
    "ReduceMax": _reduce("Max"),
    "ReduceMin": _reduce("Min"),
}
