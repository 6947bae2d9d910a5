"""Pass `shorten-activations`: GELU, tanh plus one, and quotients by one plus an exponential, in few instructions.

In: fused kernels of which `approximate-functions` has marked what need not be exact. Out: the same, where erf is one
polynomial below an exponential, without branches or selections, and such quotients are products with a reciprocal.
Behind a matrix product each element of a tile runs this, and no product of another tile hides some thirty
instructions of it when k is short.
"""

from __future__ import annotations

import math as numbers
from dataclasses import dataclass

from mlir import ir
from mlir.dialects import arith, math

from ..unit import Unit, register_pass
from .approximate_functions import is_told_apart, may_be_approximate
from .rewriting import erase_unused, functions, inner_operations, only_reader, producer, scalar_constant, scalar_number

# log2 of Phi(-a), the normal distribution's tail, for a from 0 to FAR: a polynomial of least relative error of Phi,
# 3.5e-5 (2^-14.8; half a unit of f16 is 2^-11), where a * Phi(-a) is above 6e-8, f16's least number; below 3e-12 of it.
TAIL = (
    -1.0000476837158203, -1.150414228439331, -0.46072861552238464, -0.05163032189011574, 0.007358578033745289,
    -0.0006383685977198184, 2.468690581736155e-05,
)  # fmt: skip
FAR = 6.0  # 6 * Phi(-6) is 6e-9
SCALES_DIFFER = 2.0**-12  # by which sqrt(1/2) may be missed: models in f16 have it in 11 bits


@register_pass("shorten-activations", requires="kernels", ensures="kernels")
def shorten_activations(unit: Unit) -> None:
    """Rewrite what is approximate anyway.

    before::

        %g = %x * 0.5 * (1 + erf(%x * 0.7071))
        %t = %y * (1 + tanh(%u))
        %s = %z / (1 + exp(%v)) fastmath<afn>

    after::

        %g = max(%x, 0) - |%x| * exp2(p(|%x|))             // x Phi(x), where Phi(x) = 1 - Phi(-x)
        %t = 2 * %y / (1 + exp2(%u * -2.885)) fastmath<afn, arcp>
        %s = %z / (1 + exp(%v)) fastmath<afn, arcp>         // %z * (1 / ...): the divisor is no less than one
    """
    with unit.module.context, ir.Location.unknown():
        for function in functions(unit.module).values():
            if not may_be_approximate(unit, function):
                continue
            exact: dict[ir.Value, bool] = {}
            found = [own for own in inner_operations(function) if own.name in ("math.erf", "math.tanh")]
            for bell in found:
                if str(bell.results[0].type) == "f32" and not is_told_apart(bell.results[0], exact):
                    _shorten(bell)
            for body in {own.block: None for own in found}:
                erase_unused(body)
            for quotient in inner_operations(function):
                if _is_at_most_its_dividend(quotient):
                    quotient.attributes["fastmath"] = ir.Attribute.parse("#arith.fastmath<arcp,afn>")


def _shorten(bell: ir.Operation) -> None:
    product = _product(bell)
    if product is None:
        return
    with ir.InsertionPoint(product.root), product.root.location:
        factors, scale = list(product.factors), product.scale
        if bell.name == "math.erf":
            x = next((own for own in factors if _is_scaled(bell.operands[0], own)), None)
            if x is None:
                return
            factors.remove(x)
            value, scale = _gelu(x), scale * 2
        else:
            value = factors.pop(0) if factors else scalar_constant(2 * scale)
            scale = scale * 2 if product.factors else 1.0
        for factor in factors:
            value = arith.mulf(value, factor)
        if scale != 1:
            value = arith.mulf(value, scalar_constant(scale))
        if bell.name == "math.tanh":
            value = _over_one_plus(value, bell.operands[0])
        product.root.results[0].replace_all_uses_with(value)


@dataclass(frozen=True)
class _Product:
    """scale * factors * (1 + bell), which the operation `root` gives; each product on the way has one reader."""

    root: ir.Operation
    scale: float
    factors: list[ir.Value]


def _product(bell: ir.Operation) -> _Product | None:
    """What is multiplied with 1 + bell."""
    sum_ = only_reader(bell)
    if sum_ is None or sum_.name != "arith.addf" or 1.0 not in map(scalar_number, sum_.operands):
        return None
    root, scale, factors = sum_, 1.0, list[ir.Value]()
    while (reader := only_reader(root)) is not None and reader.name == "arith.mulf":
        own, other = reader.operands
        pending = [other if own == root.results[0] else own]
        while pending:
            value = pending.pop()
            number, owner = scalar_number(value), producer(value)
            if number is not None:
                scale *= number
            elif owner is not None and owner.name == "arith.mulf" and any(map(_is_number, owner.operands)):
                pending += owner.operands
            else:
                factors.append(value)
        root = reader
    return _Product(root, scale, factors)


def _is_scaled(argument: ir.Value, x: ir.Value) -> bool:
    """Whether the argument is x * sqrt(1/2)."""
    owner = producer(argument)
    if owner is None or owner.name not in ("arith.mulf", "arith.divf"):
        return False
    left, right = owner.operands
    number = scalar_number(right)
    if owner.name == "arith.mulf" and number is None:
        left, number = right, scalar_number(left)
    if number is None or left != x:
        return False
    scale = number if owner.name == "arith.mulf" else 1 / number
    return abs(scale / numbers.sqrt(0.5) - 1) < SCALES_DIFFER


def _gelu(x: ir.Value) -> ir.Value:
    """x * Phi(x). Infinity stays what it is, and no number stays none."""
    distance = arith.minimumf(math.absf(x), scalar_constant(FAR))
    exponent = scalar_constant(TAIL[-1])
    for coefficient in reversed(TAIL[:-1]):
        exponent = math.fma(exponent, distance, scalar_constant(coefficient))
    tail = math.exp2(exponent, fastmath=arith.FastMathFlags.afn)
    return math.fma(arith.negf(distance), tail, arith.maximumf(x, scalar_constant(0.0)))


def _over_one_plus(value: ir.Value, argument: ir.Value) -> ir.Value:
    """value / (1 + exp(-2 argument)), which is value * (1 + tanh(argument)) / 2."""
    power = arith.mulf(argument, scalar_constant(-2 / numbers.log(2)))
    power = math.exp2(power, fastmath=arith.FastMathFlags.afn)
    return arith.divf(value, arith.addf(power, scalar_constant(1.0)), fastmath=arith.FastMathFlags.afn)


def _is_at_most_its_dividend(quotient: ir.Operation) -> bool:
    """Whether it is a quotient that may be approximate, by one plus an exponential. The reciprocal is then neither
    infinite nor, but for a divisor above 2^126, too small.
    """
    if quotient.name != "arith.divf" or "afn" not in str(quotient.attributes["fastmath"]):
        return False
    sum_ = producer(quotient.operands[1])
    if sum_ is None or sum_.name != "arith.addf" or 1.0 not in map(scalar_number, sum_.operands):
        return False
    owners = (producer(own) for own in sum_.operands)
    return any(owner is not None and owner.name in ("math.exp", "math.exp2") for owner in owners)


def _is_number(value: ir.Value) -> bool:
    return scalar_number(value) is not None
