"""How an operand of a contraction reaches shared memory: along which dimension, how wide, copied or computed.

In: an operand's index function from the contraction view. Out: the layout of its shared tile and the
tile.copy or tile.fill that fills it. An operand that is in memory as it is, maybe moved, is copied
asynchronously; one with a fused prologue is computed on the way.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mlir import ir
from mlir.dialects import arith

from ...dialects.tensors import element_of, scalar_type, shape_of
from ...runtime.symbolic import ZERO, Expression
from ..graph.packed_fields import PackedFields
from ..lower.dot_layouts import SharedLayout
from .builder import TileBuilder, bytes_of
from .contraction import Condition, Place
from .elements import Address, ElementEmitter, Indices, zero
from .packed_words import BYTE_FIELDS, FIELDS, fields_along, word_address
from .scalars import convert
from .schedule import size_guess, value_guess
from .tile_types import ACCESS_BYTES, i64, tile_of

NEAR = 8  # elements: the lanes of a warp then share the sectors of a few lines

PlaceAt = Callable[[Expression, Expression], Place]  # (row, column) of the operand's tile -> place


@dataclass(frozen=True)
class Operand:
    """One operand of a contraction and how it is staged. `dimension` is the one that is not k: 0 of the left,
    1 of the right.
    """

    place: PlaceAt
    extents: tuple[Expression, Expression]  # of the whole operand as a matrix
    block: tuple[int, int]  # rows and columns of the shared tile
    dimension: int
    element: str  # dtype in shared memory
    copied: bool  # tile.copy, else tile.fill
    fast: int  # dimension along which threads and vectors run
    vector: int
    fields: PackedFields | None = None  # of a computed operand that is read by words of `vector` of them

    def with_block(self, block: tuple[int, int]) -> Operand:
        """The same operand with the shape of its shared tile."""
        return replace(self, block=block)

    def at(self, place: PlaceAt) -> Operand:
        """The same plan over the index function of a particular batch."""
        return replace(self, place=place)


def plan_operand(
    builder: TileBuilder,
    emitter: ElementEmitter,
    place: PlaceAt,
    extents: tuple[Expression, Expression],
    dimension: int,
    element: str,
    along_depth: bool = False,
) -> Operand:
    """Choose the fast dimension and the vector width of an operand, by algebra on its address. `along_depth`: the fast
    dimension must be k.
    """
    probe = _Probe(builder, emitter, place, extents)
    source = element_of(place(ZERO, ZERO).tensor)
    address, copied = probe.address()
    copied = copied and source == element
    widths = [0, 0]
    if address is not None:
        widest = ACCESS_BYTES // bytes_of(element)
        widths = [min(widest, probe.width(axis, address)) for axis in (0, 1)]
    if along_depth:
        fast = 1 - dimension
    else:
        fast = _scalar_direction(probe, address, dimension) if widths[0] == widths[1] else int(widths[1] > widths[0])
    operand = Operand(place, extents, (0, 0), dimension, element, copied, fast, max(1, widths[fast]))
    fields = _packed_fields(builder, emitter, operand)
    return operand if fields is None else replace(operand, fast=1 - dimension, vector=FIELDS, fields=fields)


def _packed_fields(builder: TileBuilder, emitter: ElementEmitter, operand: Operand) -> PackedFields | None:
    """How the operand is made of fields of four bits of which eight along k are a word; None when they are not."""
    if operand.copied or operand.vector > 1 or bytes_of(operand.element) * FIELDS != ACCESS_BYTES:
        return None
    own = Expression.symbol(f"%probe{operand.dimension}")
    fields = fields_along(lambda depth: operand.place(*_position(operand, depth, ZERO)))
    if fields is None or not operand.extents[1 - operand.dimension].divisible_by(FIELDS):
        return None
    word = Expression.symbol("%probe_word")
    builder.extents["%probe_word"] = operand.extents[1 - operand.dimension].ceil_divide(FIELDS)
    address = word_address(emitter, fields, lambda depth: operand.place(*_position(operand, depth, own)), word)
    return None if address is None else fields


def _position(operand: Operand, depth: Expression, own: Expression) -> tuple[Expression, Expression]:
    """(row, column) of an operand's matrix by k and the other dimension."""
    return (own, depth) if operand.dimension == 0 else (depth, own)


def _scalar_direction(probe: _Probe, address: Address | None, dimension: int) -> int:
    """The dimension along which threads run when neither vectorises better.

    It is the one that is contiguous more often, else k, which suits the main loop. But where the pixels of a
    convolution are close to each other, threads run along them: each then takes one pixel apart, and taps,
    which are the same for all threads, cost nothing.
    """
    steps = [probe.steps(axis, address) for axis in (0, 1)]
    contiguous = [sum(step == 1 for step in own) for own in steps]
    depth = 1 - dimension
    fast = depth if contiguous[0] == contiguous[1] else int(contiguous[1] > contiguous[0])
    near = sum(0 < step <= NEAR for step in steps[dimension]) * 2 > len(steps[dimension])
    if address is not None and near and address.offset.coefficient(probe.names[dimension]) is None:
        return dimension
    return fast


