"""Weights of four bits as a product reads them: what a map makes of the two numbers in a byte, and what scales them.

In: a map that reads bytes, each twice along one dimension, as MatMulNBits and DequantizeLinear of packed weights do.
Out: which tensor holds the bytes and which scalars of the body are the zero point and the scale, so that a program may
read many numbers at once and scale their sum. What the bits mean is found by what the body computes of all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from mlir import ir

from ...dialects.tensors import element_of, shape_of
from .narrow_storage import cast_source
from .rewriting import Array, body_of, integer, operations_of, producer, yielded
from .scalar_semantics import apply_scalar, constant_value, understands

BITS = 4
SIGN = 1 << (BITS - 1)
MOST_SHIFT = 1 << 16  # far above any zero point; programs count on sums with 2^23 being exact
_BYTES = np.arange(256, dtype=np.uint8)
_PLACES = np.arange(4)[:, None]  # along the dimension whose neighbours share a byte
_FIELDS = (_BYTES >> (BITS * (_PLACES & 1)).astype(np.uint8)) & ((1 << BITS) - 1)
_CONVERSIONS = ("arith.sitofp", "arith.uitofp")


@dataclass(frozen=True)
class PackedFields:
    """A map of ``(field - shift - zero) * scale``, its fields being 0 to 15 or, where `signed`, -8 to 7.

    `zero` (f32, or i32 that is converted) and `scale` (f32) are scalars of the map's body that do not depend on the
    field; None stands for 0 and 1. `rounded`: the map rounds the number to the type that it gives.
    """

    operation: ir.Operation
    bytes: ir.Value  # the tensor of the map's shape that holds the byte of every field
    signed: bool
    shift: float
    zero: ir.Value | None
    scale: ir.Value | None
    rounded: bool


def packed_fields(value: ir.Value, axis: int) -> PackedFields | None:
    """How the tensor `value` is made of fields of four bits, two a byte along `axis`; None when it is not."""
    made = _unrounded(value)
    for read in byte_reads(value):
        found = _Body(made.owner.operation, read, axis).match()
        if found is not None:
            return replace(found, rounded=found.rounded or made != value)
    return None


def _unrounded(value: ir.Value) -> ir.Value:
    """What a map rounds and nothing else, as plan-precision does with operands of f32; else the value itself."""
    owner = producer(value)
    source = None if owner is None else cast_source(owner, "arith.truncf")
    return value if source is None else source


def byte_reads(value: ir.Value) -> list[ir.Operation]:
    """What reads bytes, one for each element, in the map that makes a tensor; nothing where no map makes it."""
    owner = producer(_unrounded(value))
    if owner is None or owner.name != "graph.map":
        return []
    reads = [operation for operation in operations_of(body_of(owner)) if operation.name == "graph.element"]
    return [
        read
        for read in reads
        if element_of(read.operands[0]) in ("ui8", "i8") and shape_of(read.operands[0]) == shape_of(value)
    ]


class _Body:
    """A map's body, and what its scalars are for every byte and place of a field where they depend on these alone."""

    def __init__(self, owner: ir.Operation, read: ir.Operation, axis: int) -> None:
        self.owner, self.read = owner, read
        self.known: dict[ir.Value, Array] = {read.results[0]: _BYTES.view(np.int8)[None]}
        self.dependent = {read.results[0]}  # scalars that the byte is in
        for operation in operations_of(body_of(owner)):
            if operation.name == "graph.index" and integer(operation, "axis") == axis:
                self.known[operation.results[0]] = _PLACES
            elif operation.name == "arith.constant":
                self.known[operation.results[0]] = constant_value(operation)
            else:
                self._compute(operation)

    def _compute(self, operation: ir.Operation) -> None:
        operands = list(operation.operands)
        if any(operand in self.dependent for operand in operands):
            self.dependent.update(operation.results)
        if operands and understands(operation.name) and all(operand in self.known for operand in operands):
            with np.errstate(all="ignore"):
                known = [self.known[operand] for operand in operands]
                self.known[operation.results[0]] = apply_scalar(operation, known)

    def match(self) -> PackedFields | None:
        """The parts of the number that the map gives, or None when it is something else."""
        result = yielded(self.owner)[0]
        rounding = producer(result)
        rounded = rounding is not None and rounding.name == "arith.truncf"
        if rounding is not None and rounded:
            result = rounding.operands[0]
        if str(result.type) != "f32":
            return None
        centred, scale = self._scaled(result)
        number, zero = self._centred(centred)
        meaning = self._meaning(number)
        if meaning is None:
            return None
        return PackedFields(self.owner, self.read.operands[0], *meaning, zero, scale, rounded)

    def _scaled(self, result: ir.Value) -> tuple[ir.Value, ir.Value | None]:
        """(number, scale) of a product of one that the byte is in and one that it is not in."""
        factors = producer(result)
        if factors is None or factors.name != "arith.mulf":
            return result, None
        left, right = factors.operands
        if left not in self.dependent:
            left, right = right, left
        return (result, None) if right in self.dependent else (left, right)

    def _centred(self, number: ir.Value) -> tuple[ir.Value, ir.Value | None]:
        """(field, zero point) of a difference, of floats or of integers that become one."""
        difference = producer(number)
        if number in self.known or difference is None:
            return number, None
        if difference.name in _CONVERSIONS:
            difference = producer(difference.operands[0])
        if difference is None or difference.name not in ("arith.subf", "arith.subi"):
            return number, None
        field, zero = difference.operands
        return (number, None) if zero in self.dependent else (field, zero)

    def _meaning(self, number: ir.Value) -> tuple[bool, float] | None:
        """(signed, what is taken away) of a scalar that depends on the field alone."""
        if number not in self.known:
            return None
        values = np.broadcast_to(self.known[number], _FIELDS.shape).astype(np.float64)
        for signed in (False, True):
            fields = (_FIELDS.astype(np.int64) ^ SIGN) - SIGN if signed else _FIELDS
            taken = fields - values
            if np.all(taken == taken[0, 0]) and float(taken[0, 0]).is_integer() and abs(taken[0, 0]) <= MOST_SHIFT:
                return signed, float(taken[0, 0])
        return None
