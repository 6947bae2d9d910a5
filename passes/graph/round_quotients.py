"""Pass `round-quotients`: quantisation by a known scale multiplies; it does not divide.

In: fused kernels whose bodies round x / scale to an integer of at most 16 bits. Out: the same numbers from
multiplications. A division is a subroutine with branches for every element of a tile: where a kernel quantises three
times, 40 % of ptxas' time, and slower than eight instructions in a row.
"""

from __future__ import annotations

import numpy as np
from mlir import ir
from mlir.dialects import arith, math

from ..unit import Unit, register_pass
from .rewriting import functions, inner_operations, producer

# Scales between these, and what is computed with them here from quotients above 1/2, are normal numbers.
SMALLEST_SCALE, LARGEST_SCALE = 2.0**-90, 2.0**100
LARGEST_INTEGER = 2.0**16  # of what the rounded quotient, with a zero point or not, is clamped to
LARGEST_QUOTIENT = 2.0**18  # that need be told from another


@register_pass("round-quotients", requires="kernels", ensures="kernels")
def round_quotients(unit: Unit) -> None:
    """Replace divisions by constants whose quotient is rounded to an integer and clamped to a small range.

    before::

        %q = arith.divf %x, %scale : f32        // %scale = arith.constant 0.0315
        %n = math.roundeven %q : f32

    after::

        %c = clamp(%x)                          // no infinities: beyond 2^18 scales all are the same
        %a = %c * %r                            // %r = arith.constant 31.7460
        %b = fma(fma(-%scale, %a, %c), %r, %a)  // within one unit in the last place
        %q = fma(fma(-%scale, %b, %c), %r, %b)  // the nearest float, as the division gives it
        %n = math.roundeven %q : f32

    The last line is exact where %r is the nearest float to 1 / %scale and %b is a neighbour of the quotient
    (Markstein, "Computation of elementary functions on the IBM RISC System/6000 processor", 1990, theorem 2). Quotients
    below 1/2, which may be inexact where remainders are subnormal, round to zero either way.
    """
    with unit.module.context, ir.Location.unknown():
        for function in functions(unit.module).values():
            for inner in list(inner_operations(function)):
                if inner.name == "math.roundeven":
                    _rewrite(inner)


def _rewrite(rounding: ir.Operation) -> None:
    quotient = producer(rounding.operands[0])
    if quotient is None or quotient.name != "arith.divf" or str(rounding.results[0].type) != "f32":
        return
    scale = _number(quotient.operands[1])
    if scale is None or not SMALLEST_SCALE <= scale <= LARGEST_SCALE or _only_use(quotient) is None:
        return
    if _is_clamped(rounding):
        with ir.InsertionPoint(quotient), quotient.location:
            quotient.results[0].replace_all_uses_with(_quotient(quotient.operands[0], scale))
        quotient.erase()


def _is_clamped(rounding: ir.Operation) -> bool:
    """A zero point may be added first; then a maximum and a minimum follow."""
    left = {"arith.maximumf", "arith.minimumf"}
    operation = _only_use(rounding)
    while operation is not None and operation.name in ("arith.addf", *left):
        numbers = [number for number in map(_number, operation.operands) if number is not None]
        if not numbers or abs(numbers[0]) > LARGEST_INTEGER:
            return False
        left.discard(operation.name)
        if not left:
            return True
        operation = _only_use(operation)
    return False


def _only_use(operation: ir.Operation) -> ir.Operation | None:
    uses = list(operation.results[0].uses)
    return uses[0].owner.operation if len(uses) == 1 else None


def _number(value: ir.Value) -> float | None:
    """The value of a constant."""
    owner = producer(value)
    if owner is None or owner.name != "arith.constant":
        return None
    return float(ir.FloatAttr(owner.attributes["value"]).value)


def _quotient(x: ir.Value, scale: float) -> ir.Value:
    reciprocal, negative = _constant(np.float32(1) / np.float32(scale)), _constant(-scale)
    limits = (_constant(sign * LARGEST_QUOTIENT * scale) for sign in (1, -1))
    clamped = arith.maximumf(arith.minimumf(x, next(limits)), next(limits))
    value = arith.mulf(clamped, reciprocal)
    for _ in range(2):
        value = math.fma(math.fma(negative, value, clamped), reciprocal, value)
    return value


def _constant(value: float | np.float32) -> ir.Value:
    kind = ir.F32Type.get()
    return arith.constant(kind, ir.FloatAttr.get(kind, float(value)))
