"""What happens to the scores of an attention between its two products, and which keys a query sees at all.

In: the maps from Q x K' to what the softmax takes the maximum of. Out: `Scores`: a constant factor that can wait for
the exponential, and bounds: selects that only positions decide, and integers that all scores of a batch share, such as
its number of keys. With bounds a program leaves out tiles of keys that none of its queries sees, and the comparison
where all of them do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mlir import ir
from mlir.dialects import arith

from ...dialects.tensors import element_of, shape_of
from ...runtime.symbolic import ZERO, Expression, expression, maximum, minimum
from .builder import TileBuilder
from .contraction import Contraction
from .elements import MOVEMENT_RULES, ElementEmitter, Indices

ROW, KEY = "%query", "%key"  # stand-ins for the position of a score
FARTHEST = 1 << 29  # positions and numbers add up to less than 2^31
NOTHING = -1e30  # scores at or below it have no weight beside any that a model computes
LOWEST_HALF = -65504.0  # and so has this one, the lowest in f16, beside scores that f16 can hold as well


@dataclass(frozen=True)
class Bound:
    """A select or sum that hides a score where one of `slacks`, linear in `ROW` and `KEY`, is negative. If they are
    `all` that hides it, its value is `shown` elsewhere.
    """

    result: ir.Value
    shown: ir.Value
    slacks: tuple[Expression, ...]
    all: bool


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
        return found | ({bound.result: bound.shown for bound in self.bounds if bound.all} if bounded else {})

    def limits(self, row: Expression) -> tuple[list[Expression], list[Expression]]:
        """What the bounds let a query see: keys from every one of the first expressions on, up to all of the others."""
        found: tuple[list[Expression], list[Expression]] = ([], [])
        for slack in (slack for bound in self.bounds for slack in bound.slacks):
            is_last, limit = _limit(slack, row)
            if limit not in found[is_last]:
                found[is_last].append(limit)
        return found


def read_scores(
    builder: TileBuilder, first: Contraction, batch: Expression, seen: ir.Value, loads: bool = True
) -> Scores:
    """Study the maps from the scores of `batch` to `seen`, a tensor of their shape. Integers that decide bounds are
    loaded here, once for all scores; without `loads` they are symbols without a value.
    """
    builder.extents.update({ROW: first.rows, KEY: first.columns})
    indices = first.result(batch, Expression.symbol(ROW), Expression.symbol(KEY))
    reader = _Reader(builder, first.operation.results[0], indices, loads)
    reader.tensor(seen)
    if reader.scores.factor is not None and reader.scores.factor <= 0:
        reader.scores.factor = None
    return reader.scores


class _Reader:
    """Goes from the maximum's operand back to the product."""

    def __init__(self, builder: TileBuilder, product: ir.Value, indices: Indices, loads: bool) -> None:
        self.builder, self.product, self.indices, self.loads = builder, product, indices, loads
        self.loaded: dict[tuple[ir.Value, Indices], Expression] = {}
        self.shape = shape_of(product)
        self.scores = Scores()

    def tensor(self, value: ir.Value) -> None:
        """Follow a tensor of scores."""
        if value == self.product:
            return
        self.scalar(_yielded(value.owner))

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
                and self._leads(_yielded(tensor.owner))
            )
        return any(self._leads(operand) for operand in value.owner.operands)

    def _factor(self, operation: ir.Operation) -> ir.Value | None:
        """What a product by a constant multiplies."""
        if operation.name not in ("arith.mulf", "arith.divf"):
            return None
        left, right = operation.operands
        if operation.name == "arith.mulf" and constant_number(left) is not None:
            left, right = right, left
        number = constant_number(right)
        if number is None or not number:
            return None
        if self.scores.factor is not None:
            self.scores.factor *= number if operation.name == "arith.mulf" else 1 / number
            self.scores.factors[operation.results[0]] = left
        return left

    def _hiding(self, operation: ir.Operation) -> ir.Value | None:
        """What a select hides, or a sum with such a select of zero; notes the bounds that positions decide."""
        result = operation.results[0]
        if operation.name == "arith.select":
            condition, shown, other = operation.operands
            lowest = constant_number(other)
            return self._bound(condition, result, shown, lowest, self.indices) if _hides(lowest) else None
        if operation.name == "arith.addf":
            for shown, mask in (tuple(operation.operands), tuple(reversed(operation.operands))):
                if self._leads(mask) or not self._leads(shown):
                    continue
                choice, indices = self._behind(mask, self.indices)
                owner = choice.owner
                if isinstance(owner, ir.Block) or owner.name != "arith.select":
                    continue
                condition, zero, other = owner.operands
                lowest = constant_number(other)
                if constant_number(zero) == 0 and _hides(lowest):
                    return self._bound(condition, result, shown, lowest, indices)
        return None

    def _bound(
        self, condition: ir.Value, result: ir.Value, shown: ir.Value, lowest: float | None, indices: Indices
    ) -> ir.Value:
        """Note what of a condition positions decide; returns `shown`."""
        slacks = list(self._slacks(condition, indices))
        known = tuple(slack for slack in slacks if slack is not None and self._may_leave_out(slack, lowest))
        if known:
            self.scores.bounds.append(Bound(result, shown, known, len(known) == len(slacks)))
        self.scores.is_plain &= len(known) == len(slacks)
        return shown

    def _may_leave_out(self, slack: Expression, lowest: float | None) -> bool:
        """Hidden keys have no weight: always where they get -inf; where it is a finite number only beside a key that is
        seen, such as the first one.
        """
        key = slack.coefficient(KEY)
        first = slack.substitute({KEY: ZERO})
        upper = key is not None and key.as_constant() == -1
        return lowest == float("-inf") or (upper and first.is_nonnegative(self.builder.extents))

    # Conditions on positions ------------------------------------------------------------------------------------
    def _slacks(self, condition: ir.Value, indices: Indices) -> Iterator[Expression | None]:
        """Expressions that are all >= 0 where the condition holds; None for a part that something else decides."""
        condition, indices = self._behind(condition, indices)
        operation = condition.owner
        if isinstance(operation, ir.Block) or operation.name not in ("arith.cmpi", "arith.andi"):
            yield None
            return
        if operation.name == "arith.andi":
            for part in operation.operands:
                yield from self._slacks(part, indices)
            return
        predicate = str(arith.CmpIPredicate(ir.IntegerAttr(operation.attributes["predicate"]).value))
        left, right = (self._position(operand, indices) for operand in operation.operands)
        if predicate not in _SLACKS or left is None or right is None:
            yield None
            return
        slack = _SLACKS[predicate](left, right)
        yield slack if _is_linear(slack) else None

    def _position(self, value: ir.Value, indices: Indices) -> Expression | None:
        """An integer of a map's body at `indices`, in terms of `ROW`, `KEY` and sizes."""
        value, indices = self._behind(value, indices)
        operation = value.owner
        if isinstance(operation, ir.Block):
            return None
        if operation.name == "graph.index":
            place: int = ir.IntegerAttr(operation.attributes["axis"]).value
            return indices[place]
        if operation.name == "graph.dimension":
            return expression(ir.StringAttr(operation.attributes["expression"]).value)
        if operation.name == "arith.constant":
            return Expression.constant(ir.IntegerAttr(operation.attributes["value"]).value)
        if operation.name in _ARITHMETIC:
            left, right = (self._position(operand, indices) for operand in operation.operands)
            return None if left is None or right is None else _ARITHMETIC[str(operation.name)](left, right)
        if operation.name == "arith.extsi":
            return self._position(operation.operands[0], indices)
        if operation.name == "graph.element_at":
            places = [self._position(operand, indices) for operand in list(operation.operands)[1:]]
            return self._number(operation.operands[0], [place for place in places if place is not None], len(places))
        return None

    def _number(self, tensor: ir.Value, places: list[Expression], rank: int) -> Expression | None:
        """An integer that all scores share, read from memory and kept within what positions are computed in."""
        shared = len(places) == rank and not any({ROW, KEY} & place.symbols for place in places)
        if not shared or element_of(tensor) not in ("i32", "i64"):
            return None
        known = (tensor, tuple(places))
        if known not in self.loaded:
            self.loaded[known] = self._load(*known) if self.loads else Expression.symbol(f"%number{len(self.loaded)}")
        return self.loaded[known]

    def _load(self, tensor: ir.Value, places: Indices) -> Expression:
        value = ElementEmitter(self.builder).element(tensor, places)
        low, high = (arith.constant(value.type, limit) for limit in (-FARTHEST, FARTHEST))
        kept = arith.maxsi(arith.minsi(value, high), low)
        return self.builder.variable(arith.index_cast(ir.IndexType.get(), kept), "number")

    def _behind(self, value: ir.Value, indices: Indices) -> tuple[ir.Value, Indices]:
        """The scalar of another map that an element of it is, and where; through data movement and conversions."""
        while not isinstance(value.owner, ir.Block):
            operation = value.owner
            if operation.name in ("arith.extf", "arith.truncf"):
                value = operation.operands[0]
                continue
            if operation.name != "graph.element":
                break
            tensor = operation.operands[0]
            own = indices[len(indices) - len(shape_of(tensor)) :]
            place = tuple(ZERO if size == 1 else index for size, index in zip(shape_of(tensor), own, strict=True))
            while not isinstance(tensor.owner, ir.Block) and tensor.owner.name in MOVEMENT_RULES:
                place = MOVEMENT_RULES[tensor.owner.name](self.builder, tensor.owner, place)
                tensor = tensor.owner.operands[0]
            if isinstance(tensor.owner, ir.Block) or tensor.owner.name != "graph.map":
                break
            value, indices = _yielded(tensor.owner), place
        return value, indices


