"""Arithmetic on single elements of shape arithmetic: integers as expressions, floats as ratios.

In: elements that are known (a hole, an element that depends on data, never gets here). Out: the element that an
elementwise operator makes of them, or None where it cannot be said; ELEMENTWISE has the operators.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...runtime.symbolic import Expression, Operation, expression, maximum, minimum
from .tensor import Ratio

Element = Expression | Ratio
FLOATS = ("f32", "f64", "f16", "bf16")


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
    """Integers are truncated."""
    if floating:
        top = right.numerator.as_constant()
        if top is None:
            quotient = left.numerator.exact_divide(right.numerator)
            return None if quotient is None else Ratio(quotient * right.denominator, left.denominator)
        if top <= 0:
            return None
        return Ratio(left.numerator * right.denominator, left.denominator * top)
    return truncated_quotient(left, right)


def truncated_quotient(left: Expression, right: Expression) -> Expression | None:
    """left / right towards zero, as ONNX divides integers; None where the sign of the divisor is not known.

    A divisor that is a size is not zero: the model would be meaningless.
    """
    exact = left.exact_divide(right) if right.terms else None
    if exact is not None:
        return exact
    if right == 0:
        return None
    if not right.is_nonnegative():
        opposite = truncated_quotient(left, -right) if (-right).is_nonnegative() else None
        return None if opposite is None else -opposite
    if left.is_nonnegative():
        return left // right
    if (-left).is_nonnegative():
        return -(-left // right)
    positive = maximum(left, 0) // right
    if (left + right - 1).is_nonnegative():  # what is negative is nearer to 0 than the divisor
        return positive
    return positive - maximum(-left, 0) // right


def _modulo(floating: bool, left: Any, right: Any) -> Element | None:
    """The remainder with the sign of the divisor."""
    if floating or right == 0 or not right.is_nonnegative():
        return None
    return left % right  # type: ignore[no-any-return]


def _remainder(floating: bool, left: Any, right: Any) -> Element | None:
    """The remainder with the sign of the dividend, of a Mod with `fmod`."""
    quotient = None if floating else truncated_quotient(left, right)
    return None if quotient is None else left - quotient * right


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


# Operator: what it does to elements, and the dtype of its results where that is not the first input's.
ELEMENTWISE: dict[str, tuple[Callable[..., Element | None], str | None]] = {
    "Add": (_add, None),
    "Sum": (_add, None),
    "Sub": (_subtract, None),
    "Mul": (_multiply, None),
    "Div": (_divide, None),
    "Mod": (_modulo, None),
    "fmod": (_remainder, None),
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


def converted(item: Element, target: str) -> Element | None:
    """The element after a Cast to that dtype."""
    if target in FLOATS:
        return _ratio(item)
    numerator, denominator = (item.numerator, item.denominator) if isinstance(item, Ratio) else (item, 1)
    if target == "i1":
        return _not(False, _equal(False, numerator, FALSE))
    if target not in ("i32", "i64"):
        return None
    return truncated_quotient(numerator, expression(denominator))
