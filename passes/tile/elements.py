"""The value of a graph tensor at a position, as scalar code.

In: a value of a kernel function and its indices as `Expression`s. Out: the SSA scalar, emitted at the current
insertion point by walking the producers: data movement changes the indices, maps are inlined, arguments are loaded.
One registered rule per graph operation says what its element is; whatever a tile program computes otherwise (a
reduction, an accumulator) is bound.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeAlias

from mlir import ir
from mlir.dialects import arith, vector

from ...dialects.tensors import element_of, scalar_type, shape_of
from ...runtime.errors import InternalError
from ...runtime.symbolic import ZERO, Expression, expression, product
from ..graph.rewriting import constant_array
from .builder import Argument, TileBuilder

Indices: TypeAlias = tuple[Expression, ...]
ElementRule: TypeAlias = "Callable[[ElementEmitter, ir.Operation, Indices], ir.Value]"

ELEMENT_RULES: dict[str, ElementRule] = {}
MovementRule: TypeAlias = Callable[[TileBuilder, ir.Operation, Indices], Indices]
MOVEMENT_RULES: dict[str, MovementRule] = {}


def element_rule(name: str) -> Callable[[ElementRule], ElementRule]:
    """Decorator: how an element of the result of graph operation `name` is computed."""

    def register(rule: ElementRule) -> ElementRule:
        ELEMENT_RULES[name] = rule
        return rule

    return register


@cache
def load_rules() -> None:
    """Import every module of this folder, which registers its rules."""
    package = importlib.import_module(__package__ or "")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


@dataclass(frozen=True)
class Address:
    """Where an element lies: a memref argument, its offset, and the conditions (each >= 0) under which it is there."""

    argument: Argument
    offset: Expression
    inside: tuple[Expression, ...] = ()


@dataclass
class ElementEmitter:
    """Emits elements inside one scalar body."""

    builder: TileBuilder
    bindings: dict[ir.Value, Callable[[Indices], ir.Value | None]] = field(default_factory=dict)
    guard: ir.Value | None = None  # loads are only valid where this i1 holds
    run: int = 1  # elements, neighbours in memory, that one load brings where a position and those near it are wanted
    # Elements by (value, position, guard), conditions by what they are of: a scope for each nested region.
    _memo: list[dict[Hashable, ir.Value]] = field(default_factory=lambda: [{}])

    def bind(self, value: ir.Value, make: Callable[[Indices], ir.Value | None]) -> None:
        """From now on an element of `value` is `make(indices)`; None means: compute it after all."""
        self.bindings[value] = make

    def fresh(self) -> ElementEmitter:
        """The same bindings for another body: nothing emitted before is visible there."""
        return ElementEmitter(self.builder, dict(self.bindings), run=self.run)

    def element(self, value: ir.Value, indices: Sequence[Expression]) -> ir.Value:
        """The scalar at `indices` (one a dimension of the value)."""
        load_rules()
        position = tuple(indices)
        return self._once((value, position, self.guard), lambda: self._compute(value, position))

    def _once(self, key: Hashable, make: Callable[[], ir.Value]) -> ir.Value:
        """What was made under the key where it is visible, else what is made now."""
        for scope in reversed(self._memo):
            if key in scope:
                return scope[key]
        result = self._memo[-1][key] = make()
        return result

    def _compute(self, value: ir.Value, indices: Indices) -> ir.Value:
        if value in self.bindings:
            bound = self.bindings[value](indices)
            if bound is not None:
                return bound
        if isinstance(value.owner, ir.Block):
            return self.load(self.builder.inputs[ir.BlockArgument(value).arg_number], indices)
        operation = value.owner
        if operation.name in MOVEMENT_RULES:
            return self.element(operation.operands[0], MOVEMENT_RULES[operation.name](self.builder, operation, indices))
        rule = ELEMENT_RULES.get(operation.name)
        if rule is None:
            raise InternalError(f"kernel {self.builder.name}: no element rule for '{operation.name}':\n{operation}")
        return rule(self, operation, indices)

    def broadcast_element(self, value: ir.Value, indices: Indices) -> ir.Value:
        """The element of `value` under numpy broadcasting at a position of the (larger) result."""
        shape = shape_of(value)
        own = indices[len(indices) - len(shape) :]
        return self.element(value, tuple(ZERO if size == 1 else index for size, index in zip(shape, own, strict=True)))

    def load(self, argument: Argument, indices: Indices) -> ir.Value:
        """A load of an argument's element, masked by the guard."""
        return self.load_offset(argument, self.builder.offset(argument, indices))

    def load_offset(self, argument: Argument, offset: Expression) -> ir.Value:
        """A load at a flat offset."""
        builder = self.builder
        if self.run > 1:
            found = self._of_run(argument, offset)
            if found is not None:
                return found
        lanes = builder.lanes(offset, argument.element)
        result_type = scalar_type(argument.element)
        operands = [argument.memory, builder.index(offset)]
        name = "tile.load"
        if self.guard is not None:
            operands += [self.guard, zero(result_type)]
            name = "tile.masked_load"
            if self.guard in builder.varying:
                lanes = "scattered"  # each lane has a condition of its own
        attributes: dict[str, ir.Attribute] = {"lanes": ir.StringAttr.get(lanes)}
        instead = self._instead(argument) if self.guard is not None else 0
        if instead:
            attributes["instead"] = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), instead)
        operation = ir.Operation.create(name, results=[result_type], operands=operands, attributes=attributes)
        if lanes != "uniform" or any(operand in builder.varying for operand in operands):
            builder.varying.add(operation.result)
        return operation.result

    def _instead(self, argument: Argument) -> int:
        """Where a load reads, for nothing, if its guard does not hold: the first element of its own tensor. In a larger
        one, whose first element is another kernel's that may not have run, this is not 0.
        """
        if argument.place is None:
            return 0
        first = self.builder.offset(argument, (ZERO,) * len(argument.shape)).as_constant() or 0
        width = 1 if self.builder.vector is None else self.builder.vector.width
        return first if first % width == 0 else 0

    def _of_run(self, argument: Argument, offset: Expression) -> ir.Value | None:
        """One element of an aligned run that is read as a whole; None where the run may leave the tensor."""
        number = dict(offset.terms).get((), 0) % self.run
        first = offset - number
        end = product(argument.shape) - first - self.run
        if argument.place is not None or not first.divisible_by(self.run):
            return None
        if not end.is_nonnegative(self.builder.extents):
            return None
        type_ = ir.VectorType.get([self.run], scalar_type(argument.element))
        elements = self._once((argument.memory, first, self.guard), lambda: self.load_run(argument, first, type_, 0))
        return self.track(vector.extract(elements, [], [number]), elements)

    def load_run(self, argument: Argument, offset: Expression, type_: ir.Type, step: int) -> ir.Value:
        """The elements from a flat offset on that fill a vector or an integer, zeros where the guard does not hold.
        Lanes that are `step` elements apart, where that is not 0, share an access.
        """
        builder, index = self.builder, self.builder.index(offset)
        operands = [argument.memory, index, *([] if self.guard is None else [self.guard])]
        lanes = "scattered" if any(operand in builder.varying for operand in operands) else "uniform"
        if builder.vector is not None and self.guard not in builder.varying:
            apart, first = builder.along_lanes(offset)
            if apart is not None and apart == 0:
                lanes = "uniform"
            elif step and apart is not None and apart == step and first.divisible_by(step * builder.vector.width):
                lanes = "contiguous"
        attributes = {"lanes": ir.StringAttr.get(lanes)}
        operation = ir.Operation.create("tile.load_run", results=[type_], operands=operands, attributes=attributes)
        if lanes != "uniform":
            builder.varying.add(operation.result)
        return operation.result

    def guarded(self, conditions: Sequence[ir.Value]) -> ElementEmitter:
        """An emitter whose loads are valid only where all conditions hold too."""
        guard = self.guard
        for condition in conditions:
            guard = condition if guard is None else self.both(guard, condition)
        return ElementEmitter(self.builder, self.bindings, guard, self.run, self._memo)

    def in_runs(self, length: int) -> ElementEmitter:
        """An emitter that reads aligned runs of `length` neighbours where it is asked for one of them."""
        return ElementEmitter(self.builder, self.bindings, self.guard, length, self._memo)

    def both(self, left: ir.Value, right: ir.Value) -> ir.Value:
        return self._once(("both", left, right), lambda: self.track(arith.andi(left, right), left, right))

    def track(self, result: ir.Value, *operands: ir.Value) -> ir.Value:
        """Note that `result` differs between lanes when an operand does; returns it."""
        if any(operand in self.builder.varying for operand in operands):
            self.builder.varying.add(result)
        return result

    def nonnegative(self, value: Expression) -> ir.Value | None:
        """The i1 ``value >= 0``, or None when it is provably true."""
        if value.is_nonnegative(self.builder.extents):
            return None
        return self._once(("nonnegative", value), lambda: self._condition(value))

    def _condition(self, value: Expression) -> ir.Value:
        operand = self.builder.index(value)
        condition = arith.cmpi(arith.CmpIPredicate.sge, operand, self.builder.index(0))
        if operand in self.builder.varying and not self._uniform_over_lanes(value):
            self.builder.varying.add(condition)
        return condition

    def _uniform_over_lanes(self, value: Expression) -> bool:
        """True when ``value >= 0`` cannot change inside a vector: the lane only adds less than the alignment."""
        vector = self.builder.vector
        if vector is None:
            return False
        step, rest = self.builder.along_lanes(value)
        if step is None:
            return False
        if step == 0:
            return True
        # For step 1 and rest divisible by the width the sign is that of lane 0; for step -1 it is so when rest is the
        # width less 1, modulo the width.
        if step == 1:
            return rest.divisible_by(vector.width)
        return step == -1 and (rest + 1).divisible_by(vector.width)

    def scope(self) -> ElementEmitter:
        """An emitter for a nested region: it sees what was emitted before and forgets its own at the end."""
        return ElementEmitter(self.builder, self.bindings, self.guard, self.run, [*self._memo, {}])

    # Addresses -----------------------------------------------------------------------------------------------------
    def address(self, value: ir.Value, indices: Sequence[Expression]) -> Address | None:
        """Where the element lies in memory, when only data movement stands between it and an argument; else None."""
        load_rules()
        position = tuple(indices)
        inside: list[Expression] = []
        while not isinstance(value.owner, ir.Block):
            operation = value.owner
            if value in self.bindings:
                return None
            if operation.name in MOVEMENT_RULES:
                position = MOVEMENT_RULES[operation.name](self.builder, operation, position)
            elif operation.name == "graph.pad" and _is_zero(operation.operands[1]):
                position, conditions = pad_position(operation, position)
                inside += conditions
            else:
                return None
            value = operation.operands[0]
        argument = self.builder.inputs[ir.BlockArgument(value).arg_number]
        kept = tuple(c for c in inside if not c.is_nonnegative(self.builder.extents))
        return Address(argument, self.builder.offset(argument, position), kept)


