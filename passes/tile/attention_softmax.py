"""The softmax of an attention over tiles of scores in registers, whatever unit multiplies.

In: tiles of Q x K' for some queries of one batch, as they come. Out: the weights of each tile, the running maximum and
sum of every query, and at the end the quotient, with the rest of the kernel run on it and stored (online softmax:
Milakov and Gimelshein 2018, Dao et al. 2022).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from mlir import ir
from mlir.dialects import arith, math

from ...dialects.tensors import element_of
from ...runtime.symbolic import Expression, maximum, minimum
from ..lower.layouts import reduced_text
from .attention_parts import Parts
from .attention_scores import Scores, read_scores
from .builder import TileBuilder
from .contraction import Contraction
from .elements import ElementEmitter
from .forward import forward_position
from .programs import Request
from .scalars import convert
from .tile_types import element, full, map_, reduce, store, tile_of

LOG2_E = 1.4426950408889634


@dataclass(frozen=True)
class Online:
    """After one tile: new running values, the tile's weights, and the factor for what was summed before."""

    maximum: ir.Value
    total: ir.Value
    weights: ir.Value
    scale: ir.Value


@dataclass
class Softmax:
    """Queries from `row` on of batch `batch`, in tiles of `rows` x `keys` scores and `rows` x `width` results.

    With `approximate` the exponential is one instruction, and constant factors of the scores wait for it.
    """

    request: Request
    builder: TileBuilder
    parts: Parts
    first: Contraction
    second: Contraction
    shape: tuple[int, int, int]  # rows, keys, width
    layouts: tuple[str, str]  # of scores and results
    vector: int  # neighbouring scores of a thread, as the number of keys allows
    batch: Expression
    row: Expression
    approximate: bool
    scale: float = 1.0  # of the products, left out of the operands
    may_pass_end: bool = False  # a tile may begin after the last key

    @cached_property
    def scores(self) -> Scores:
        """What the maps between the products do."""
        return read_scores(self.builder, self.first, self.batch, self.parts.maximum.operands[0])

    @property
    def _waits(self) -> bool:
        """Whether the scores' constant factor is left to the exponential."""
        return self.approximate and self.scores.factor is not None

    @property
    def line_type(self) -> ir.Type:
        """The type of one number per query."""
        return tile_of(self.shape[0], 1, ir.F32Type.get(), self._line_layout)

    @property
    def _line_layout(self) -> str:
        rows, keys, _ = self.shape
        return reduced_text(1, self.layouts[0], rows, keys)

    # Running values -------------------------------------------------------------------------------------------------
    def start(self) -> tuple[ir.Value, ir.Value]:
        """Maximum and sum of no keys."""
        return self._full_line(_lowest()), self._full_line(arith.constant(ir.F32Type.get(), 0.0))

    def _full_line(self, value: ir.Value) -> ir.Value:
        return ir.Operation.create("tile.full", results=[self.line_type], operands=[value]).result

    def zeros(self, columns: int, layout: str) -> ir.Value:
        """A tile of zeros."""
        return full(self.shape[0], columns, layout, arith.constant(ir.F32Type.get(), 0.0))

    def step(self, scores: ir.Value, maximum: ir.Value, total: ir.Value) -> Online:
        """Take a tile of scores into the running maximum and sum of each query."""
        f32 = ir.F32Type.get()
        peak = reduce(scores, "max", 1, self.line_type)
        maximum_now = self._line(lambda: arith.maximumf(element(maximum, f32), element(peak, f32)))
        # A query without any key so far keeps the maximum -inf; subtracting it must not give NaN.
        shift = self._line(lambda: self._exponent(_finite(element(maximum_now, f32))))
        scale = self._line(lambda: self._power(element(maximum, f32), element(shift, f32)))
        weights = self._tile(0, lambda: self._power(element(scores, f32), element(shift, f32)))
        part = reduce(weights, "sum", 1, self.line_type)
        total_now = self._line(
            lambda: arith.addf(arith.mulf(element(total, f32), element(scale, f32)), element(part, f32))
        )
        return Online(maximum_now, total_now, weights, scale)

    def _exponent(self, value: ir.Value) -> ir.Value:
        """A score as the exponential takes it: itself, or times what makes it a power of two."""
        if not self.approximate:
            return value
        factor = (self.scores.factor or 1.0) * self.scale if self._waits else 1.0
        return arith.mulf(value, arith.constant(value.type, factor * LOG2_E), fastmath=arith.FastMathFlags.contract)

    def _power(self, value: ir.Value, shift: ir.Value) -> ir.Value:
        """exp of a score less the shift, which `_exponent` has seen."""
        if not self.approximate:
            return math.exp(arith.subf(value, shift))
        difference = arith.subf(self._exponent(value), shift, fastmath=arith.FastMathFlags.contract)
        return math.exp2(difference, fastmath=arith.FastMathFlags.afn)

    def joined(self, maximum: ir.Value, total: ir.Value, output: ir.Value, top: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Sum and output of some of the keys, as parts of a softmax whose maximum is `top`."""
        f32 = ir.F32Type.get()
        shift = self._line(lambda: self._exponent(_finite(element(top, f32))))
        scale = self._line(lambda: self._power(element(maximum, f32), element(shift, f32)))
        return self._line(lambda: arith.mulf(element(total, f32), element(scale, f32))), self.rescaled(output, scale)

    def rescaled(self, output: ir.Value, scale: ir.Value) -> ir.Value:
        """What was summed before, for the new maximum."""
        f32 = ir.F32Type.get()
        return self._tile(1, lambda: arith.mulf(element(output, f32), element(scale, f32)))

    def quotient(self, output: ir.Value, total: ir.Value) -> ir.Value:
        """What the weights make of the values; zero where there are none, if the model says so or there are no keys."""
        f32, guard = ir.F32Type.get(), self.parts.guard
        no_keys: ir.Value | None = None
        if not guard and self.first.columns.as_constant() is None:
            no_keys = arith.cmpi(arith.CmpIPredicate.eq, self.builder.index(self.first.columns), self.builder.index(0))
        if self.approximate:  # one division a query
            inverse = self._line(lambda: self._guarded("empty" if guard else "", _one(), element(total, f32), no_keys))
            return self.rescaled(output, inverse)
        return self._tile(1, lambda: self._guarded(guard, element(output, f32), element(total, f32), no_keys))

    def _guarded(self, guard: str, output: ir.Value, total: ir.Value, no_keys: ir.Value | None) -> ir.Value:
        value = arith.divf(output, total)
        zero = arith.constant(output.type, 0.0)
        if no_keys is not None:
            return arith.select(no_keys, zero, value)
        if not guard:
            return value
        test = (arith.CmpFPredicate.UNO, value, value) if guard == "nan" else (arith.CmpFPredicate.OEQ, total, zero)
        return arith.select(arith.cmpf(*test), zero, value)

    # Maps over tiles ------------------------------------------------------------------------------------------------
    def _line(self, body: Callable[[], ir.Value]) -> ir.Value:
        """A map over one value a query."""
        return self._map((self.shape[0], 1), self._line_layout, body)

    def _tile(self, number: int, body: Callable[[], ir.Value]) -> ir.Value:
        """A map over a tile of scores (0) or of results (1)."""
        return self._map((self.shape[0], self.shape[1 + number]), self.layouts[number], body)

    def _map(self, shape: tuple[int, int], layout: str, body: Callable[[], ir.Value]) -> ir.Value:
        zero, limit = self.builder.index(0), self.builder.index(1 << 30)
        every = ["rows", "columns"]
        made = map_(
            self.builder,
            (zero, zero),
            (limit, limit),
            shape,
            layout,
            lambda i, j: body(),
            ir.F32Type.get(),
            full_dimensions=every,
        )
        assert made is not None
        return made

    # Between memory and registers -----------------------------------------------------------------------------------
    def seen(self, scores: ir.Value, column: ir.Value, bounded: bool = False) -> ir.Value:
        """What the softmax sees of the keys from `column` on: the maps between the first product and the maximum, -inf
        past the last key. `bounded` says that no bound hides any of these scores and that none is past the last key.
        """
        builder, first, (rows, keys, _) = self.builder, self.first, self.shape
        f32 = ir.F32Type.get()
        result, wanted = self.parts.scores.results[0], self.parts.maximum.operands[0]
        complete = bounded or (first.columns.divisible_by(keys) and not self.may_pass_end)
        compared = self.scores.is_plain and bool(self.scores.bounds) and not bounded
        if self._waits and (bounded or not self.scores.bounds) and complete and self.scores.is_plain:
            return scores
        width = self.vector

        def body(i: ir.Value, j: ir.Value) -> ir.Value:
            row, key = builder.variable(i, "row", first.rows), builder.variable(j, "key", first.columns)
            own = element(scores, f32)
            replaced = self.scores.replaced(self._waits, bounded or compared)
            with builder.vectorised(key, width), builder.replacing(replaced):
                if width > 1:
                    builder.varying.update((j, own))
                emitter = ElementEmitter(builder)
                value = emitter.track(convert(self._scaled(own), "f32", element_of(result)), own)
                emitter.bind(result, lambda _: value)
                position = first.result(self.batch, row, key)
                found = emitter.element(wanted, forward_position(builder, result, position, wanted))
                score = convert(found, element_of(wanted), "f32")
                return self._compared(emitter, score, row, j, complete) if compared else score

        # Rows past the end are never stored; only what reads memory for them must be kept from it.
        full_dimensions = ["rows"] if self.scores.is_plain or first.rows.divisible_by(rows) else []
        full_dimensions += ["columns"] if complete or compared else []
        made = map_(
            builder,
            (builder.index(self.row), column),
            (builder.index(first.rows), builder.index(first.columns)),
            (rows, keys),
            self.layouts[0],
            body,
            f32,
            ir.FloatAttr.get(f32, float("-inf")),
            full_dimensions,
        )
        assert made is not None
        return made

    def _compared(
        self, emitter: ElementEmitter, score: ir.Value, row: Expression, key: ir.Value, complete: bool
    ) -> ir.Value:
        """The score where a query sees the key, else -inf: one comparison with the first of its keys, one with the
        last, in 32 bits, whatever the model compares.
        """
        builder = self.builder
        first, last = self.scores.limits(row)
        last += [] if complete else [self.first.columns - 1]
        kinds = ((first, maximum, arith.CmpIPredicate.sge), (last, minimum, arith.CmpIPredicate.sle))
        tests = [
            emitter.track(arith.cmpi(predicate, key, builder.index(functools.reduce(choose, limits))), key)
            for limits, choose, predicate in kinds
            if limits
        ]
        seen = functools.reduce(emitter.both, tests)
        return emitter.track(arith.select(seen, score, _lowest()), seen, score)

    def _scaled(self, score: ir.Value) -> ir.Value:
        """A product with the scale of its operands, unless that waits for the exponential."""
        if self._waits or self.scale == 1.0:
            return score
        return arith.mulf(score, arith.constant(score.type, self.scale))

    def store(self, output: ir.Value, layout: str, width: int) -> None:
        """Run the epilogue on the quotients, a tile of that layout with `width` neighbours in a thread, and store."""
        builder, second, (rows, _, columns) = self.builder, self.second, self.shape
        f32 = ir.F32Type.get()
        result = self.parts.output.results[0]

        def body(i: ir.Value, j: ir.Value) -> None:
            row, column = builder.variable(i, "row", second.rows), builder.variable(j, "column", second.columns)
            with builder.vectorised(column, width):
                own = element(output, f32)
                if width > 1:
                    builder.varying.update((j, own))
                emitter = ElementEmitter(builder)
                value = emitter.track(convert(own, "f32", element_of(result)), own)
                emitter.bind(result, lambda _: value)
                position = second.result(self.batch, row, column)
                for argument, returned in zip(builder.outputs, self.request.returned, strict=True):
                    indices = forward_position(builder, result, position, returned)
                    offset = builder.offset(argument, indices)
                    store(builder, emitter.element(returned, indices), argument.memory, offset, argument.element)

        complete = ["rows"] if second.rows.divisible_by(rows) else []
        complete += ["columns"] if second.columns.divisible_by(columns) else []
        map_(
            builder,
            (builder.index(self.row), builder.index(0)),
            (builder.index(second.rows), builder.index(second.columns)),
            (rows, columns),
            layout,
            body,
            full_dimensions=complete,
        )


def _one() -> ir.Value:
    return arith.constant(ir.F32Type.get(), 1.0)


def _lowest() -> ir.Value:
    return arith.constant(ir.F32Type.get(), ir.FloatAttr.get(ir.F32Type.get(), float("-inf")))


def _finite(value: ir.Value) -> ir.Value:
    same = arith.cmpf(arith.CmpFPredicate.OEQ, value, _lowest())
    return arith.select(same, arith.constant(value.type, 0.0), value)
