"""Pass `concatenate-in-place`: what is put side by side is written side by side at once.

In: a fused module, one function a call. Out: kernels that only concatenate are gone; those that make the parts write
them into the result's memory, and whatever else reads a part reads it there. Values and types stay as they are: only
the attribute `graph.places` of the kernels says where a tensor lies (passes/graph/places.py).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import count

from mlir import ir

from ...dialects import graph_builder
from ...dialects.tensors import Shape, element_of, shape_of
from ...runtime.dtypes import dtype
from ...runtime.symbolic import ONE, ZERO, Expression, product
from ..unit import Unit, register_pass
from .places import Place, place_attribute, write_places
from .rewriting import (
    blocks_within,
    body_of,
    building_before,
    clone_into,
    create_kernel,
    expressions,
    functions,
    fused_location,
    inner_operations,
    inputs_of,
    integer,
    operations_of,
    producer,
    string,
    users,
    yielded,
)

STRIDED = ("loop", "row", "dot", "attention")  # kernels that read and write tensors wherever they lie
ACCESS_BYTES = 16  # of one access; of what tensor maps count strides and addresses in
MOST_COPIES = 1  # parts that a kernel of their own has to bring: more kernels than the concatenation are not worth it


@register_pass("concatenate-in-place", requires="kernels", ensures="kernels")
def concatenate_in_place(unit: Unit) -> None:
    """Let the kernels that make the parts of a concatenation write them where the result lies.

    before::

        %a = call @dot_0(%x, %w)                  : (...) -> tensor<4x8xf16>
        %b = call @dot_1(%x, %v)                  : (...) -> tensor<4x24xf16>
        %c = call @loop_0(%a, %b)                 : (...) -> tensor<4x32xf16>     // graph.concatenate, axis 1

    after::

        %a = call @dot_0(%x, %w)                  // graph.places = [[], [], [["4", "32"], ["0", "0"]]]
        %b = call @dot_1(%x, %v)                  // graph.places = [[], [], [["4", "32"], ["0", "8"]]]
        %c = "graph.join"(%a, %b) {axis = 1}      // no kernel: the same memory
    """
    with unit.module.context, ir.Location.unknown():
        kernels = functions(unit.module)
        main = kernels.pop("main")
        calls = Counter(_callee(own) for own in inner_operations(main) if own.name == "func.call")
        late = {
            name
            for own in inner_operations(main)
            if own.name == "graph.host"
            for symbol in expressions(own, "symbols")
            for name in symbol.symbols
        }
        own_kernels = {name: function for name, function in kernels.items() if calls[name] == 1}
        for block in blocks_within(main):
            _Joiner(unit.module, own_kernels, block, late).run()


def _callee(call: ir.Operation) -> str:
    return str(ir.FlatSymbolRefAttr(call.attributes["callee"]).value)


@dataclass(frozen=True)
class _Concatenation:
    """A call whose result number `index` is nothing but a concatenation in its function."""

    call: ir.Operation
    function: ir.Operation
    index: int
    operation: ir.Operation

    @property
    def axis(self) -> int:
        return integer(self.operation, "axis")

    @property
    def result(self) -> ir.Value:
        return self.call.results[self.index]

    @property
    def parts(self) -> list[ir.Value]:
        """The parts, inside the function."""
        return yielded(self.operation)

    def outside(self, part: ir.Value) -> ir.Value | None:
        """The value of the block that is the part as it stands; None for one that the kernel computes."""
        return None if producer(part) else self.call.operands[ir.BlockArgument(part).arg_number]


@dataclass
class _Joiner:
    """One block of @main. `places` grows from the last concatenation to the first: a result may be a part itself."""

    module: ir.Module
    kernels: dict[str, ir.Operation]  # those that one call uses
    block: ir.Block
    late: set[str]  # symbols whose values are found during a run
    places: dict[ir.Value, Place] = field(default_factory=dict)

    def run(self) -> None:
        """Join what can be joined, then tell the kernels."""
        for call in reversed(operations_of(self.block)):
            found = self._concatenation(call) if call.name == "func.call" else None
            places = self._parts_in_place(found) if found else None
            if found and places:
                self._join(found, places)
        for call in operations_of(self.block):
            function = self.kernels.get(_callee(call)) if call.name == "func.call" else None
            if function is not None:
                write_places(function, [self.places.get(value) for value in (*call.operands, *call.results)])

    def _kind(self, call: ir.Operation) -> str:
        """Of the kernel that only this call uses; empty where there is none."""
        function = self.kernels.get(_callee(call)) if call.name == "func.call" else None
        is_ours = function is not None and "graph.kernel" in function.attributes
        return string(function, "graph.kernel") if function is not None and is_ours else ""

    def _concatenation(self, call: ir.Operation) -> _Concatenation | None:
        if self._kind(call) != "loop":
            return None
        function = self.kernels[_callee(call)]
        for index, value in enumerate(operations_of(body_of(function))[-1].operands):
            operation = producer(value)
            if operation is not None and operation.name == "graph.concatenate":
                return _Concatenation(call, function, index, operation)
        return None

    # What can be done -----------------------------------------------------------------------------------------------
    def _parts_in_place(self, found: _Concatenation) -> list[Place] | None:
        """Where each part goes; None where nothing is won."""
        sources = [found.outside(part) for part in found.parts]
        whole = self._place_of_result(found, sources[0])
        places, start = [], ZERO
        for part in found.parts:
            places.append(_place_within(whole, part, found, start))
            start = start + shape_of(part)[found.axis]
        copied = sum(not self._lies_in(value, place, sources) for value, place in zip(sources, places, strict=True))
        known_late = {name for size in whole.shape for name in size.symbols} & self.late
        is_inside = found.result not in self.places and whole.shape != shape_of(found.result)
        if copied > (0 if is_inside else MOST_COPIES) or copied == len(places) or known_late:
            return None
        shapes = [shape_of(part) for part in found.parts]
        aligned = [_is_aligned(*own, element_of(found.result)) for own in zip(places, shapes, strict=True)]
        return places if all(aligned) else None

    def _place_of_result(self, found: _Concatenation, first: ir.Value | None) -> Place:
        """Where the result lies: in a later concatenation, that of its first part if need be, or on its own."""
        if found.result in self.places:
            return self.places[found.result]
        if first is not None and first in self.places and self._is_strided(found.result):
            return self.places[first]
        shape = shape_of(found.result)
        return Place(shape, (ZERO,) * len(shape))

    def _lies_in(self, value: ir.Value | None, place: Place, sources: list[ir.Value | None]) -> bool:
        """Whether the value is there already, or its kernel can write it there."""
        if value is None:
            return False
        if value in self.places:
            return self.places[value] == place
        others = [_origin(own) for own in sources if own is not None]
        return others.count(_origin(value)) == 1 and self._is_strided(value, place)

    def _is_strided(self, value: ir.Value, place: Place | None = None) -> bool:
        """Whether the value's kernel and all its readers take it wherever it lies; in `place` also as a reshape."""
        names = _names(_origin(value)) if place else [value]
        readers = [use.owner.operation for name in names for use in name.uses]
        kernels = [producer(names[0]), *(own for own in readers if not (place and own.name == "graph.reshape"))]
        if any(own is None or own.block != self.block or self._kind(own) not in STRIDED for own in kernels):
            return False
        return place is None or all(place.renamed(shape_of(value), shape_of(name)) for name in names)

    # Doing it -------------------------------------------------------------------------------------------------------
    def _join(self, found: _Concatenation, places: list[Place]) -> None:
        """Make the join in front of the call, and a call of what is left of the kernel in its place."""
        sources = [found.outside(part) for part in found.parts]
        whole = self._place_of_result(found, sources[0])
        is_inside = whole.shape != shape_of(found.result)
        parts = []
        for part, value, place in zip(found.parts, sources, places, strict=True):
            if value is None or not self._lies_in(value, place, sources):
                (value,) = self._call(found, [part])
            for name in _names(_origin(value)):
                renamed = place.renamed(shape_of(value), shape_of(name))
                if renamed is not None:
                    self.places[name] = renamed
            parts.append(value)
        with building_before(found.call):
            within = place_attribute(whole) if is_inside else None
            joined = graph_builder.join(parts, found.axis, shape_of(found.result), within)
        if is_inside:
            self.places[found.result] = whole
        values = _returned(found.function)
        others = [index for index in range(len(values)) if index != found.index]
        made = self._call(found, [values[index] for index in others], joined) if others else []
        for index, new in [(found.index, joined), *zip(others, made, strict=True)]:
            old = found.call.results[index]
            if old in self.places:
                self.places[new] = self.places.pop(old)
            old.replace_all_uses_with(new)
        del self.kernels[_callee(found.call)]
        found.call.erase()
        found.function.erase()

    def _call(self, found: _Concatenation, returned: list[ir.Value], joined: ir.Value | None = None) -> list[ir.Value]:
        """A call of a new kernel, in front of the concatenation's, that computes these values of its function; with the
        concatenation from outside, where `joined` is that. Gives its results.
        """
        outer = dict(zip(body_of(found.function).arguments, found.call.operands, strict=True))
        if joined is not None:
            outer[found.operation.results[0]] = joined
        operations = _needed(returned, set(outer))
        read = dict.fromkeys(value for own in operations for value in inputs_of(own) if value in outer)
        read.update(dict.fromkeys(value for value in returned if value in outer))
        location = fused_location([own.location for own in operations] or [found.operation.location])
        function_type = ir.FunctionType.get([value.type for value in read], [value.type for value in returned])
        taken = functions(self.module)
        name = next(name for number in count() if (name := f"loop_{number}") not in taken)
        function = create_kernel(self.module, name, function_type, "loop", location)
        body = function.regions[0].blocks.append(*function_type.inputs, arg_locs=[location] * len(read))
        inside: dict[ir.Value, ir.Value] = dict(zip(read, body.arguments, strict=True))
        point = ir.InsertionPoint(body)
        for own in operations:
            clone_into(own, inside, point)
        ir.Operation.create("func.return", operands=[inside[value] for value in returned], loc=location, ip=point)
        self.kernels[name] = function
        call = ir.Operation.create(
            "func.call",
            results=list(function_type.results),
            operands=[outer[value] for value in read],
            attributes={"callee": ir.FlatSymbolRefAttr.get(name)},
            loc=location,
            ip=ir.InsertionPoint(found.call),
        )
        return list(call.results)