def zero(type_: ir.Type) -> ir.Value:
    """The constant zero of a scalar type."""
    if isinstance(type_, ir.FloatType):
        return arith.constant(type_, 0.0)
    return arith.constant(type_, 0)


def _is_zero(value: ir.Value) -> bool:
    if isinstance(value.owner, ir.Block) or value.owner.name != "graph.constant":
        return False
    attribute = ir.DenseElementsAttr(value.owner.attributes["value"])
    if not attribute.is_splat:
        return False
    splat = attribute.get_splat_value()
    return bool(splat.value == 0) if hasattr(splat, "value") else False


def pad_position(operation: ir.Operation, indices: Indices) -> tuple[Indices, list[Expression]]:
    """(position in the input, conditions each >= 0) of a position of a graph.pad."""
    low = [expression(ir.StringAttr(item).value) for item in ir.ArrayAttr(operation.attributes["low"])]
    shape = shape_of(operation.operands[0])
    result = shape_of(operation.results[0])
    position: list[Expression] = []
    conditions: list[Expression] = []
    for index, before, size, padded in zip(indices, low, shape, result, strict=True):
        own = index - before
        position.append(own)
        if before != 0 or size != padded:
            conditions += [own, size - 1 - own]
    return tuple(position), conditions


# Data movement: the position in the operand that a position of the result reads
# -----------------------------------------
def movement_rule(name: str) -> Callable[[MovementRule], MovementRule]:
    """Decorator: the position that the result of graph operation `name` reads in its first operand."""

    def register(rule: MovementRule) -> MovementRule:
        MOVEMENT_RULES[name] = rule
        return rule

    return register


