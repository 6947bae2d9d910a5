"""What happens to the scores of an attention between its two products, and which keys a query sees at all.

In: the maps from Q x K' to what the softmax takes the maximum of. Out: `Scores`: a constant factor that can wait for
the exponential, and bounds: selects that only positions decide. With bounds a program leaves out tiles of keys that
none of its queries sees, and the comparison where all of them do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mlir import ir
from mlir.dialects import arith

from ...dialects.tensors import shape_of
from ...runtime.symbolic import ZERO, Expression, expression, maximum, minimum

ROW, KEY = "%query", "%key"  # stand-ins for the position of a score
NOTHING = -1e30  # scores at or below it have no weight beside any that a model computes


@dataclass(frozen=True)
class Bound:
    """A select or sum that hides a score where `slack`, linear in `ROW` and `KEY`, is negative; elsewhere its value is
    `shown`.
    """

    result: ir.Value
    shown: ir.Value
    slacks: tuple[Expression, ...]


@dataclass
class Scores:
    """The maps over the scores. `factor` is None where they are more than constant factors and hiding; `factors` are
    the products by constants, with what they multiply.
    """

    factor: float | None = 1.0
    is_plain: bool = True  # nothing but constant factors and bounds
    factors: dict[ir.Value, ir.Value] = field(default_factory=dict)
    bounds: list[Bound] = field(default_factory=list)

    def replaced(self, linear: bool, bounded: bool) -> dict[ir.Value, ir.Value]:
        """Scalars of the maps that another one stands for: products when the factor waits (`linear`), and hiding where
        no score is hidden (`bounded`).
        """
        found = dict(self.factors) if linear else {}
        return found | ({bound.result: bound.shown for bound in self.bounds} if bounded else {})


def read_scores(product: ir.Value, seen: ir.Value) -> Scores:
    """Study the maps from `product` to `seen`, tensors of one shape."""
    reader = _Reader(product)
    reader.tensor(seen)
    if reader.scores.factor is not None and reader.scores.factor <= 0:
        reader.scores.factor = None
    return reader.scores


class _Reader:
    """Goes from the maximum's operand back to the product."""

    def __init__(self, product: ir.Value) -> None:
        self.product, self.shape = product, shape_of(product)
        self.scores = Scores()

    def tensor(self, value: ir.Value) -> None:
        """Follow a tensor of scores."""
        if value == self.product:
            return
        block = value.owner.regions[0].blocks[0]
        self.scalar(block.operations[len(block.operations) - 1].operation.operands[0])

    def scalar(self, value: ir.Value) -> None:
        """Follow a scalar of a map's body that is made from a score."""
        operation = value.owner
        if operation.name == "graph.element":
            self.tensor(operation.operands[0])
            return
        following = self._hiding(operation) or self._factor(operation)
        if following is None:
            self.scores.factor, self.scores.is_plain = None, False
            sources = [operand for operand in operation.operands if self._leads(operand)]
            if len(sources) != 1:
                return
            following = sources[0]
        self.scalar(following)

    def _leads(self, value: ir.Value) -> bool:
        """Whether a scalar is made from a score."""
        if isinstance(value.owner, ir.Block):
            return False
        if value.owner.name == "graph.element":
            tensor = value.owner.operands[0]
            return tensor == self.product or (
                not isinstance(tensor.owner, ir.Block)
                and tensor.owner.name == "graph.map"
                and shape_of(tensor) == self.shape
                and any(self._leads(operand) for operand in _yielded(tensor.owner))
            )
        return any(self._leads(operand) for operand in value.owner.operands)

    def _factor(self, operation: ir.Operation) -> ir.Value | None:
        """What a product by a constant multiplies."""
        if operation.name not in ("arith.mulf", "arith.divf"):
            return None
        left, right = operation.operands
        if operation.name == "arith.mulf" and _constant(left) is not None:
            left, right = right, left
        number = _constant(right)
        if number is None or not number:
            return None
        if self.scores.factor is not None:
            self.scores.factor *= number if operation.name == "arith.mulf" else 1 / number
            self.scores.factors[operation.results[0]] = left
        return left

    def _hiding(self, operation: ir.Operation) -> ir.Value | None:
        """What a select hides, or a sum with such a select of zero; notes the bound where positions decide it."""
        result = operation.results[0]
        if operation.name == "arith.select":
            return self._select(operation, result, operation.operands[1], operation.operands[2])
        if operation.name == "arith.addf":
            for shown, mask in (tuple(operation.operands), tuple(reversed(operation.operands))):
                owner = mask.owner
                if isinstance(owner, ir.Block) or owner.name != "arith.select" or not self._leads(shown):
                    continue
                hidden = [_constant(own) for own in list(owner.operands)[1:]]
                if hidden[0] == 0 and _hides(hidden[1]) and self._bound(owner.operands[0], result, shown):
                    return shown
        return None

    def _select(self, operation: ir.Operation, result: ir.Value, shown: ir.Value, other: ir.Value) -> ir.Value | None:
        if not _hides(_constant(other)):
            return None
        self.scores.is_plain &= self._bound(operation.operands[0], result, shown)
        return shown

    def _bound(self, condition: ir.Value, result: ir.Value, shown: ir.Value) -> bool:
        slacks = list(_slacks(condition, len(self.shape)))
        if not slacks or None in slacks:
            return False
        self.scores.bounds.append(Bound(result, shown, tuple(slack for slack in slacks if slack is not None)))
        return True


