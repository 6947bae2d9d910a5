"""The program of few rows times weights of four bits: words of eight weights, read 16 bytes at a time.

In: a contraction with few rows whose weights a map makes of packed fields, zero points and scales, as MatMulNBits
and DequantizeLinear do. Out: the program of skinny.py over words in the place of weights: a thread widens the fields of
a word exactly, sums their products in f32 and scales the sum, since a block of k that shares a scale has whole words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from mlir import ir
from mlir.dialects import arith, math

from ...dialects.tensors import element_of, scalar_type, shape_of
from ...runtime.symbolic import ZERO, Expression
from ..graph.packed_fields import BITS, SIGN, PackedFields
from ..graph.rewriting import body_of, integer, operations_of, producer
from .builder import TileBuilder, bytes_of
from .contraction import Contraction
from .elements import MOVEMENT_RULES, ElementEmitter, Indices
from .map_elements import operations_behind, scalar_of_map
from .packed_words import BYTE_FIELDS, FIELDS, WORD_BYTES, fields_along, word_address
from .programs import Request
from .scalars import convert
from .schedule import size_guess
from .shared_operand import below
from .skinny import LEAST_WEIGHTS, Body, Skinny, chosen_schedule, few_rows, sizes_of, skinny_view
from .skinny_schedule import PackedProblem
from .tile_types import element, program_id, select_bytes

MOST_ROWS = {4: 8, 2: 4}  # by the bytes of what is multiplied: beyond, tiles take fewer instructions a weight
_MANTISSA = 23
_ANCHOR = 0x4B000000  # 2^23: the last place of its mantissa counts ones
_TO_MANTISSA = 0x7650  # the byte that is chosen, below the upper three of the anchor
_LOWER = 0x0F0F0F0F  # the lower field of each byte
_SIGNS = 0x88888888 - (1 << 32)
_FIELD = "%probe_field"  # stands for the number of a field in its word
_WHOLE = ("arith.sitofp", "arith.uitofp")  # give integers, which are small here

Position: TypeAlias = tuple[Expression, Expression, Expression]  # batch, word, column


@dataclass
class PackedSkinny(Skinny):
    """A skinny program whose weights are words of `FIELDS` numbers along k."""

    fields: PackedFields
    words: int  # of a line; the last may be past the end of k, in what fills the line up

    @property
    def depth(self) -> Expression:
        """Tiles have words along k."""
        return Expression.constant(self.words)

    @property
    def source(self) -> str:
        """Tiles are of words."""
        return "i32"

    def emit(self) -> None:
        """The whole program of a block. The anchor is made of the block's second number, which is always 0: a constant
        ptxas would put into every instruction, and in front of each a move of what selects the bytes to a register.
        """
        none = arith.index_cast(ir.IntegerType.get_signless(32), program_id(1))
        self.anchor = arith.ori(none, _integer(_ANCHOR))
        super().emit()

    def _weight(self, emitter: ElementEmitter, depth: Expression, column: Expression) -> ir.Value:
        word = word_address(emitter, self.fields, lambda k: self.view.right(self.batch, k, column), depth)
        assert word is not None
        return emitter.load_run(word.argument, word.offset, scalar_type(self.source), WORD_BYTES)

    def _multiply(self, row: int, tile: ir.Value, total: ir.Value) -> Body:
        """total + scale * (the sum of eight weights times the elements of this row at their k)."""

        def body(emitter: ElementEmitter, depth: Expression, column: Expression) -> ir.Value:
            first = depth * FIELDS
            whole = self.view.depth.divisible_by(FIELDS)
            if whole and self.view.depth != self.words * FIELDS:
                emitter = emitter.guarded([below(self.builder, first, self.view.depth)])
            runs = emitter.in_runs(FIELDS if whole else 1)
            factors = [self._factor(runs, row, first + number, whole) for number in range(FIELDS)]
            place = self.view.right(self.batch, first, column)
            weights = self._weights(emitter, element(tile, scalar_type(self.source)), place.indices)
            before = element(total, scalar_type(self.accumulator))
            scale = self.fields.scale
            products: ir.Value | None = before if scale is None else None
            for factor, weight in zip(factors, weights, strict=True):
                products = arith.mulf(factor, weight) if products is None else math.fma(factor, weight, products)
            assert products is not None
            if scale is None:
                return products
            return math.fma(products, scalar_of_map(emitter, self.fields.operation, scale, place.indices), before)

        return body

    def _factor(self, emitter: ElementEmitter, row: int, depth: Expression, whole: bool) -> ir.Value:
        """The element of a row at some k in f32, zero past the end."""
        if not whole:
            emitter = emitter.guarded([below(self.builder, depth, self.view.depth)])
        place = self.view.left(self.batch, self.places[row], depth)
        return convert(emitter.element(place.tensor, place.indices), element_of(place.tensor), self.accumulator)

    def _weights(self, emitter: ElementEmitter, word: ir.Value, indices: Indices) -> list[ir.Value]:
        """The eight numbers of a word, not scaled. A field becomes the last bits of 2^23, from which 2^23 and the zero
        point are taken away together, exactly: conversions of integers are slower.
        """
        shift = self.fields.shift + (SIGN if self.fields.signed else 0)
        zero, rest = self._zero(emitter, indices)
        if self.fields.signed:
            word = arith.xori(word, _integer(_SIGNS))
        taken = _float(2.0**_MANTISSA + shift)
        if zero is not None:
            taken = arith.addf(taken, zero)
        mask = _integer(_LOWER)
        halves = arith.andi(word, mask), arith.andi(arith.shrui(word, _integer(BITS)), mask)
        found = []
        for number in range(FIELDS):
            anchored = select_bytes(halves[number % BYTE_FIELDS], self.anchor, _TO_MANTISSA + number // BYTE_FIELDS)
            own = arith.subf(arith.bitcast(ir.F32Type.get(), anchored), taken)
            found.append(own if rest is None else arith.subf(own, rest))
        return found

    def _zero(self, emitter: ElementEmitter, indices: Indices) -> tuple[ir.Value | None, ir.Value | None]:
        """The zero point of a word as (a small integer, any other number) in f32."""
        zero = self.fields.zero
        if zero is None:
            return None, None
        value = scalar_of_map(emitter, self.fields.operation, zero, indices)
        if isinstance(value.type, ir.IntegerType):
            return arith.sitofp(ir.F32Type.get(), value), None
        owner = producer(zero)
        return (value, None) if owner is not None and owner.name in _WHOLE else (None, value)


def _integer(value: int) -> ir.Value:
    return arith.constant(ir.IntegerType.get_signless(32), value)


def _float(value: float) -> ir.Value:
    return arith.constant(ir.F32Type.get(), value)


# Decisions ------------------------------------------------------------------------------------------------------
def plan_packed(builder: TileBuilder, view: Contraction, accumulator: str, request: Request) -> PackedSkinny | None:
    """The program for this contraction, or None when its weights are no packed fields or it has more rows."""
    turned = skinny_view(view)
    return None if turned is None else _plan(builder, turned, turned.rows.as_constant() or 1, accumulator, request)


def plan_few_packed(builder: TileBuilder, view: Contraction, accumulator: str, request: Request) -> PackedSkinny | None:
    """The program for sizes at which `few_rows` is right, or None when there is no use for one."""
    found = few_rows(view)
    return None if found is None else _plan(builder, *found, accumulator, request)


def _plan(
    builder: TileBuilder, turned: Contraction, rows: int, accumulator: str, request: Request
) -> PackedSkinny | None:
    depth = turned.depth.as_constant()
    if depth is None or size_guess(turned.columns) * depth < LEAST_WEIGHTS or accumulator != "f32":
        return None
    few, weights = turned.left(ZERO, ZERO, ZERO), turned.right(ZERO, ZERO, ZERO)
    if turned.pairs == 0 or few.conditions or weights.conditions:
        return None
    if rows > MOST_ROWS.get(bytes_of(element_of(weights.tensor)), 0):
        return None
    fields = fields_along(lambda depth: turned.right(ZERO, depth, ZERO))
    if fields is None or (fields.rounded and request.precision == "strict"):
        return None
    vector = next((own for own in (4, 2) if _is_readable(builder, turned, fields, own)), None)
    if vector is None:
        return None
    words = _words(turned, vector)
    problem = PackedProblem(*sizes_of(turned, rows, words), WORD_BYTES, vector, True, FIELDS)
    schedule = chosen_schedule(turned, problem, request)
    if schedule is None:
        return None
    return PackedSkinny(builder, turned, accumulator, request.returned, schedule, rows, fields, words)


def _words(turned: Contraction, vector: int) -> int:
    """Words of a line that is read by `vector` of them."""
    return -(-(turned.depth.as_constant() or 0) // (FIELDS * vector)) * vector


def _is_readable(builder: TileBuilder, turned: Contraction, fields: PackedFields, vector: int) -> bool:
    """Whether eight weights along k are a word with one scale and zero point, and `vector` words an aligned access."""
    batch, word, column = (Expression.symbol(f"%probe_{name}") for name in ("batch", "word", "column"))
    builder.extents |= {
        "%probe_batch": turned.batch, "%probe_column": turned.columns, _FIELD: Expression.constant(FIELDS),
        "%probe_word": Expression.constant(_words(turned, vector)),
    }  # fmt: skip
    position = (batch if turned.batch != 1 else ZERO, word, column)
    emitter = ElementEmitter(builder)
    address = word_address(emitter, fields, lambda depth: turned.right(position[0], depth, column), word)
    if address is None or not _is_shared(emitter, turned, fields, position):
        return False
    line = address.offset - word * WORD_BYTES
    return "%probe_word" not in line.symbols and line.divisible_by(vector * WORD_BYTES)


def _is_shared(emitter: ElementEmitter, view: Contraction, fields: PackedFields, position: Position) -> bool:
    """Whether the fields of a word have one zero point and one scale."""
    batch, word, column = position
    indices = view.right(batch, word * FIELDS + Expression.symbol(_FIELD), column).indices
    behind = [operations_behind(wanted) for wanted in (fields.zero, fields.scale) if wanted is not None]
    return all(_reads_the_same(emitter, operation, indices) for own in behind for operation in own)


def _reads_the_same(emitter: ElementEmitter, operation: ir.Operation, indices: Indices) -> bool:
    """Whether an operation of a map's body has one result for all fields of a word, if its operands have."""
    if operation.name == "graph.index":
        return _FIELD not in indices[integer(operation, "axis")].symbols
    if operation.name == "graph.element":
        tensor = operation.operands[0]
        shape = shape_of(tensor)
        own = indices[len(indices) - len(shape) :]
        return _is_same(emitter, tensor, tuple(ZERO if size == 1 else i for size, i in zip(shape, own, strict=True)))
    return bool(operation.name != "graph.element_at")


def _is_same(emitter: ElementEmitter, tensor: ir.Value, indices: Indices) -> bool:
    """Whether the fields of a word read one element of a tensor, or equal ones."""
    if all(_FIELD not in index.symbols for index in indices):
        return True
    address, owner = emitter.address(tensor, indices), producer(tensor)
    if address is not None:
        return not address.inside and _FIELD not in address.offset.symbols
    if owner is not None and owner.name in MOVEMENT_RULES:
        return _is_same(emitter, owner.operands[0], MOVEMENT_RULES[owner.name](emitter.builder, owner, indices))
    if owner is None or owner.name != "graph.map":
        return False
    return all(_reads_the_same(emitter, operation, indices) for operation in operations_of(body_of(owner)))