def reshape_position(
    builder: TileBuilder, indices: Indices, source: Sequence[Expression], target: Sequence[Expression]
) -> Indices:
    """The position in `target` of the element at `indices` of `source`, the same elements in row-major order.

    Dimensions are matched in groups with equal products, so that a dimension that is only split or merged costs no more
    than its own arithmetic.
    """
    position: list[Expression] = []
    last_source = last_target = 0
    for end_source, end_target in _aligned_groups(source, target):
        group_source, group_target = source[last_source:end_source], target[last_target:end_target]
        own = indices[last_source:end_source]
        kept = [axis for axis, size in enumerate(group_source) if size != 1]
        wanted = [axis for axis, size in enumerate(group_target) if size != 1]
        if [group_source[a] for a in kept] == [group_target[a] for a in wanted]:
            moved = dict(zip(wanted, (own[a] for a in kept), strict=True))
            position += [moved.get(axis, ZERO) for axis in range(len(group_target))]
        else:
            flat = builder.linearize(own, group_source)
            position += builder.delinearize(flat, group_target)
        last_source, last_target = end_source, end_target
    return tuple(position)


def _aligned_groups(source: Sequence[Expression], target: Sequence[Expression]) -> list[tuple[int, int]]:
    """Ends of the smallest groups of dimensions whose products agree, walking both shapes."""
    groups: list[tuple[int, int]] = []
    i = j = 0
    while i < len(source) and j < len(target):
        left, right = source[i], target[j]
        i, j = i + 1, j + 1
        while left != right:
            ratio_left, ratio_right = left.exact_divide(right), right.exact_divide(left)
            if ratio_left is not None and j < len(target):
                right, j = right * target[j], j + 1
            elif ratio_right is not None and i < len(source):
                left, i = left * source[i], i + 1
            elif j < len(target) and (i >= len(source) or len(target) - j >= len(source) - i):
                right, j = right * target[j], j + 1
            elif i < len(source):
                left, i = left * source[i], i + 1
            else:
                break
        groups.append((i, j))
    if groups:
        groups[-1] = (len(source), len(target))
    elif source or target:
        groups.append((len(source), len(target)))
    return groups