def _yielded(operation: ir.Operation) -> list[ir.Value]:
    block = operation.regions[0].blocks[0]
    return list(block.operations[len(block.operations) - 1].operation.operands)


def _constant(value: ir.Value) -> float | None:
    owner = value.owner
    if isinstance(owner, ir.Block) or owner.name != "arith.constant" or not isinstance(value.type, ir.FloatType):
        return None
    return float(ir.FloatAttr(owner.attributes["value"]).value)


def _hides(value: float | None) -> bool:
    return value is not None and value <= NOTHING


# Conditions on positions ----------------------------------------------------------------------------------------
_SLACKS: dict[str, Callable[[Expression, Expression], Expression]] = {
    "sle": lambda a, b: b - a,
    "slt": lambda a, b: b - a - 1,
    "sge": lambda a, b: a - b,
    "sgt": lambda a, b: a - b - 1,
}
_ARITHMETIC: dict[str, Callable[[Expression, Expression], Expression]] = {
    "arith.addi": lambda a, b: a + b,
    "arith.subi": lambda a, b: a - b,
    "arith.muli": lambda a, b: a * b,
}


def _slacks(condition: ir.Value, rank: int) -> Iterator[Expression | None]:
    """Expressions that are all >= 0 where the condition holds; None for a part that something else decides."""
    operation = condition.owner
    if isinstance(operation, ir.Block) or operation.name not in ("arith.cmpi", "arith.andi"):
        yield None
        return
    if operation.name == "arith.andi":
        for part in operation.operands:
            yield from _slacks(part, rank)
        return
    predicate = str(arith.CmpIPredicate(ir.IntegerAttr(operation.attributes["predicate"]).value))
    left, right = (_position(operand, rank) for operand in operation.operands)
    slack = _SLACKS[predicate](left, right) if predicate in _SLACKS and left is not None and right is not None else None
    yield slack if slack is not None and _is_linear(slack) else None


def _position(value: ir.Value, rank: int) -> Expression | None:
    """An integer of a map's body in terms of `ROW`, `KEY` and sizes."""
    operation = value.owner
    if isinstance(operation, ir.Block):
        return None
    if operation.name == "graph.index":
        axis = ir.IntegerAttr(operation.attributes["axis"]).value
        return Expression.symbol(KEY if axis == rank - 1 else ROW) if axis >= rank - 2 else None
    if operation.name == "graph.dimension":
        return expression(ir.StringAttr(operation.attributes["expression"]).value)
    if operation.name == "arith.constant":
        return Expression.constant(ir.IntegerAttr(operation.attributes["value"]).value)
    if operation.name in _ARITHMETIC:
        left, right = (_position(operand, rank) for operand in operation.operands)
        return None if left is None or right is None else _ARITHMETIC[operation.name](left, right)
    return None


def _is_linear(slack: Expression) -> bool:
    """One of KEY or -KEY, some ROW, and sizes."""
    key, row = slack.coefficient(KEY), slack.coefficient(ROW)
    return key is not None and key.as_constant() in (1, -1) and row is not None and row.as_constant() is not None


@dataclass(frozen=True)
class KeyRange:
    """The keys that some query of a block sees, from `begin` to `end`, and those that all of them see."""

    begin: Expression
    end: Expression
    all_begin: Expression
    all_end: Expression


def key_range(scores: Scores, first: Expression, last: Expression, keys: Expression) -> KeyRange:
    """For the queries from `first` to `last` (inclusive) and `keys` keys in all."""
    begin = all_begin = ZERO
    end = all_end = keys
    for slack in (slack for bound in scores.bounds for slack in bound.slacks):
        step = slack.coefficient(ROW)
        grows = step is not None and (step.as_constant() or 0) >= 0
        most, least = (last, first) if grows else (first, last)
        key = slack.coefficient(KEY)
        widest, narrowest = (slack.substitute({ROW: row, KEY: ZERO}) for row in (most, least))
        if key is not None and key.as_constant() == -1:  # key <= widest
            end, all_end = minimum(end, widest + 1), minimum(all_end, narrowest + 1)
        else:  # key >= -widest
            begin, all_begin = maximum(begin, -widest), maximum(all_begin, -narrowest)
    return KeyRange(begin, end, all_begin, all_end)