def _yielded(operation: ir.Operation) -> ir.Value:
    """What a map computes, in its body."""
    block = operation.regions[0].blocks[0]
    return block.operations[len(block.operations) - 1].operation.operands[0]


def constant_number(value: ir.Value) -> float | None:
    """The value of a floating-point constant of a map's body."""
    owner = value.owner
    if isinstance(owner, ir.Block) or owner.name != "arith.constant" or not isinstance(value.type, ir.FloatType):
        return None
    return float(ir.FloatAttr(owner.attributes["value"]).value)


def _hides(value: float | None) -> bool:
    return value is not None and (value <= NOTHING or value == LOWEST_HALF)


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
        (is_last, widest), (_, narrowest) = (_limit(slack, row) for row in (most, least))
        if is_last:
            end, all_end = minimum(end, widest + 1), minimum(all_end, narrowest + 1)
        else:
            begin, all_begin = maximum(begin, widest), maximum(all_begin, narrowest)
    return KeyRange(begin, end, all_begin, all_end)


def _limit(slack: Expression, row: Expression) -> tuple[bool, Expression]:
    """(True, the last key) or (False, the first key) for which a slack is not negative."""
    key, rest = slack.coefficient(KEY), slack.substitute({ROW: row, KEY: ZERO})
    is_last = key is not None and key.as_constant() == -1
    return is_last, rest if is_last else -rest