@movement_rule("graph.reshape")
def _reshape(builder: TileBuilder, operation: ir.Operation, indices: Indices) -> Indices:
    return reshape_position(builder, indices, shape_of(operation.results[0]), shape_of(operation.operands[0]))


@movement_rule("graph.transpose")
def _transpose(builder: TileBuilder, operation: ir.Operation, indices: Indices) -> Indices:
    permutation = list(ir.DenseI64ArrayAttr(operation.attributes["permutation"]))
    position = [ZERO] * len(indices)
    for axis, source in enumerate(permutation):
        position[source] = indices[axis]
    return tuple(position)


@movement_rule("graph.broadcast")
def _broadcast(builder: TileBuilder, operation: ir.Operation, indices: Indices) -> Indices:
    shape = shape_of(operation.operands[0])
    own = indices[len(indices) - len(shape) :]
    return tuple(ZERO if size == 1 else index for size, index in zip(shape, own, strict=True))


@movement_rule("graph.slice")
def _slice(builder: TileBuilder, operation: ir.Operation, indices: Indices) -> Indices:
    starts = [expression(ir.StringAttr(item).value) for item in ir.ArrayAttr(operation.attributes["starts"])]
    steps = list(ir.DenseI64ArrayAttr(operation.attributes["steps"]))
    return tuple(start + index * step for start, index, step in zip(starts, indices, steps, strict=True))


