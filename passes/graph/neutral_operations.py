"""Scalar operations whose result is one of their operands, such as a product by one, and what reads them.

In: a map, whether the sign of a zero counts. Out: the map without them, so that a mask that hides nothing, once it is
folded to a number, costs nothing. Found by what the constant operand is.
"""

from __future__ import annotations

import math

from mlir import ir

from .rewriting import body_of, operations_of, producer

# Of an operation: the constant, and the operands at which it changes nothing.
_NEUTRAL: dict[str, tuple[float, tuple[int, ...]]] = {
    "arith.subf": (0.0, (1,)),
    "arith.mulf": (1.0, (0, 1)),
    "arith.divf": (1.0, (1,)),
    "arith.addi": (0, (0, 1)),
    "arith.subi": (0, (1,)),
    "arith.muli": (1, (0, 1)),
    "arith.ori": (0, (0, 1)),
    "arith.andi": (-1, (0, 1)),
}


def drop_neutral_operations(operation: ir.Operation, signed_zeros: bool = True) -> bool:
    """Let readers of such operations read the operand; True when there were any. With `signed_zeros` a sum with +0
    stays: of -0 it makes +0.
    """
    changed = False
    for inner in operations_of(body_of(operation)):
        kept = _kept(inner, signed_zeros)
        if kept is not None:
            inner.results[0].replace_all_uses_with(kept)
            inner.erase()
            changed = True
    return changed


def _kept(inner: ir.Operation, signed_zeros: bool) -> ir.Value | None:
    """The operand that the operation's result equals."""
    if inner.name == "arith.select" and inner.operands[1] == inner.operands[2]:
        return inner.operands[1]
    if inner.name == "arith.addf":
        numbers = [_number(operand) for operand in inner.operands]
        for number, other in zip(numbers, reversed(list(inner.operands)), strict=True):
            if number == 0 and (not signed_zeros or math.copysign(1.0, number) < 0):
                return other
        return None
    neutral, places = _NEUTRAL.get(inner.name, (0, ()))
    for place in places:
        number = _number(inner.operands[place])
        if number == neutral and not (signed_zeros and inner.name == "arith.subf" and math.copysign(1.0, number) < 0):
            return inner.operands[1 - place]
    return None


def _number(value: ir.Value) -> float | None:
    """The constant that the scalar is; integers signed, so that true is -1."""
    maker = producer(value)
    if maker is not None and maker.name == "arith.extf":
        maker = producer(maker.operands[0])
    if maker is None or maker.name != "arith.constant":
        return None
    attribute = maker.attributes["value"]
    if isinstance(attribute, ir.BoolAttr):
        return -1 if attribute.value else 0
    return attribute.value if isinstance(attribute, ir.FloatAttr | ir.IntegerAttr) else None