class _Probe:
    """Stand-ins for the row and the column of an operand, on which its address is studied."""

    def __init__(
        self,
        builder: TileBuilder,
        emitter: ElementEmitter,
        place: PlaceAt,
        extents: tuple[Expression, Expression],
    ) -> None:
        self.builder, self.emitter, self.extents = builder, emitter, extents
        self.names = []
        for axis in (0, 1):
            name = f"%probe{axis}"
            builder.extents[name] = extents[axis]
            self.names.append(name)
        row, column = map(Expression.symbol, self.names)
        self.place = place(row, column)

    def address(self) -> tuple[Address | None, bool]:
        """The operand's address, and whether it is exactly that; of a computed operand, that of what it
        mainly reads.
        """
        value, indices, exact = self.place.tensor, self.place.indices, True
        while True:
            found = self.emitter.address(value, indices)
            if found is not None:
                return found, exact
            exact = False
            inner = _main_source(value)
            if inner is None:
                return None, False
            value = inner

    def width(self, axis: int, address: Address) -> int:
        """Elements that one aligned access along `axis` may bring."""
        width = ACCESS_BYTES // address.argument.bytes
        while width > 1 and not self._accessible(axis, address, width):
            width //= 2
        return width

    def _accessible(self, axis: int, address: Address, width: int) -> bool:
        if not self.extents[axis].divisible_by(width):
            return False
        name = self.names[axis]
        lane, block = Expression.symbol("%lane"), Expression.symbol("%block")
        quotient = Expression({monomial: factor // width for monomial, factor in self.extents[axis].terms})
        extents = {**self.builder.extents, "%lane": Expression.constant(width), "%block": quotient}
        extents.pop(name, None)

        def moved(value: Expression) -> Expression:
            return value.substitute({name: block * width + lane}, extents)

        offset = moved(address.offset)
        if offset.coefficient("%lane") != 1 or not (offset - lane).divisible_by(width):
            return False
        tests = [part for c in self.place.conditions for part in (c.value, c.limit, c.numerator)]
        tests += list(address.inside)
        return all("%lane" not in moved(test).symbols for test in tests)

    def steps(self, axis: int, address: Address | None) -> list[int]:
        """How far the next position along `axis` is in memory, for eight positions with sizes guessed."""
        if address is None:
            return [0] * 8
        values = {
            name: 1 if name.startswith("%") else size_guess(Expression.symbol(name)) for name in address.offset.symbols
        }
        offsets = [value_guess(address.offset, {**values, self.names[axis]: step}) for step in range(9)]
        return [after - before for before, after in itertools.pairwise(offsets)]


def _main_source(value: ir.Value) -> ir.Value | None:
    """The tensor that a map reads at its own shape, if any."""
    if isinstance(value.owner, ir.Block) or value.owner.name != "graph.map":
        return None
    found: list[ir.Value] = []

    def visit(operation: ir.Operation) -> ir.WalkResult:
        if operation.name == "graph.element" and shape_of(operation.operands[0]) == shape_of(value):
            found.append(operation.operands[0])
        return ir.WalkResult.ADVANCE

    value.owner.walk(visit)
    return found[0] if found else None


def shared_layout(operand: Operand, instruction: str, element_bytes: int) -> SharedLayout:
    """The layout of the operand's shared tile, padded so that the main loop reads it without bank
    conflicts.
    """
    length = operand.block[operand.fast]
    depth_contiguous = operand.fast != operand.dimension
    lines = "rows" if operand.fast == 1 else "columns"
    access = ACCESS_BYTES // element_bytes
    length = -(-length // access) * access
    if not depth_contiguous and instruction == "m16n8k8.tf32":
        # Scalar reads at (4 lines along k) x (8 neighbours): lines 8 banks apart touch 32 different ones.
        return SharedLayout(lines, length + (8 - length) % 32)
    if depth_contiguous or instruction != "fma":
        # Reads of 16 bytes from consecutive lines: an odd number of 16-byte pieces a line spreads them over
        # all banks.
        pieces = length // access
        return SharedLayout(lines, (pieces + (pieces + 1) % 2) * access)
    return SharedLayout(lines, length)


def emit_transfer(
    builder: TileBuilder,
    emitter: ElementEmitter,
    operand: Operand,
    tile: ir.Value,
    stage: ir.Value,
    origin: Sequence[ir.Value],
) -> None:
    """The tile.copy or tile.fill that brings the operand's tile at `origin` (row, column) into a stage."""
    index = ir.IndexType.get()
    if operand.copied:
        memory = _argument(builder, emitter, operand)
        operation = ir.Operation.create(
            "tile.copy",
            operands=[tile, stage, memory, *origin],
            attributes={"vector": i64(operand.vector)},
            regions=1,
        )
    else:
        operation = ir.Operation.create(
            "tile.fill",
            operands=[tile, stage, *origin],
            attributes={"vector": i64(operand.vector)},
            regions=1,
        )
    block = operation.regions[0].blocks.append(index, index)
    with ir.InsertionPoint(block), builder.region():
        yielded = _body(builder, emitter.fresh(), operand, *block.arguments)
        ir.Operation.create("gpu.yield", operands=yielded)


def _argument(builder: TileBuilder, emitter: ElementEmitter, operand: Operand) -> ir.Value:
    place = operand.place(ZERO, ZERO)
    address = emitter.address(place.tensor, place.indices)
    assert address is not None
    return address.argument.memory


def _body(
    builder: TileBuilder, emitter: ElementEmitter, operand: Operand, row: ir.Value, column: ir.Value
) -> list[ir.Value]:
    """(offset, predicate) for a copy, (value) for a fill."""
    position = [
        builder.variable(value, hint, extent)
        for value, hint, extent in zip((row, column), ("row", "column"), operand.extents, strict=True)
    ]
    if not operand.copied and operand.vector > 1:
        with builder.vectorised(position[operand.fast], operand.vector):
            builder.varying.add((row, column)[operand.fast])
            return _yielded(builder, emitter, operand, position)
    return _yielded(builder, emitter, operand, position)


def _yielded(
    builder: TileBuilder, emitter: ElementEmitter, operand: Operand, position: list[Expression]
) -> list[ir.Value]:
    """What the body yields at a position. The predicate is the same for all lanes of a vector."""
    place = operand.place(position[0], position[1])
    checks = [
        below(builder, own, extent)
        for own, extent, block in zip(position, operand.extents, operand.block, strict=True)
        if not extent.divisible_by(block)
    ]
    for condition in place.conditions:
        checks += _condition(builder, condition)
    if operand.copied:
        address = emitter.address(place.tensor, place.indices)
        assert address is not None
        checks += [check for check in map(emitter.nonnegative, address.inside) if check is not None]
        offset = builder.index(address.offset)
        return [offset, *([_all(checks)] if checks else [])]
    inside = emitter.guarded([_all(checks)]) if checks else emitter
    if operand.fields is not None:
        _bind_words(builder, inside, operand, position)
    source = element_of(place.tensor)
    value = convert(inside.element(place.tensor, place.indices), source, operand.element)
    if checks:
        value = arith.select(_all(checks), value, zero(scalar_type(operand.element)))
    return [value]


def _bind_words(
    builder: TileBuilder, emitter: ElementEmitter, operand: Operand, position: Sequence[Expression]
) -> None:
    """Let the byte of a field be taken from the word that it is in, which all lanes of a vector share."""
    fields, k = operand.fields, position[1 - operand.dimension]
    assert fields is not None
    word, own = builder.divide(k, FIELDS), position[operand.dimension]
    address = word_address(emitter, fields, lambda depth: operand.place(*_position(operand, depth, own)), word)
    assert address is not None
    i32 = ir.IntegerType.get_signless(32)

    def byte(_: Indices) -> ir.Value:
        loaded = emitter.load_run(address.argument, address.offset, i32, 0)
        index = builder.index(builder.divide(k - word * FIELDS, BYTE_FIELDS) * 8)
        bits = emitter.track(arith.index_cast(i32, index), index)
        moved = emitter.track(arith.shrui(loaded, bits), loaded, bits)
        return emitter.track(arith.trunci(ir.IntegerType.get_signless(8), moved), moved)

    emitter.bind(fields.bytes, byte)


def below(builder: TileBuilder, value: Expression, limit: Expression) -> ir.Value:
    """0 <= value < limit in one unsigned comparison."""
    return arith.cmpi(arith.CmpIPredicate.ult, builder.index(value), builder.index(limit))


def _condition(builder: TileBuilder, condition: Condition) -> list[ir.Value]:
    checks = [below(builder, condition.value, condition.limit)]
    if condition.multiple > 1:
        rest = builder.index(builder.remainder(condition.numerator, condition.multiple))
        checks.append(arith.cmpi(arith.CmpIPredicate.eq, rest, builder.index(0)))
    return checks


def _all(checks: Sequence[ir.Value]) -> ir.Value:
    total = checks[0]
    for check in checks[1:]:
        total = arith.andi(total, check)
    return total


def allocate(operand: Operand, layout: SharedLayout, stages: int) -> ir.Value:
    """The operand's shared tile."""
    type_ = tile_of(*operand.block, scalar_type(operand.element), str(layout))
    return ir.Operation.create("tile.allocate", results=[type_], attributes={"stages": i64(stages)}).result