# Everything else ---------------------------------------------------------------------------------------------------
@element_rule("graph.constant")
def _constant(emitter: ElementEmitter, operation: ir.Operation, indices: Indices) -> ir.Value:
    """A small constant: one value, or a chain of selects over the flat index."""
    result = operation.results[0]
    attribute = ir.DenseElementsAttr(operation.attributes["value"])
    type_ = scalar_type(element_of(result))
    if attribute.is_splat:
        return _scalar_constant(type_, attribute.get_splat_value())
    flat = emitter.builder.index(emitter.builder.linearize(indices, shape_of(result)))
    values = [_scalar_constant(type_, item) for item in constant_array(operation).ravel()] or [zero(type_)]
    chosen = values[-1]
    for number in range(len(values) - 2, -1, -1):
        here = emitter.track(arith.cmpi(arith.CmpIPredicate.eq, flat, emitter.builder.index(number)), flat)
        chosen = emitter.track(arith.select(here, values[number], chosen), here, chosen)
    return chosen


def _scalar_constant(type_: ir.Type, item: Any) -> ir.Value:
    value = item.value if isinstance(item, (ir.FloatAttr, ir.IntegerAttr, ir.BoolAttr)) else item
    if isinstance(type_, ir.FloatType):
        return arith.constant(type_, float(value))
    number = int(value)
    width = ir.IntegerType(type_).width
    if width == 1:
        number &= 1
    elif number >= 1 << (width - 1):
        number -= 1 << width
    return arith.constant(type_, number)


@element_rule("graph.pad")
def _pad(emitter: ElementEmitter, operation: ir.Operation, indices: Indices) -> ir.Value:
    position, conditions = pad_position(operation, indices)
    return padded_element(
        emitter, operation.operands[0], position, conditions, lambda: emitter.element(operation.operands[1], ())
    )


def padded_element(
    emitter: ElementEmitter,
    value: ir.Value,
    position: Indices,
    conditions: Sequence[Expression],
    other: Callable[[], ir.Value],
) -> ir.Value:
    """The element where every condition is >= 0, else `other`."""
    checks = [check for check in map(emitter.nonnegative, conditions) if check is not None]
    if not checks:
        return emitter.element(value, position)
    inner = emitter.guarded(checks)
    here = checks[0]
    for check in checks[1:]:
        here = emitter.both(here, check)
    found, fallback = inner.element(value, position), other()
    return emitter.track(arith.select(here, found, fallback), here, found, fallback)


@element_rule("graph.concatenate")
def _concatenate(emitter: ElementEmitter, operation: ir.Operation, indices: Indices) -> ir.Value:
    axis = ir.IntegerAttr(operation.attributes["axis"]).value
    block = operation.regions[0].blocks[0]
    parts = list(block.operations[len(block.operations) - 1].operation.operands)
    starts, total = [], ZERO
    for part in parts:
        starts.append(total)
        total = total + shape_of(part)[axis]
    chosen: ir.Value | None = None
    for number in range(len(parts) - 1, -1, -1):
        own = indices[axis] - starts[number]
        position = (*indices[:axis], own, *indices[axis + 1 :])
        after = emitter.nonnegative(own) if number > 0 else None
        before = emitter.nonnegative(shape_of(parts[number])[axis] - 1 - own) if number + 1 < len(parts) else None
        value = emitter.guarded([c for c in (after, before) if c is not None]).element(parts[number], position)
        if chosen is None:
            chosen = value
        elif before is not None:
            chosen = emitter.track(arith.select(before, value, chosen), before, value, chosen)
        else:
            chosen = value
    assert chosen is not None
    return chosen