def _origin(value: ir.Value) -> ir.Value:
    """The value, or what it is a reshape of."""
    while (maker := producer(value)) is not None and maker.name == "graph.reshape":
        value = maker.operands[0]
    return value


def _names(value: ir.Value) -> list[ir.Value]:
    """The value and its reshapes."""
    found = [value]
    for name in found:
        found += [own.results[0] for own in users(name) if own.name == "graph.reshape"]
    return found


def _returned(function: ir.Operation) -> list[ir.Value]:
    return list(operations_of(body_of(function))[-1].operands)


def _needed(values: list[ir.Value], given: set[ir.Value]) -> list[ir.Operation]:
    """The operations that compute the values from what is given, in order."""
    found: dict[ir.Operation, None] = {}
    pending = list(values)
    while pending:
        value = pending.pop()
        operation = None if value in given else producer(value)
        if operation is not None and operation not in found:
            found[operation] = None
            pending += inputs_of(operation)
    block = next(iter(found)).block if found else None
    return [operation for operation in operations_of(block) if operation in found] if block else []


def _place_within(whole: Place, part: ir.Value, found: _Concatenation, start: Expression) -> Place:
    """Where a part lies that begins `start` into the result, which lies in `whole`.

    Where nothing is cut, the part's own size stands for the whole one: they are equal, but maybe by a constraint only.
    """
    shape, low = list(whole.shape), list(whole.low)
    for axis, (own, result) in enumerate(zip(shape_of(part), shape_of(found.result), strict=True)):
        if axis != found.axis and whole.shape[axis] == result:
            shape[axis] = own
    low[found.axis] = low[found.axis] + start
    return Place(tuple(shape), tuple(low))


def _is_aligned(place: Place, shape: Shape, element: str) -> bool:
    """Whether accesses of 16 bytes fit in a part of that shape: to its first element, and from line to line."""
    cut = [axis for axis, (own, whole) in enumerate(zip(shape, place.shape, strict=True)) if own != whole]
    steps, stride = [ZERO], ONE
    for low, size in zip(reversed(place.low), reversed(place.shape), strict=True):
        steps[0], stride = steps[0] + low * stride, stride * size
    if cut and any(size != 1 for size in place.shape[: cut[-1]]):
        steps.append(product(list(place.shape[cut[-1] :])))
    return all((step * dtype(element).bytes).divisible_by(ACCESS_BYTES) for step in steps)
