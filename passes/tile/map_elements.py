"""The element of a graph.map: its scalar body inlined at a position.

In: a map and the indices of one element. Out: the body's operations on scalars. Integer arithmetic on positions is
also followed as `Expression`s, so that ``element_at`` with computed indices (Gather, Resize, reversed reads) is as
good as data movement.
"""

from __future__ import annotations

from collections.abc import Callable

from mlir import ir
from mlir.dialects import arith

from ...runtime.symbolic import Expression, expression, floor_divide, modulo
from ..graph.rewriting import producer
from .elements import ElementEmitter, Indices, element_rule

_SYMBOLIC: dict[str, Callable[[Expression, Expression], Expression]] = {
    "arith.addi": lambda a, b: a + b,
    "arith.subi": lambda a, b: a - b,
    "arith.muli": lambda a, b: a * b,
}
_SYMBOLIC_NONNEGATIVE: dict[str, Callable[[Expression, Expression], Expression]] = {
    "arith.divsi": floor_divide,
    "arith.divui": floor_divide,
    "arith.floordivsi": floor_divide,
    "arith.remsi": modulo,
    "arith.remui": modulo,
}

LARGE_FACTOR = 1 << 12  # times a size it may leave 32 bits; strides that are larger only occur in positions in a tensor


class _Body:
    """One inlining of one map's body."""

    def __init__(self, emitter: ElementEmitter, indices: Indices) -> None:
        self.emitter = emitter
        self.indices = indices
        self.values: dict[ir.Value, ir.Value] = {}
        self.symbolic: dict[ir.Value, Expression] = {}

    def run(self, block: ir.Block) -> ir.Value:
        for view in block.operations:
            operation = view.operation
            if operation.name == "gpu.yield":
                return self.value(operation.operands[0])
            self.visit(operation)
        raise AssertionError("a map's body ends in gpu.yield")

    def visit(self, operation: ir.Operation) -> None:
        """Inline one operation, whose operands were visited before."""
        handler = _HANDLERS.get(operation.name)
        instead = self.emitter.builder.replaced.get(operation.results[0])
        if instead is not None:
            self.values[operation.results[0]] = self.value(instead)
        elif handler is not None:
            handler(self, operation)
        else:
            self._clone(operation)

    def value(self, value: ir.Value) -> ir.Value:
        """The emitted scalar; positions are turned into i64 values only when something asks for them."""
        if value not in self.values:
            if self._may_overflow(value):
                self.values[value] = self._copy(value.owner.operation)
            else:
                index = self.emitter.builder.index(self.symbolic[value])
                self.values[value] = self.emitter.track(arith.index_cast(value.type, index), index)
        return self.values[value]

    def _may_overflow(self, value: ir.Value) -> bool:
        """Whether the number, which the body computes in 64 bits, may be too large for an index of 32."""
        computed = value.owner.name.startswith("arith.")
        return computed and any(abs(factor) >= LARGE_FACTOR for _, factor in self.symbolic[value].terms)

    def position(self, value: ir.Value) -> Expression:
        """An i64 value of the body as an index expression; a fresh symbol when it is data."""
        if value not in self.symbolic:
            own = self.value(value)
            index = self.emitter.track(arith.index_cast(ir.IndexType.get(), own), own)
            self.symbolic[value] = self.emitter.builder.variable(index, "data")
        return self.symbolic[value]

    def _clone(self, operation: ir.Operation) -> None:
        if self._follow(operation):
            return
        self._copy(operation)

    def _copy(self, operation: ir.Operation) -> ir.Value:
        """The operation on emitted scalars; gives its first result."""
        operands = [self.value(operand) for operand in operation.operands]
        clone = ir.Operation.create(
            operation.name,
            results=[result.type for result in operation.results],
            operands=operands,
            attributes={name: operation.attributes[name] for name in operation.attributes},
        )
        for result, own in zip(operation.results, clone.results, strict=True):
            self.values[result] = self.emitter.track(own, *operands)
        return self.values[operation.results[0]]

    def _follow(self, operation: ir.Operation) -> bool:
        """Integer arithmetic on positions stays symbolic; returns whether it did."""
        name, operands = operation.name, list(operation.operands)
        if name == "arith.constant" and str(operation.results[0].type) == "i64":
            self.symbolic[operation.results[0]] = expression(ir.IntegerAttr(operation.attributes["value"]).value)
            return True
        if len(operands) != 2 or not all(operand in self.symbolic for operand in operands):
            return False
        left, right = (self.symbolic[operand] for operand in operands)
        if name in _SYMBOLIC:
            self.symbolic[operation.results[0]] = _SYMBOLIC[name](left, right)
            return True
        if (
            name in _SYMBOLIC_NONNEGATIVE
            and (right.as_constant() or 0) > 0
            and left.is_nonnegative(self.emitter.builder.extents)
        ):
            own = _SYMBOLIC_NONNEGATIVE[name]
            extents = self.emitter.builder.extents
            make = floor_divide if own is floor_divide else modulo
            self.symbolic[operation.results[0]] = make(left, right, extents)
            return True
        return False


def _element(body: _Body, operation: ir.Operation) -> None:
    body.values[operation.results[0]] = body.emitter.broadcast_element(operation.operands[0], body.indices)


def _element_at(body: _Body, operation: ir.Operation) -> None:
    position = tuple(body.position(operand) for operand in list(operation.operands)[1:])
    body.values[operation.results[0]] = body.emitter.element(operation.operands[0], position)


def _index(body: _Body, operation: ir.Operation) -> None:
    body.symbolic[operation.results[0]] = body.indices[ir.IntegerAttr(operation.attributes["axis"]).value]


def _dimension(body: _Body, operation: ir.Operation) -> None:
    body.symbolic[operation.results[0]] = expression(ir.StringAttr(operation.attributes["expression"]).value)


_HANDLERS: dict[str, Callable[[_Body, ir.Operation], None]] = {
    "graph.element": _element,
    "graph.element_at": _element_at,
    "graph.index": _index,
    "graph.dimension": _dimension,
}


@element_rule("graph.map")
def _map(emitter: ElementEmitter, operation: ir.Operation, indices: Indices) -> ir.Value:
    return _Body(emitter, indices).run(operation.regions[0].blocks[0])


def scalar_of_map(emitter: ElementEmitter, operation: ir.Operation, wanted: ir.Value, indices: Indices) -> ir.Value:
    """The scalar `wanted` of a map's body at a position, and of the body only what it is made of."""
    body, needed = _Body(emitter, indices), operations_behind(wanted)
    for view in operation.regions[0].blocks[0].operations:
        if view.operation in needed:
            body.visit(view.operation)
    return body.value(wanted)


def operations_behind(wanted: ir.Value) -> set[ir.Operation]:
    """The operations of a map's body that a scalar of it is made of."""
    found: set[ir.Operation] = set()
    waiting = [wanted]
    while waiting:
        owner = producer(waiting.pop())
        if owner is not None and owner not in found:
            found.add(owner)
            if owner.name not in ("graph.element", "graph.element_at"):
                waiting += owner.operands
            else:
                waiting += list(owner.operands)[1:]  # the tensor is no scalar
    return found
