"""Shape arithmetic: what small integer tensors hold, followed symbolically through the graph.

In: a node whose inputs are known as object arrays of expressions (sizes, starts, repeats). Out: its outputs
known in the same way, or None. This is what lets Reshape, Expand, Slice or Range have symbolic shapes
without any run-time shape computation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ...runtime.symbolic import Expression, Operation, maximum, minimum
from .evaluation import GROWING, evaluate
from .node import Node
from .tensor import KNOWN_ELEMENTS, Array, Ratio

Element = Expression | Ratio
INTEGERS = ("i64", "i32", "i1", "i16", "i8", "ui8", "ui16", "ui32", "ui64")
FLOATS = ("f32", "f64", "f16", "bf16")

# Operators that only move elements: positions of the inputs whose elements move; the others must be constant.
MOVERS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(
        ("Identity", "Gather", "GatherND", "GatherElements", "Slice", "Unsqueeze", "Squeeze", "Reshape"), (0,)
    ),
    **dict.fromkeys(("Transpose", "Flatten", "Expand", "Tile", "Split"), (0,)),
    "ScatterND": (0, 2),
    "ScatterElements": (0, 2),
}


def propagate(node: Node) -> list[tuple[Array, str]] | None:
    """The known outputs with their dtypes, or None when something depends on data or is too large."""
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.operator in ("Shape", "Size"):
        return [(_shape(node), "i64")]
    special = _SPECIAL.get(node.operator)
    if not node.inputs or (special is None and node.operator not in MOVERS and node.operator not in _ELEMENTWISE):
        return None
    given = [tensor for tensor in node.inputs if tensor is not None]
    for tensor in sorted(given, key=lambda tensor: tensor.is_constant):  # reading constants comes last
        if tensor.known() is None:
            return None
    if special is not None:
        return special(node)
    if node.operator in MOVERS or node.operator == "Concat":
        return _move(node)
    return _elementwise(node)


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


def _move(node: Node) -> list[tuple[Array, str]] | None:
    """Run the operator on the positions of the elements instead of the elements."""
    if node.get("reduction", "none") != "none":
        return None  # a scatter that computes
    moved = range(len(node.inputs)) if node.operator == "Concat" else MOVERS[node.operator]
    pool: list[Element] = []
    arrays: list[Array | None] = []
    for position, tensor in enumerate(node.inputs):
        known = tensor.known() if tensor is not None else None
        if tensor is None or known is None:
            arrays.append(None)
        elif position in moved:
            arrays.append(np.arange(len(pool), len(pool) + known.size, dtype=np.int64).reshape(known.shape))
            pool.extend(known.ravel())
        else:
            constants = [item.as_constant() if isinstance(item, Expression) else None for item in known.ravel()]
            if None in constants:
                return None
            arrays.append(np.array(constants, dtype=np.int64).reshape(known.shape))
    if node.operator in GROWING and _grown(arrays) > KNOWN_ELEMENTS:  # files are untrusted
        return None
    results = evaluate(node, arrays)
    if results is None or any(result.size > KNOWN_ELEMENTS for result in results):
        return None
    return [(_array([pool[int(item)] for item in result.ravel()], result.shape), node.dtype(0)) for result in results]


def _grown(arrays: list[Array | None]) -> int:
    """An upper bound of the elements that an Expand or Tile gives."""
    return math.prod(max(abs(int(item)), 1) for array in arrays[1:] if array is not None for item in array.ravel())


# Elementwise ------------------------------------------------------------------------------------------------
def _elementwise(node: Node) -> list[tuple[Array, str]] | None:
    function, result_dtype = _ELEMENTWISE[node.operator]
    inputs = [tensor.known() for tensor in node.inputs if tensor is not None]
    arrays = np.broadcast_arrays(*[array for array in inputs if array is not None])
    floating = node.dtype(0) in FLOATS
    elements: list[Element] = []
    for items in zip(*[array.ravel() for array in arrays], strict=True):
        element = function(floating, *items)
        if element is None:
            return None
        if result_dtype == "i1" and arrays[0].size > 1 and isinstance(element, Expression) and element.symbols:
            return None  # one symbolic truth may decide an If; many are a mask, which a kernel computes better
        elements.append(element)
    return [(_array(elements, arrays[0].shape), result_dtype or node.dtype(0))]


def _ratio(item: Element) -> Ratio:
    return item if isinstance(item, Ratio) else Ratio(item)


def _add(floating: bool, *items: Any) -> Element | None:
    result = items[0]
    for item in items[1:]:
        if floating:
            first, second = _ratio(result), _ratio(item)
            numerator = first.numerator * second.denominator + second.numerator * first.denominator
            result = Ratio(numerator, first.denominator * second.denominator)
        else:
            result = result + item
    return result  # type: ignore[no-any-return]


def _negate(floating: bool, item: Any) -> Element:
    return Ratio(-item.numerator, item.denominator) if floating else -item


def _subtract(floating: bool, left: Any, right: Any) -> Element | None:
    return _add(floating, left, _negate(floating, right))


def _multiply(floating: bool, left: Any, right: Any) -> Element:
    if floating:
        return Ratio(left.numerator * right.numerator, left.denominator * right.denominator)
    return left * right  # type: ignore[no-any-return]


def _divide(floating: bool, left: Any, right: Any) -> Element | None:
    """Integers truncate in ONNX; that is floor division where both are provably not negative."""
    if floating:
        top = right.numerator.as_constant()
        if top is None:
            quotient = left.numerator.exact_divide(right.numerator)
            return None if quotient is None else Ratio(quotient * right.denominator, left.denominator)
        if top <= 0:
            return None
        return Ratio(left.numerator * right.denominator, left.denominator * top)
    exact = left.exact_divide(right) if right.terms else None
    if exact is not None:
        return exact  # type: ignore[no-any-return]
    constants = left.as_constant(), right.as_constant()
    if None not in constants and constants[1]:
        quotient = abs(constants[0]) // abs(constants[1])
        return Expression.constant(quotient if (constants[0] < 0) == (constants[1] < 0) else -quotient)
    # A divisor that is a size is not zero: the model would be meaningless.
    if left.is_nonnegative() and right.is_nonnegative() and right != 0:
        return left // right  # type: ignore[no-any-return]
    return None


def _modulo(floating: bool, left: Any, right: Any) -> Element | None:
    if floating or right == 0 or not right.is_nonnegative():
        return None
    return left % right  # type: ignore[no-any-return]


def _extremum(kind: str) -> Callable[..., Element | None]:
    choose = maximum if kind == "max" else minimum

    def function(floating: bool, *items: Any) -> Element | None:
        if floating:
            return None
        result = items[0]
        for item in items[1:]:
            if (result - item).is_nonnegative() or (item - result).is_nonnegative():
                larger = (result - item).is_nonnegative()
                result = result if larger == (kind == "max") else item
            else:
                result = choose(result, item)
        return result  # type: ignore[no-any-return]

    return function


def _round_down(floating: bool, item: Any) -> Element:
    return Ratio(item.numerator // item.denominator) if floating else item


def _round_up(floating: bool, item: Any) -> Element:
    return Ratio(item.numerator.ceil_divide(item.denominator)) if floating else item


def _square_root(floating: bool, item: Any) -> Element | None:
    constant = item.numerator.as_constant() if floating and item.denominator == 1 else None
    root = round(constant**0.5) if constant is not None and constant >= 0 else None
    return Ratio(Expression.constant(root)) if root is not None and root * root == constant else None


TRUE, FALSE = Expression.constant(1), Expression.constant(0)


def _truth(value: bool) -> Expression:
    return TRUE if value else FALSE


def _difference(floating: bool, left: Any, right: Any) -> Expression:
    if floating:
        left, right = left.numerator * right.denominator, right.numerator * left.denominator
    return left - right  # type: ignore[no-any-return]


def _equal(floating: bool, left: Any, right: Any) -> Element | None:
    gap = _difference(floating, left, right)
    if gap.as_constant() is not None:
        return _truth(gap == 0)
    if (gap - 1).is_nonnegative() or (-gap - 1).is_nonnegative():
        return FALSE
    return None if floating else _is_zero(gap)


def _is_zero(gap: Expression) -> Expression:
    """1 where the integer is 0, else 0."""
    return maximum(1 - maximum(gap, -gap), 0)


def assumed_gap(truth: Expression, value: bool) -> Expression | None:
    """What must be 0 for a symbolic truth to have that value; None where no one size decides that."""
    wanted = truth if value else 1 - truth
    atoms = [atom for monomial, _ in wanted.terms for atom in monomial if isinstance(atom, Operation)]
    sides = [side for atom in atoms for side in (atom.left, atom.right)]
    extrema = [atom for side in sides for monomial, _ in side.terms for atom in monomial if isinstance(atom, Operation)]
    gaps = (gap for atom in extrema for gap in (atom.left, atom.right))
    return next((gap for gap in gaps if _is_zero(gap) == wanted), None)


def _greater(floating: bool, left: Any, right: Any) -> Element | None:
    gap = _difference(floating, left, right)
    if (gap - 1).is_nonnegative():
        return TRUE
    return FALSE if (-gap).is_nonnegative() else None


def _less(floating: bool, left: Any, right: Any) -> Element | None:
    return _greater(floating, right, left)


def _not(floating: bool, item: Any) -> Element | None:
    return TRUE - item  # type: ignore[no-any-return]


def _inverse(function: Callable[..., Element | None]) -> Callable[..., Element | None]:
    def inverted(floating: bool, left: Any, right: Any) -> Element | None:
        result = function(floating, left, right)
        return None if result is None else _not(False, result)

    return inverted


def _and(floating: bool, left: Any, right: Any) -> Element | None:
    first, second = left.as_constant(), right.as_constant()
    if first == 0 or second == 0:
        return FALSE
    return left * right  # type: ignore[no-any-return]


def _or(floating: bool, left: Any, right: Any) -> Element | None:
    first, second = left.as_constant(), right.as_constant()
    if first or second:
        return TRUE
    return left + right - left * right  # type: ignore[no-any-return]


def _absolute(floating: bool, item: Any) -> Element | None:
    numerator = item.numerator if floating else item
    if numerator.is_nonnegative():
        return item  # type: ignore[no-any-return]
    return _negate(floating, item) if (-numerator).is_nonnegative() else None


_ELEMENTWISE: dict[str, tuple[Callable[..., Element | None], str | None]] = {
    "Add": (_add, None),
    "Sum": (_add, None),
    "Sub": (_subtract, None),
    "Mul": (_multiply, None),
    "Div": (_divide, None),
    "Mod": (_modulo, None),
    "Neg": (_negate, None),
    "Abs": (_absolute, None),
    "Max": (_extremum("max"), None),
    "Min": (_extremum("min"), None),
    "Floor": (_round_down, None),
    "Ceil": (_round_up, None),
    "Sqrt": (_square_root, None),
    "Equal": (_equal, "i1"),
    "Greater": (_greater, "i1"),
    "Less": (_less, "i1"),
    "GreaterOrEqual": (_inverse(_less), "i1"),
    "LessOrEqual": (_inverse(_greater), "i1"),
    "Not": (_not, "i1"),
    "And": (_and, "i1"),
    "Or": (_or, "i1"),
}


# Others -----------------------------------------------------------------------------------------------------
def _cast(node: Node) -> list[tuple[Array, str]] | None:
    known = node.input(0).known()
    target = node.importer.element_name(node.get("to"))
    if known is None:
        return None
    elements: list[Element] = []
    for item in known.ravel():
        converted = _converted(item, target)
        if converted is None:
            return None
        elements.append(converted)
    return [(_array(elements, known.shape), target)]


def _converted(item: Element, target: str) -> Element | None:
    if target in FLOATS:
        return _ratio(item)
    numerator, denominator = (item.numerator, item.denominator) if isinstance(item, Ratio) else (item, 1)
    if target == "i1":
        return _not(False, _equal(False, numerator, FALSE))
    if target not in ("i32", "i64"):
        return None
    if denominator == 1:
        return numerator
    return numerator // denominator if numerator.is_nonnegative() else None  # truncation is floor for these


def _where(node: Node) -> list[tuple[Array, str]] | None:
    known = [tensor.known() for tensor in node.inputs if tensor is not None]
    condition, first, second = np.broadcast_arrays(*[array for array in known if array is not None])
    elements = []
    for chosen, one, two in zip(condition.ravel(), first.ravel(), second.ravel(), strict=True):
        constant = chosen.as_constant()
        if constant is None:
            return None
        elements.append(one if constant else two)
    return [(_array(elements, condition.shape), node.dtype(1))]


def _reduce(function: Callable[..., Element | None]) -> Callable[[Node], list[tuple[Array, str]] | None]:
    def reduce(node: Node) -> list[tuple[Array, str]] | None:
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


def _fill(node: Node) -> list[tuple[Array, str]] | None:
    sizes = [item.as_constant() for item in node.sizes(0, "shape")]
    value, dtype = fill_value(node)
    if None in sizes or dtype not in INTEGERS:
        return None
    shape = tuple(size for size in sizes if size is not None)
    if any(size < 0 for size in shape) or int(np.prod([min(size, 1 << 20) for size in shape])) > KNOWN_ELEMENTS:
        return None
    count = int(np.prod(shape))
    return [(_array([Expression.constant(int(value))] * count, shape), dtype)]


def _range(node: Node) -> list[tuple[Array, str]] | None:
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


_SPECIAL: dict[str, Callable[[Node], list[tuple[Array, str]] | None]] = {
    "Cast": _cast,
    "Where": _where,
    "Concat": _move,
    "ConstantOfShape": _fill,
    "Range": _range,
    "ReduceProd": _reduce(_multiply),
    "ReduceSum": _reduce(_add),
    "ReduceMax": _reduce(_extremum("max")),
    "ReduceMin": _reduce(_extremum("min")),
}
