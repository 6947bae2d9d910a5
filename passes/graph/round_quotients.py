"""Pass `round-quotients`: quantisation by a known scale multiplies, adds and takes low bits; it neither divides nor
converts.

In: fused kernels whose bodies round x / scale to an integer of at most 16 bits. Out: the same numbers in some six
instructions. A division is a subroutine with branches for every element of a tile, and conversions between floats and
integers run at a quarter of the speed of additions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from mlir import ir
from mlir.dialects import arith, math

from ..unit import Unit, register_pass
from .rewriting import (
    Array,
    erase_unused,
    functions,
    inner_operations,
    only_reader,
    producer,
    replace,
    scalar_constant,
    scalar_number,
)
from .scalar_semantics import fuse_multiply_add

# Scales between these, and what is computed with them here from quotients above 1/2, are normal numbers.
SMALLEST_SCALE, LARGEST_SCALE = 2.0**-90, 2.0**100
LARGEST_INTEGER = 2.0**16  # of what the rounded quotient, with a zero point or not, is clamped to
# A float of this size has no bits behind the point, and 22 in front of it: the sum of it and a quotient is rounded to
# the nearest integer, to the even one of two, and the low bits of the sum are those of the integer.
ROUNDER = 1.5 * 2.0**23
ROUNDER_BITS = 0x4B400000
NEIGHBOURS = 6  # floats on both sides of a quotient's border, of which the nearest may be on the other by mistake
# Of x * (1 / scale). One at least, though some scales need none: layers with other scales share the kernel then
# (share_numbers.py). With two the quotient itself is right, by the theorem.
CORRECTIONS = (1, 2)


@register_pass("round-quotients", requires="kernels", ensures="kernels")
def round_quotients(unit: Unit) -> None:
    """Replace divisions by constants whose quotient is rounded to an integer and clamped to a small range.

    before::

        %q = arith.divf %x, %scale : f32            // %scale = arith.constant 0.0315
        %n = math.roundeven %q : f32
        %z = arith.addf %n, %zero : f32             // the zero point, if there is one
        %c = clamp(%z)                              // to -128 .. 127
        %i = arith.fptosi %c : f32 to i32

    after::

        %c = clamp(%x)                              // to what gives -128 and 127
        %a = %c * %r                                // %r = arith.constant 31.7460
        %q = fma(fma(-%scale, %a, %c), %r, %a)      // within one unit in the last place
        %t = arith.addf %q, %rounder : f32          // 1.5 * 2^23, whose last bit stands for one
        %b = arith.bitcast %t : f32 to i32
        %i = arith.subi %b, %bits : i32             // those of %rounder, and of the zero point

    Where the number is multiplied by a scale again, as a float, that is %t - %rounder. The line with %q is there once
    or twice: whether it gives every integer that the division gives is tried at all borders between two. Twice is
    enough where %r is the nearest float to 1 / %scale (Markstein, "Computation of elementary functions on the IBM RISC
    System/6000 processor", 1990, theorem 2). NaN becomes the least number, as in onnxruntime.
    """
    with unit.module.context, ir.Location.unknown():
        for function in functions(unit.module).values():
            roundings = [own for own in inner_operations(function) if own.name == "math.roundeven"]
            for found in filter(None, map(_recognise, roundings)):
                _rewrite(found)
            for body in {rounding.block: None for rounding in roundings}:
                erase_unused(body)


_LIMITS = {"arith.maxnumf": "low", "arith.maximumf": "low", "arith.minimumf": "high"}


@dataclass(frozen=True)
class _Quantisation:
    """clamp(round(x / scale) + zero) to `low` .. `high`, which the operation `last` gives."""

    x: ir.Value
    last: ir.Operation
    scale: float
    zero: int
    low: int
    high: int


def _recognise(rounding: ir.Operation) -> _Quantisation | None:
    """The quantisation around a rounding; a zero point may be added first, then a maximum and a minimum follow."""
    quotient = producer(rounding.operands[0])
    if quotient is None or quotient.name != "arith.divf" or str(rounding.results[0].type) != "f32":
        return None
    scale = scalar_number(quotient.operands[1])
    if scale is None or not SMALLEST_SCALE <= scale <= LARGEST_SCALE or only_reader(quotient) is None:
        return None
    zero, limits = 0.0, dict[str, float]()
    operation = only_reader(rounding)
    while operation is not None:
        numbers = [number for number in map(scalar_number, operation.operands) if number is not None]
        if not numbers or abs(numbers[0]) > LARGEST_INTEGER or not numbers[0].is_integer():
            return None
        if operation.name == "arith.addf" and not limits:
            zero += numbers[0]
        elif (limit := _LIMITS.get(operation.name)) is not None and limit not in limits:
            limits[limit] = numbers[0]
        else:
            return None
        if len(limits) == 2:
            low, high = limits["low"], limits["high"]
            found = _Quantisation(quotient.operands[0], operation, scale, int(zero), int(low), int(high))
            return found if low < high else None
        operation = only_reader(operation)
    return None


def _rewrite(found: _Quantisation) -> None:
    """Compute it in front of its last operation; integers and floats that are made of it take what suits them."""
    low, high = (float(np.float32((limit - found.zero) * found.scale)) for limit in (found.low, found.high))
    corrections = _corrections(found.scale, found.low - found.zero, found.high - found.zero)
    if corrections is None:
        return
    last = found.last
    with ir.InsertionPoint(last), last.location:
        clamped = arith.minnumf(arith.maxnumf(found.x, scalar_constant(low)), scalar_constant(high))
        reciprocal = scalar_constant(_reciprocal(found.scale))
        value = arith.mulf(clamped, reciprocal)
        for _ in range(corrections):
            rest = math.fma(scalar_constant(-found.scale), value, clamped)
            value = math.fma(rest, reciprocal, value)
        rounder = scalar_constant(ROUNDER)
        sum_ = arith.addf(value, rounder)
        whole = arith.subf(sum_, rounder)
        for conversion in _uses(last, "arith.fptosi"):
            if str(conversion.results[0].type) == "i32":
                _take_bits(conversion, found, sum_, whole)
        last.results[0].replace_all_uses_with(_shifted(whole, found.zero))


def _take_bits(conversion: ir.Operation, found: _Quantisation, sum_: ir.Value, whole: ir.Value) -> None:
    """Replace the conversion to an integer, and those of the byte that it becomes back to floats."""
    bits = ir.IntegerType.get_signless(32)
    for narrow in _uses(conversion, "arith.trunci"):
        width = ir.IntegerType(narrow.results[0].type).width
        signed = found.low >= -(1 << (width - 1)) and found.high < 1 << (width - 1)
        unsigned = found.low >= 0 and found.high < 1 << width
        for name, is_exact in (("arith.extsi", signed), ("arith.extui", unsigned)):
            for wide in _uses(narrow, name) if is_exact else ():
                _take_floats(wide, whole, found.zero)
    number = arith.subi(arith.bitcast(bits, sum_), arith.constant(bits, ROUNDER_BITS - found.zero))
    replace(conversion, [number])


def _take_floats(wide: ir.Operation, whole: ir.Value, zero: int) -> None:
    """Let what is converted to f32 from the integer, minus a zero point or not, come from the rounded quotient."""
    for difference in _uses(wide, "arith.subi"):
        owner = producer(difference.operands[1])
        if difference.operands[0] == wide.results[0] and owner is not None and owner.name == "arith.constant":
            own = ir.IntegerAttr(owner.attributes["value"]).value
            for conversion in _uses(difference, "arith.sitofp"):
                _replace_float(conversion, whole, zero - own)
    for conversion in _uses(wide, "arith.sitofp"):
        _replace_float(conversion, whole, zero)


def _replace_float(conversion: ir.Operation, whole: ir.Value, more: int) -> None:
    if str(conversion.results[0].type) == "f32" and abs(more) <= LARGEST_INTEGER:
        replace(conversion, [_shifted(whole, more)])


def _shifted(whole: ir.Value, distance: int) -> ir.Value:
    return arith.addf(whole, scalar_constant(float(distance))) if distance else whole


@lru_cache(maxsize=4096)
def _corrections(scale: float, low: int, high: int) -> int | None:
    """How many corrections of x * (1 / scale) it takes to give the integer of the exact division for every x between
    those of `low` and `high`; None where none is enough.
    """
    divisor, reciprocal, rounder = (np.asarray(own, np.float32) for own in (scale, _reciprocal(scale), ROUNDER))
    borders = ((np.arange(low, high) + 0.5) * scale).astype(np.float32)
    ends = (np.array([low, high]) * scale).astype(np.float32)
    x = np.concatenate([ends, *_neighbours(borders)])
    x = np.clip(x, ends[0], ends[1])
    wanted = np.rint(x / divisor)
    if wanted[0] != low or wanted[1] != high:
        return None
    value = x * reciprocal
    for count in CORRECTIONS:
        value = fuse_multiply_add(fuse_multiply_add(-divisor, value, x), reciprocal, value)
        if np.array_equal((value + rounder) - rounder, wanted):
            return count
    return None


def _neighbours(values: Array) -> Iterator[Array]:
    yield values
    for end in (np.float32(-np.inf), np.float32(np.inf)):
        near = values
        for _ in range(NEIGHBOURS):
            near = np.nextafter(near, end)
            yield near


def _reciprocal(scale: float) -> float:
    """In f32."""
    return float(np.float32(1) / np.float32(scale))


def _uses(operation: ir.Operation, name: str) -> list[ir.Operation]:
    """The operations of that name that read the result."""
    users = [use.owner.operation for use in operation.results[0].uses]
    return [user for user in users if user.name == name]
