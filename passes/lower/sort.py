"""tile.sort: a bitonic network over keys and places in memory, run by one block.

In: two arrays and how many elements they have. Out: both sorted. Every comparison puts the lesser element at the lower
position (the first step of a merge mirrors the upper half instead of reversing it), so that what lies past the end
needs no filling: it would be the greatest, and would stay where it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlir import ir
from mlir.dialects import arith, scf

from .context import LoweringContext, byte_width, lowering


@dataclass(frozen=True)
class _Arrays:
    """Pointers to the first key and the first place."""

    context: LoweringContext
    keys: ir.Value
    places: ir.Value
    key: ir.Type

    def read(self, index: ir.Value) -> tuple[ir.Value, ir.Value]:
        """(key, place) number `index`."""
        context = self.context
        key = context.load(context.offset_pointer(self.keys, index, self.key), self.key, byte_width(self.key))
        return key, context.load(context.offset_pointer(self.places, index, context.i32), context.i32, 4)

    def write(self, index: ir.Value, element: tuple[ir.Value, ir.Value]) -> None:
        """Put (key, place) there."""
        context = self.context
        context.store(element[0], context.offset_pointer(self.keys, index, self.key), byte_width(self.key))
        context.store(element[1], context.offset_pointer(self.places, index, context.i32), 4)


@lowering("tile.sort")
def _sort(context: LoweringContext, operation: ir.Operation) -> None:
    keys, places = (context.get(operand) for operand in list(operation.operands)[:2])
    offset, count = (context.scalar(operand) for operand in list(operation.operands)[2:])
    most = ir.IntegerAttr(operation.attributes["most"]).value
    given = _Arrays(
        context,
        context.offset_pointer(keys.pointer, offset, keys.element),
        context.offset_pointer(places.pointer, offset, context.i32),
        keys.element,
    )
    if not most:
        _network(given, count)
        return
    size = byte_width(keys.element)
    own = _Arrays(
        context,
        context.shared_pointer(context.allocate_shared(most * size)),
        context.shared_pointer(context.allocate_shared(most * 4)),
        keys.element,
    )
    _strided(context, count, lambda index: own.write(index, given.read(index)))
    context.barrier()
    _network(own, count)
    _strided(context, count, lambda index: given.write(index, own.read(index)))


def _strided(context: LoweringContext, count: ir.Value, body: Callable[[ir.Value], None]) -> None:
    """`body` for every number below `count`, shared out among the threads."""
    loop = scf.ForOp(context.thread, count, context.integer(context.threads))
    with ir.InsertionPoint(loop.body):
        body(loop.induction_variable)
        scf.yield_([])


def _network(arrays: _Arrays, count: ir.Value) -> None:
    """Merge neighbouring sorted runs of 1, 2, 4... elements until one is left."""
    context = arrays.context
    zero, one = context.integer(0), context.integer(1)
    # Rounds: as many bits as the last position has. Pairs: half of the elements, padded to a power of two.
    last = arith.maxsi(arith.subi(count, one), zero)
    rounds = arith.subi(context.integer(32), _leading_zeros(last))
    pairs = arith.shrui(arith.shli(one, rounds), one)
    outer = scf.ForOp(zero, rounds, one)
    with ir.InsertionPoint(outer.body):
        level = outer.induction_variable  # runs of 2^level become runs of twice that
        mirror = arith.subi(arith.shli(context.integer(2), level), one)
        _exchange(arrays, count, pairs, level, mirror)
        inner = scf.ForOp(zero, level, one)
        with ir.InsertionPoint(inner.body):
            bit = arith.subi(arith.subi(level, one), inner.induction_variable)
            _exchange(arrays, count, pairs, bit, arith.shli(one, bit))
            scf.yield_([])
        scf.yield_([])


def _leading_zeros(value: ir.Value) -> ir.Value:
    return ir.Operation.create("math.ctlz", results=[value.type], operands=[value]).result


def _exchange(arrays: _Arrays, count: ir.Value, pairs: ir.Value, bit: ir.Value, mask: ir.Value) -> None:
    """Compare each position without `bit` with the one that differs from it by `mask`, and order the two."""
    context = arrays.context
    one = context.integer(1)
    below = arith.subi(arith.shli(one, bit), one)

    def compare(number: ir.Value) -> None:
        low = arith.andi(number, below)
        first = arith.ori(arith.shli(arith.subi(number, low), one), low)
        second = arith.xori(first, mask)
        inside = scf.IfOp(context.less(second, count))
        with ir.InsertionPoint(inside.then_block):
            left, right = arrays.read(first), arrays.read(second)
            swapped = scf.IfOp(_greater(left, right))
            with ir.InsertionPoint(swapped.then_block):
                arrays.write(first, right)
                arrays.write(second, left)
                scf.yield_([])
            scf.yield_([])

    _strided(context, pairs, compare)
    context.barrier()


def _greater(left: tuple[ir.Value, ir.Value], right: tuple[ir.Value, ir.Value]) -> ir.Value:
    """True when left stands after right: places are all different."""
    above = arith.cmpi(arith.CmpIPredicate.ugt, left[0], right[0])
    equal = arith.cmpi(arith.CmpIPredicate.eq, left[0], right[0])
    later = arith.cmpi(arith.CmpIPredicate.ugt, left[1], right[1])
    return arith.ori(above, arith.andi(equal, later))
