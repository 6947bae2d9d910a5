"""Building one tile program: the function, its arguments, and symbolic integers turned into `arith` on `index`.

In: a kernel function of the graph level. Out: a `func.func` whose arguments are flat memrefs (the kernel's inputs,
then its outputs) and the symbols that its shapes mention. Index functions stay `Expression`s until an operation needs
the value, so that algebra, not pattern matching, finds out what is contiguous and what needs no division.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from mlir import ir
from mlir.dialects import arith

from ...dialects.tensors import Shape, element_of, scalar_type, shape_of
from ...runtime.dtypes import dtype
from ...runtime.errors import InternalError
from ...runtime.symbolic import (
    ONE,
    ZERO,
    Expression,
    ExpressionLike,
    Operation,
    expression,
    floor_divide,
    modulo,
    product,
)
from ..graph.places import Place, read_places
from ..graph.rewriting import mentioned_symbols
from ..unit import BoxedTensor, LaunchItem


@dataclass(frozen=True)
class Argument:
    """A memref argument of the tile program and the tensor it stands for, which may lie in a larger one."""

    memory: ir.Value
    shape: Shape
    element: str
    place: Place | None = None

    @property
    def bytes(self) -> int:
        return bytes_of(self.element)


def bytes_of(element: str) -> int:
    """Bytes of one element in memory, by dtype name."""
    return dtype(element).bytes


@dataclass(frozen=True)
class VectorVariable:
    """The index variable that runs over the lanes of a vector of `width`, a multiple of it at lane 0."""

    name: str
    width: int


@dataclass
class TileBuilder:
    """One tile program under construction. Use inside its context, location and insertion point."""

    function: ir.Operation  # the graph-level kernel function
    name: str
    inputs: list[Argument] = field(default_factory=list)
    outputs: list[Argument] = field(default_factory=list)
    workspaces: list[Argument] = field(default_factory=list)
    late: list[LaunchItem] = field(default_factory=list)  # arguments behind the symbols, asked for one by one
    symbols: list[str] = field(default_factory=list)
    extents: dict[str, Expression] = field(default_factory=dict)
    vector: VectorVariable | None = None
    replaced: Mapping[ir.Value, ir.Value] = field(default_factory=dict)  # in bodies of maps: instead of a result
    varying: set[ir.Value] = field(default_factory=set)  # values that differ between the lanes of a vector
    _variables: dict[str, ir.Value] = field(default_factory=dict)
    _scopes: list[dict[Expression | Operation, ir.Value]] = field(default_factory=lambda: [{}])
    # What `delinearize` took apart, without dimensions of size 1: (indices, sizes, the number they came from).
    _runs: list[tuple[list[Expression], list[Expression], Expression]] = field(default_factory=list)
    _positions: dict[tuple[object, ...], tuple[Expression, ...]] = field(default_factory=dict)  # by number and shape
    _along: dict[tuple[Expression, VectorVariable], tuple[Expression | None, Expression]] = field(default_factory=dict)
    _counter: int = 0
    tile_function: ir.Operation | None = None

    # The function --------------------------------------------------------------------------------------------------
    def declare(self, workspaces: Sequence[tuple[str, Shape]] = ()) -> ir.Module:
        """Create the module and the empty function; returns the module. Emit at `self.block` afterwards."""
        body = self.function.regions[0].blocks[0]
        returned = list(body.operations[len(body.operations) - 1].operation.operands)
        tensors = [(shape_of(value), element_of(value)) for value in [*body.arguments, *returned]]
        tensors += [(shape, element) for element, shape in workspaces]
        own_places = read_places(self.function) or [None] * (len(tensors) - len(workspaces))
        places = [*own_places, *[None] * len(workspaces)]
        outside = {name for place in places if place for size in (*place.shape, *place.low) for name in size.symbols}
        self.symbols = sorted(mentioned_symbols(self.function) | outside)
        memrefs = [_memref(element) for _, element in tensors]
        index = ir.IndexType.get()
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            types = ir.FunctionType.get([*memrefs, *[index] * len(self.symbols)], [])
            attributes = {"sym_name": ir.StringAttr.get(self.name), "function_type": ir.TypeAttr.get(types)}
            function = ir.Operation.create("func.func", attributes=attributes, regions=1)
        block = function.regions[0].blocks.append(*[*memrefs, *[index] * len(self.symbols)])
        arguments = [
            Argument(argument, shape, element, place)
            for argument, (shape, element), place in zip(block.arguments, tensors, places, strict=False)
        ]
        count = len(body.arguments)
        self.inputs, self.outputs = arguments[:count], arguments[count : count + len(returned)]
        self.workspaces = arguments[count + len(returned) :]
        for symbol, argument in zip(self.symbols, list(block.arguments)[len(tensors) :], strict=True):
            self._variables[symbol] = argument
        self.tile_function = function
        return module

    def tensor_map(self, boxed: BoxedTensor, element: ir.Type) -> ir.Value:
        """One more argument: a tensor map over an input or output."""
        assert self.tile_function is not None
        box = list(boxed.box) if boxed.im2col is None else [boxed.im2col.channels, boxed.im2col.pixels]
        type_ = ir.Type.parse(f'!tile.tensor_map<{element}, {box}, "{boxed.swizzle}">')
        return self._late_argument(type_, ("tensor_map", boxed))

    def workspace(self, element: str, shape: Shape) -> ir.Value:
        """One more argument: memory of the kernel's own, of any content."""
        argument = self._late_argument(_memref(element), ("workspace", len(self.workspaces)))
        self.workspaces.append(Argument(argument, shape, element))
        return argument

    def semaphores(self, count: int) -> ir.Value:
        """One more argument: `count` integers of 32 bits that are zero, and that the kernel leaves so."""
        return self._late_argument(_memref("i32"), ("semaphores", count))

    def _late_argument(self, type_: ir.Type, item: LaunchItem) -> ir.Value:
        argument = self.block.add_argument(type_, ir.Location.unknown())
        types = ir.FunctionType.get([own.type for own in self.block.arguments], [])
        self.set_attribute("function_type", ir.TypeAttr.get(types))
        self.late.append(item)
        return argument

    @property
    def block(self) -> ir.Block:
        assert self.tile_function is not None
        return self.tile_function.regions[0].blocks[0]

    def finish(self, threads: int) -> None:
        """End the function."""
        assert self.tile_function is not None
        ir.Operation.create("func.return")
        self.set_attribute("tile.threads", ir.IntegerAttr.get(ir.IntegerType.get_signless(64), threads))

    def set_attribute(self, name: str, value: ir.Attribute) -> None:
        assert self.tile_function is not None
        self.tile_function.attributes[name] = value

    def arguments(self) -> list[LaunchItem]:
        """The launch's arguments in the order of the function's (`KernelProgram.arguments`)."""
        parts: list[LaunchItem] = [("input", index) for index in range(len(self.inputs))]
        parts += [("output", index) for index in range(len(self.outputs))]
        workspaces: list[LaunchItem] = [("workspace", index) for index in range(len(self.workspaces))]
        parts += [item for item in workspaces if item not in self.late]
        parts += [("symbol", symbol) for symbol in self.symbols]
        return parts + self.late

    # Index variables -----------------------------------------------------------------------------------------------
    def variable(self, value: ir.Value, hint: str, extent: ExpressionLike | None = None) -> Expression:
        """A fresh symbol for an SSA index value; 0 <= symbol < extent when an extent is given."""
        self._counter += 1
        name = f"%{hint}{self._counter}"
        self._variables[name] = value
        if extent is not None:
            self.extents[name] = expression(extent)
        return Expression.symbol(name)

    @contextmanager
    def region(self) -> Iterator[None]:
        """Values made inside a region are forgotten at its end, because they do not dominate what follows."""
        self._scopes.append({})
        try:
            yield
        finally:
            self._scopes.pop()

    @contextmanager
    def vectorised(self, variable: Expression, width: int) -> Iterator[None]:
        """Inside, `variable` runs over the lanes of vectors of `width`."""
        name = variable.as_symbol()
        assert name is not None
        previous, self.vector = self.vector, VectorVariable(name, width)
        try:
            yield
        finally:
            self.vector = previous

    @contextmanager
    def replacing(self, replaced: Mapping[ir.Value, ir.Value]) -> Iterator[None]:
        """Inside, maps take another value of their body in the place of some."""
        previous, self.replaced = self.replaced, replaced
        try:
            yield
        finally:
            self.replaced = previous

    def divide(self, value: Expression, divisor: ExpressionLike) -> Expression:
        return floor_divide(value, divisor, self.extents)

    def remainder(self, value: Expression, divisor: ExpressionLike) -> Expression:
        return modulo(value, divisor, self.extents)

    # Multi-dimensional positions -----------------------------------------------------------------------------------
    def delinearize(self, flat: Expression, shape: Sequence[Expression]) -> tuple[Expression, ...]:
        """Row-major position of element `flat` (0 <= flat < product(shape)); remembered, so that `linearize` can
        undo it.
        """
        # An empty tensor has no positions: whatever is computed for one is never run, but must not divide by zero.
        shape = tuple([ONE if size == 0 else size for size in shape])
        key = flat, shape, tuple([self.extents.get(name) for name in sorted(flat.symbols)])
        known = self._positions.get(key)
        if known is None:  # asked for again and again: by every operand, load and condition of a program
            known = self._positions[key] = self._split_position(flat, shape)
            self._remember(flat, known, shape)
        return known

    def _split_position(self, flat: Expression, shape: tuple[Expression, ...]) -> tuple[Expression, ...]:
        indices: list[Expression] = []
        stride = ONE
        for axis in range(len(shape) - 1, -1, -1):
            size = shape[axis]
            if size == 1:
                indices.insert(0, ZERO)
                continue
            quotient = self.divide(flat, stride)
            outermost = all(other == 1 for other in shape[:axis])
            indices.insert(0, quotient if outermost else self.remainder(quotient, size))
            stride = stride * size
        return tuple(indices)

    def _remember(self, flat: Expression, indices: tuple[Expression, ...], shape: tuple[Expression, ...]) -> None:
        for first in range(len(shape)):
            for last in range(first + 2, len(shape) + 1):
                below, inside = product(list(shape[last:])), product(list(shape[first:last]))
                above = product(list(shape[:first]))
                part = self.divide(flat, below)
                whole = part if above == 1 else self.remainder(part, inside)
                kept = [axis for axis in range(first, last) if shape[axis] != 1]
                if len(kept) > 1:
                    self._runs.append(([indices[axis] for axis in kept], [shape[axis] for axis in kept], whole))

    def linearize(self, indices: Sequence[Expression], shape: Sequence[Expression]) -> Expression:
        """Row-major offset of a position, recognising runs of dimensions that came out of one `delinearize`."""
        kept = [axis for axis in range(len(shape)) if shape[axis] != 1]
        positions = [indices[axis] for axis in kept]
        sizes = [shape[axis] for axis in kept]
        offset, axis = ZERO, 0
        while axis < len(sizes):
            length, value = self._longest_run(positions[axis:], sizes[axis:])
            offset = offset * product(sizes[axis : axis + length]) + value
            axis += length
        return offset

    def offset(self, argument: Argument, indices: Sequence[Expression]) -> Expression:
        """Where an element of an argument's tensor lies, in elements from its address."""
        place = argument.place
        if place is None:
            return self.linearize(indices, argument.shape)
        # No stride depends on the size of the first dimension: with the tensor's own, runs of dimensions stay whole.
        first = next((axis for axis, size in enumerate(place.shape) if size != 1), 0)
        sizes = (*place.shape[:first], *argument.shape[first : first + 1], *place.shape[first + 1 :])
        start, stride = ZERO, ONE
        for low, size in zip(reversed(place.low), reversed(place.shape), strict=True):
            start, stride = start + low * stride, stride * size
        return self.linearize(indices, sizes) + start

    def _longest_run(self, positions: list[Expression], sizes: list[Expression]) -> tuple[int, Expression]:
        best, value = 1, positions[0]
        for run_positions, run_sizes, whole in self._runs:
            length = len(run_positions)
            if best < length and run_positions == positions[:length] and run_sizes == sizes[:length]:
                best, value = length, whole
        return best, value

    # Values --------------------------------------------------------------------------------------------------------
    def index(self, value: ExpressionLike) -> ir.Value:
        """The SSA `index` value of an expression at the current insertion point."""
        wanted = expression(value)
        found = self._find(wanted)
        if found is not None:
            return found
        constant = wanted.as_constant()
        total: ir.Value | None = arith.constant(ir.IndexType.get(), constant) if constant is not None else None
        for monomial, factor in (
            () if constant is not None else sorted(wanted.ordered_terms, key=lambda term: term[1] < 0)
        ):
            part = self._monomial(monomial, abs(factor))
            if total is None:
                total = part if factor > 0 else self._binary(arith.subi, self.index(0), part)
            else:
                total = self._binary(arith.addi if factor > 0 else arith.subi, total, part)
        assert total is not None
        self._scopes[-1][wanted] = total
        if self._depends_on_lane(wanted):
            self.varying.add(total)
        return total

    def _find(self, key: Expression | Operation) -> ir.Value | None:
        for scope in reversed(self._scopes):
            if key in scope:
                return scope[key]
        return None

    def _monomial(self, monomial: Sequence[str | Operation], factor: int) -> ir.Value:
        values = [self._variable(atom) if isinstance(atom, str) else self._operation(atom) for atom in monomial]
        if factor != 1 or not values:
            values.append(self.index(factor) if values else arith.constant(ir.IndexType.get(), factor))
        total = values[0]
        for value in values[1:]:
            total = self._binary(arith.muli, total, value)
        return total

    def _variable(self, name: str) -> ir.Value:
        if name not in self._variables:
            raise InternalError(f"kernel {self.name}: symbol {name!r} is not an argument of the tile program")
        return self._variables[name]

    def _binary(self, make: Callable[[ir.Value, ir.Value], ir.Value], left: ir.Value, right: ir.Value) -> ir.Value:
        result = make(left, right)
        if left in self.varying or right in self.varying:
            self.varying.add(result)
        return result

    def _operation(self, atom: Operation) -> ir.Value:
        found = self._find(atom)
        if found is not None:
            return found
        left, right = self.index(atom.left), self.index(atom.right)
        if atom.kind in ("min", "max"):
            result = self._binary(arith.minsi if atom.kind == "min" else arith.maxsi, left, right)
        elif atom.left.is_nonnegative(self.extents):
            result = self._binary(arith.divui if atom.kind == "floordiv" else arith.remui, left, right)
        else:
            result = self._floor(atom.kind, left, right)
        self._scopes[-1][atom] = result
        return result

    def _floor(self, kind: str, left: ir.Value, right: ir.Value) -> ir.Value:
        """Floored division of a value that may be negative by a positive one."""
        zero, one = self.index(0), self.index(1)
        negative = arith.cmpi(arith.CmpIPredicate.slt, left, zero)
        lowered = self._binary(arith.subi, left, self._binary(arith.subi, right, one))
        quotient = arith.divsi(arith.select(negative, lowered, left), right)
        if lowered in self.varying:
            self.varying.add(quotient)
        if kind == "floordiv":
            return quotient
        return self._binary(arith.subi, left, self._binary(arith.muli, quotient, right))

    # What a vector sees --------------------------------------------------------------------------------------------
    def _depends_on_lane(self, value: Expression) -> bool:
        names = value.symbols
        if self.vector is not None and self.vector.name in names:
            return True
        return any(self._variables[name] in self.varying for name in names if name in self._variables)

    def along_lanes(self, value: Expression) -> tuple[Expression | None, Expression]:
        """(step, rest) with ``value = step*lane + rest`` over the current vector; step None where it is not linear."""
        assert self.vector is not None
        others = [name for name in value.symbols if name in self._variables and name != self.vector.name]
        if any(self._variables[name] in self.varying for name in others):
            return None, value
        known = self._along.get((value, self.vector))
        if known is None:
            known = self._along[value, self.vector] = self._split_lane(value, self.vector)
        return known

    def _split_lane(self, value: Expression, vector: VectorVariable) -> tuple[Expression | None, Expression]:
        width = vector.width
        lane, block = Expression.symbol("%lane"), Expression.symbol("%block")
        extents = {**self.extents, "%lane": expression(width)}
        extents.pop(vector.name, None)
        own = self.extents.get(vector.name)
        if own is not None and own.divisible_by(width):
            extents["%block"] = Expression({m: f // width for m, f in own.terms})
        moved = value.substitute({vector.name: block * width + lane}, extents)
        step = moved.coefficient("%lane")
        return step, moved if step is None else moved - lane * step

    def lanes(self, offset: Expression, element: str) -> str:
        """How `offset` moves over the lanes of the current vector: contiguous (and aligned), uniform or scattered."""
        if self.vector is None or self.vector.width == 1:
            return "uniform"
        step, first = self.along_lanes(offset)
        if step is not None and step == 0:
            return "uniform"
        aligned = first.divisible_by(min(self.vector.width, max(1, 16 // bytes_of(element))))
        return "contiguous" if step is not None and step == 1 and aligned else "scattered"


def _memref(element: str) -> ir.Type:
    dynamic = ir.ShapedType.get_dynamic_size()
    return ir.MemRefType.get([dynamic], scalar_type(element))
