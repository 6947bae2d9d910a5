"""Pass `fold-normalisations`: products read a tensor as it is, and normalise their sums instead.

In: matmuls with constant weights whose left operand is a tensor that a map shifts and scales line by line (LayerNorm,
RMSNorm). Out: a product of the tensor itself with weights that hold the column factors, and a map over its sums. The
normalised tensor is then neither written nor read; what is left of the normalisation is two numbers a line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from mlir import ir

from ...dialects import graph_builder
from ...dialects.scalar import Scalar
from ...dialects.tensors import element_of, shape_of, tensor_type
from ...runtime.dtypes import dtype
from ...runtime.errors import ModelError
from ...runtime.symbolic import product
from ..target import find_target
from ..unit import Unit, WeightStore, register_pass
from .constant_rows import added_row, is_weight
from .gates import alternate_columns
from .narrow_storage import MOVEMENTS, cast_source
from .plan_precision import NARROW, narrow_type
from .rewriting import (
    Array,
    blocks_within,
    building_before,
    captures,
    clone_into,
    erase_dead,
    functions,
    fused_location,
    has_uses,
    integer,
    operations_of,
    producer,
    string,
    users,
)
from .row_terms import Line, Term, Terms, column_factors, find_terms

USUAL_FACTORS = (1 / 16, 16.0)  # the largest factor of a column: within these the range of f16 takes usual weights
USUAL_WEIGHTS = (2.0**-8, 2.0**15)  # the largest weight with its factor: within these all keep to the range of f16
LEAST_LINES = 64  # of a product whose kernel works on tiles, and adds the statistics of its lines up for the next one
FEW_LINES = 4  # up to which the kernel has no tiles: it is bound by the weights, and computes the statistics itself
LEAST_WEIGHTS = 1 << 16  # elements: only then (passes/tile/skinny.py)


@register_pass("fold-normalisations", requires="graph", ensures="graph")
def fold_normalisations(unit: Unit) -> None:
    """Move what a normalisation does to its tensor behind the products that read it.

    before::

        %n = "graph.map"() ({ (%x - %mean) * %scale * %gamma + %beta })
        %y = "graph.matmul"(%n, %w)

    after, with v = gamma w, s the sums of its columns as they are multiplied, and b = beta w::

        %p = "graph.matmul"(%x, %v)
        %y = "graph.map"() ({ (%p - %mean * %s) * %scale + %b })

    Only of products in f16 and bf16; of many lines on targets whose products leave room for it in the epilogue (wgmma),
    of few, such as those of decoding, on all. The tensor is stored narrow either way (one that the model keeps in f32
    beside 16-bit products is left alone); its normalised values are not rounded any more, and rounding of the weights
    cannot bring the mean back, because s is the sum of what is multiplied. Where factors of columns are far from one
    and take the weights out of the range of f16, a power of two goes to the scale instead.
    """
    with unit.module.context, ir.Location.unknown():
        main = functions(unit.module)["main"]
        for block in blocks_within(main):
            for operation in operations_of(block):
                if operation.name == "graph.map" and narrow_type(unit, operation.results[0]):
                    _fold(unit, operation)
        erase_dead(main)


# Decisions ------------------------------------------------------------------------------------------------------------
def _fold(unit: Unit, normalisation: ir.Operation) -> None:
    """Rewrite all products that read the map, where nothing else does but residuals of other products, which compute
    it again.
    """
    value = normalisation.results[0]
    readers = users(value)
    wgmma = find_target(unit.target).wgmma
    products = [own for own in readers if _can_take(own, value, wgmma)]
    residuals = [own for own in readers if own not in products]
    if not products or not all(_is_residual(own, value) for own in residuals):
        return
    terms = find_terms(value)
    if terms is None or len(terms.shifts) > 1 or not all(own.lines for own in terms.shifts):
        return
    if not _is_operand(unit, terms.tensor, element_of(value)):
        return
    for own in products:
        _rewrite(unit, own, terms)
    for own in residuals:
        _recompute(unit, own, value, terms)


def _can_take(reader: ir.Operation, value: ir.Value, wgmma: bool) -> bool:
    """A product of many lines, or few, with a constant matrix of known size."""
    if reader.name != "graph.matmul" or reader.operands[0] != value or reader.operands[1] == value:
        return False
    lines = product(shape_of(value)[:-1]).as_constant()
    known = all(size.as_constant() is not None for size in shape_of(reader.operands[1]))
    floats = element_of(value) in ("f32", *NARROW) and element_of(reader.operands[1]) == element_of(value)
    plain = is_weight(reader.operands[1], 2) and not integer(reader, "transpose_left")
    if not (plain and known and floats):
        return False
    if lines is None or lines >= LEAST_LINES:
        return wgmma
    size = product(shape_of(reader.operands[1])).as_constant() or 0
    return 0 < lines <= FEW_LINES and size >= LEAST_WEIGHTS


def _is_operand(unit: Unit, tensor: ir.Value, element: str) -> bool:
    """Whether products of such elements may take the tensor itself: it has them, or will be stored in 16 bits."""
    if element in NARROW and element_of(_stored(tensor, element)) == element:
        return True
    return element in ("f32", unit.precision) and unit.precision in NARROW and _stays_inside(tensor)


def _stored(tensor: ir.Value, element: str) -> ir.Value:
    """The tensor of such elements that it extends, if it does no more."""
    maker = producer(tensor)
    narrow = cast_source(maker, "arith.extf") if maker is not None else None
    return tensor if narrow is None or element_of(narrow) != element else narrow


def _stays_inside(tensor: ir.Value) -> bool:
    """Whether kernels of this block make a tensor and read it: then it will be stored as products read it. What enters
    or leaves the model or a branch stays wide, and a product that has to round its operand is slower than a norm.
    """
    source, pending = tensor, [tensor]
    while (maker := producer(source)) is not None and maker.name in MOVEMENTS:
        source = maker.operands[0]
        pending.append(source)
    while pending:
        readers = users(pending.pop())
        if any(own.name in ("func.return", "scf.yield", "scf.condition") for own in readers):
            return False
        pending += [own.results[0] for own in readers if own.name in MOVEMENTS]
    return producer(source) is not None


def _is_residual(reader: ir.Operation, value: ir.Value) -> bool:
    """A map of the tensor's shape that also reads a product which nothing else reads, such as what adds both: it will
    be the epilogue of that product.
    """
    if reader.name != "graph.map" or shape_of(reader.results[0]) != shape_of(value):
        return False
    if any(inner.operands[0] == value for inner in captures(reader, "graph.element_at")):
        return False
    makers = [producer(inner.operands[0]) for inner in captures(reader)]
    return any(own is not None and users(own.results[0]) == [reader] and _ends_product(own) for own in makers)


def _ends_product(operation: ir.Operation) -> bool:
    """A product with a constant matrix, or the map that adds its bias."""
    if operation.name == "graph.matmul":
        return is_weight(operation.operands[1], 2)
    makers = [producer(inner.operands[0]) for inner in captures(operation)] if operation.name == "graph.map" else []
    return any(
        own is not None and own.name == "graph.matmul" and added_row(operation, own.results[0]) is not None
        for own in makers
    )


# The rewrite ----------------------------------------------------------------------------------------------------------
def _rewrite(unit: Unit, matmul: ir.Operation, terms: Terms) -> None:
    """The product of the tensor, and a map behind it, a bias included; of a gate a map behind each of its halves."""
    result = matmul.results[0]
    row = added_row(readers[0], result) if len(readers := users(result)) == 1 else None
    last = matmul if row is None else readers[0]
    depth, columns = (shape_of(value)[-1].as_constant() or 0 for value in (matmul.operands[0], result))
    turned = bool(integer(matmul, "transpose_right"))
    constants = _Constants(
        unit.weights,
        narrow_type(unit, matmul.operands[0]) or unit.precision,
        _handle(matmul.operands[1]),
        turned,
        depth,
        columns,
        terms.scale,
        terms.shifts,
        terms.offsets,
        None if row is None else _handle(row),
    )
    with building_before(matmul):
        matrix = graph_builder.weight(constants.handle, shape_of(matmul.operands[1]), element_of(matmul.operands[1]))
        sums = graph_builder.matmul(
            _stored(terms.tensor, element_of(matrix)),
            matrix,
            transpose_right=turned,
            element="f32",
            unify=lambda own, _: own,
        )
        scale = _line(terms.scale.lines)
        shift = _line(terms.shifts[0].lines) if terms.shifts else None
    for number, half in enumerate(alternate_columns(result) or ()):
        own = clone_into(half, {result: sums}, ir.InsertionPoint(half)).results[0]
        own.set_type(tensor_type(shape_of(own), "f32"))
        with building_before(half, matmul.location):
            rows = constants.rows(slice(number, None, 2))
            made = _behind(own, scale, shift, rows, constants.unit, element_of(result))
        half.results[0].replace_all_uses_with(made)
    if has_uses(last.results[0]):
        with building_before(last, fused_location([matmul.location, last.location])):
            made = _behind(sums, scale, shift, constants.rows(slice(None)), constants.unit, element_of(last.results[0]))
        last.results[0].replace_all_uses_with(made)


def _recompute(unit: Unit, reader: ir.Operation, value: ir.Value, terms: Terms) -> None:
    """Let a map read a normalisation of its own, which becomes a part of it."""
    size = shape_of(value)[-1].as_constant() or 0
    weights, scale, offsets = unit.weights, terms.scale, terms.offsets

    def row(make: Callable[[], Array]) -> ir.Value:
        return graph_builder.weight(weights.add("normalised", lambda: make().astype(np.float32)), [size], "f32")

    with building_before(reader):
        factors = row(lambda: column_factors(weights, scale, size))
        added = row(lambda: sum((column_factors(weights, own, size) for own in offsets), np.zeros(size)))
        tensor = _stored(terms.tensor, element_of(value))
        inputs = [tensor, factors, added, _line(scale.lines), *(_line(own.lines) for own in terms.shifts)]
        signs = [own.factor for own in terms.shifts]

        def normalised(own: Scalar, factor: Scalar, offset: Scalar, line: Scalar, *shifts: Scalar) -> Scalar:
            own = own.cast("f32")
            for sign, shift in zip(signs, shifts, strict=True):
                own = own + shift.cast("f32") * sign
            return own * line.cast("f32") * factor + offset

        made = graph_builder.map(inputs, normalised, shape=shape_of(value), element=element_of(value))
    for inner in captures(reader):
        if inner.operands[0] == value:
            inner.operands[0] = made


def _line(lines: tuple[Line, ...]) -> ir.Value:
    """The product of the factors of a line; in f32, as a quotient of 16 bits may be too large for them."""
    values = [value for value, _ in lines]
    if len(lines) == 1 and not lines[0][1]:
        return values[0]

    def multiplied(*factors: Scalar) -> Scalar:
        total: Scalar | None = None
        for factor, (_, divides) in zip(factors, lines, strict=True):
            wide = factor.cast("f32")
            own = 1.0 / wide if divides else wide
            total = own if total is None else total * own
        assert total is not None
        return total

    return graph_builder.map(values, multiplied)


def _behind(
    sums: ir.Value,
    scale: ir.Value,
    shift: ir.Value | None,
    rows: tuple[ir.Value | None, ir.Value | None],
    unit: float,
    element: str,
) -> ir.Value:
    """(sums + shift * the first row) * (scale * unit) + the second row."""
    first, second = rows
    inputs = {name: value for name, value in zip("hfb", (shift, first, second), strict=True) if value is not None}

    def finished(own: Scalar, factor: Scalar, *others: Scalar) -> Scalar:
        given = dict(zip(inputs, others, strict=True))
        if "f" in given:
            own = own + given["h"].cast("f32") * given["f"]
        factor = factor.cast("f32")
        own = own * (factor if unit == 1 else factor * unit)
        return own + given["b"] if "b" in given else own

    return graph_builder.map([sums, scale, *inputs.values()], finished, shape=shape_of(sums), element=element)


@dataclass(frozen=True)
class _Constants:
    """The constants of a folded product; arrays are made when somebody asks for them, when the product is gone."""

    weights: WeightStore
    precision: str
    original: str  # handle of the weights before
    turned: bool  # whether they have a line for each column of the result
    depth: int
    columns: int
    scale: Term
    shifts: tuple[Term, ...]
    offsets: tuple[Term, ...]
    bias: str | None  # handle

    @cached_property
    def unit(self) -> float:
        """A power of two that is taken out of the weights with their factors, where f16 has no room for them.

        Weights are looked at only where the factors are unusual. One where they are not known: IR can be rewritten
        without its weights.
        """
        if self.precision != "f16":
            return 1.0
        try:
            factors = np.abs(column_factors(self.weights, self.scale, self.depth))
            if USUAL_FACTORS[0] <= factors.max(initial=0.0) <= USUAL_FACTORS[1]:
                return 1.0
            array = self.weights.view(self.original)
        except (KeyError, ModelError):
            return 1.0
        largest = float((factors * np.abs(array).max(0 if self.turned else 1, initial=0.0)).max(initial=0.0))
        if not 0 < largest < np.inf or USUAL_WEIGHTS[0] <= largest <= USUAL_WEIGHTS[1]:
            return 1.0
        return float(2.0 ** np.floor(np.log2(largest / USUAL_WEIGHTS[1])))

    @cached_property
    def handle(self) -> str:
        """Of the weights with the factors of columns."""
        return self.weights.add(f"{self.original}.normalised", self._folded)

    def rows(self, columns: slice) -> tuple[ir.Value | None, ir.Value | None]:
        """What is added for each of those columns of the result: times the shift of a line, and as it is."""
        first = self._row("shift", self._shift_row, columns) if self.shifts else None
        second = self._row("offset", self._offset_row, columns) if self.offsets or self.bias is not None else None
        return first, second

    def _row(self, name: str, make: Callable[[], Array], columns: slice) -> ir.Value:
        handle = self.weights.add(f"{self.original}.{name}", lambda: make()[columns].astype(np.float32))
        return graph_builder.weight(handle, [len(range(self.columns)[columns])], "f32")

    def _folded(self) -> Array:
        factors, array = column_factors(self.weights, self.scale, self.depth), self.weights.view(self.original)
        factors = ((factors if self.turned else factors[:, None]) / self.unit).astype(np.float32)
        return np.asarray(array.astype(np.float32, copy=False) * factors).astype(array.dtype)

    def _shift_row(self) -> Array:
        """Sums over k of the weights as they are multiplied: rounded."""
        rounded = self.weights.view(self.handle).astype(dtype(self.precision).numpy)
        sums = np.sum(rounded.astype(np.float32), axis=1 if self.turned else 0, dtype=np.float64)
        return np.asarray(self.shifts[0].factor * sums)

    def _offset_row(self) -> Array:
        array = self.weights.view(self.original).astype(np.float32, copy=False)
        total = np.zeros(self.columns)
        for term in self.offsets:
            column = column_factors(self.weights, term, self.depth).astype(np.float32)
            total = total + (array @ column if self.turned else column @ array)
        return total if self.bias is None else total + self.weights.view(self.bias).astype(np.float64)


def _handle(weight: ir.Value) -> str:
    owner = producer(weight)
    assert owner is not None
    return string(owner, "handle")
