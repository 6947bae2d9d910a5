"""What a map makes of a tensor, line by line, as a sum of terms: factors for each line, each column, and the tensor.

In: a value of the graph level. Out: its `Terms`, where it is (tensor + shift of the line) * factor of the line * factor
of the column + offset of the column, such as a normalisation over the last dimension; else None. Exporters write those
in many ways; the algebra does not depend on which.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from mlir import ir

from ...dialects.tensors import Shape, shape_of
from ..unit import WeightStore
from .rewriting import Array, body_of, constant_array, operations_of, producer, string
from .scalar_semantics import constant_value

MOST_TERMS = 8
_CASTS = ("arith.extf", "arith.truncf")
Line = tuple[ir.Value, bool]  # a tensor with one value a line, and whether it divides


@dataclass(frozen=True)
class Term:
    """A product: `factor`, the values of `lines`, those of `columns` (handles of weights), and a `tensor` or none."""

    factor: float = 1.0
    tensor: ir.Value | None = None
    lines: tuple[Line, ...] = ()
    columns: tuple[str, ...] = ()

    def times(self, other: Term) -> Term | None:
        """The product; None where both have a tensor."""
        if self.tensor is not None and other.tensor is not None:
            return None
        tensor = self.tensor if other.tensor is None else other.tensor
        return Term(self.factor * other.factor, tensor, self.lines + other.lines, self.columns + other.columns)

    @property
    def inverse(self) -> Term | None:
        """One over it, where it has factors of lines only."""
        if self.tensor is not None or self.columns or not self.factor:
            return None
        return Term(1 / self.factor, lines=tuple((value, not divides) for value, divides in self.lines))


@dataclass(frozen=True)
class Terms:
    """(tensor + sum of `shifts`) * scale + offset, for each line and column."""

    scale: Term  # with the tensor
    shifts: tuple[Term, ...]  # each to be multiplied by the scale
    offsets: tuple[Term, ...]  # of columns alone

    @property
    def tensor(self) -> ir.Value:
        """What is scaled."""
        assert self.scale.tensor is not None
        return self.scale.tensor


def find_terms(value: ir.Value) -> Terms | None:
    """The terms of a map's result, where one tensor of its shape is scaled line by line."""
    found = _expand(value, shape_of(value))
    scales = [term for term in found or [] if term.tensor is not None]
    if found is None or len(scales) != 1 or not scales[0].lines:
        return None
    scale, shifts, offsets = scales[0], [], []
    for term in found:
        if term.tensor is not None:
            continue
        if not term.lines:
            offsets.append(term)
            continue
        shift = _quotient(term, scale)
        if shift is None:
            return None
        shifts.append(shift)
    return Terms(scale, tuple(shifts), tuple(offsets))


def column_factors(weights: WeightStore, term: Term, size: int) -> Array:
    """The product of a term's constants for every column, in float64."""
    total = np.full(size, term.factor, np.float64)
    for handle in term.columns:
        total = total * weights.view(handle).astype(np.float64).reshape(-1)
    return total


def _quotient(term: Term, scale: Term) -> Term | None:
    """What the scale has to be multiplied by to be the term; None where that depends on the column."""
    if Counter(term.columns) != Counter(scale.columns) or Counter(scale.lines) - Counter(term.lines):
        return None
    rest = Counter(term.lines) - Counter(scale.lines)
    return Term(term.factor / scale.factor, lines=tuple(rest.elements())) if scale.factor else None


# From scalars to terms ------------------------------------------------------------------------------------------------
def _expand(value: ir.Value, shape: Shape) -> list[Term] | None:
    """The terms of an element of a tensor that a map reads; None where there are too many."""
    own = shape_of(value)
    maker = producer(value)
    if maker is not None and maker.name == "graph.constant" and all(size == 1 for size in own):
        return [Term(float(constant_array(maker).reshape(-1)[0]))]
    if not own:
        return None
    if maker is not None and maker.name == "graph.weight" and own[-1:] == shape[-1:]:
        return [Term(columns=(string(maker, "handle"),))] if all(size == 1 for size in own[:-1]) else None
    if own == (*shape[:-1], own[-1]) and own[-1] == 1:
        return [Term(lines=((value, False),))]
    if own != shape:
        return None
    found = _of_map(maker, shape) if maker is not None and maker.name == "graph.map" else None
    return found or [Term(tensor=value)]


def _of_map(operation: ir.Operation, shape: Shape) -> list[Term] | None:
    """The terms of what a map yields; None where it is no such sum, or says nothing about lines."""
    known: dict[ir.Value, list[Term]] = {}
    for inner in operations_of(body_of(operation)):
        if inner.name == "gpu.yield":
            found = known[inner.operands[0]]
            tensors = sum(term.tensor is not None for term in found)
            return found if tensors == 1 and any(term.lines for term in found) else None
        terms = _of_scalar(inner, known, shape)
        if terms is None or len(terms) > MOST_TERMS:
            return None
        known[inner.results[0]] = terms
    return None


def _of_scalar(inner: ir.Operation, known: dict[ir.Value, list[Term]], shape: Shape) -> list[Term] | None:
    if inner.name == "graph.element":
        return _expand(inner.operands[0], shape)
    if inner.name == "arith.constant":
        return [Term(float(constant_value(inner)))] if isinstance(inner.results[0].type, ir.FloatType) else None
    operands = [known[operand] for operand in inner.operands]
    if inner.name in _CASTS:
        return operands[0]
    if inner.name == "arith.negf":
        return _negated(operands[0])
    if inner.name == "arith.addf":
        return operands[0] + operands[1]
    if inner.name == "arith.subf":
        return operands[0] + _negated(operands[1])
    if inner.name == "arith.mulf":
        return _multiplied(operands[0], operands[1])
    if inner.name == "arith.divf" and len(operands[1]) == 1:
        inverse = operands[1][0].inverse
        return None if inverse is None else _multiplied(operands[0], [inverse])
    return None


def _negated(terms: list[Term]) -> list[Term]:
    return [replace(term, factor=-term.factor) for term in terms]


def _multiplied(left: list[Term], right: list[Term]) -> list[Term] | None:
    products = [first.times(second) for first in left for second in right]
    found = [term for term in products if term is not None]
    return found if len(found) == len(products) else None
