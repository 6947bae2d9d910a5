"""Pass `share-numbers`: quantised kernels that differ only in their scales and zero points become one.

In: a fused module whose equal kernels are one already. Out: kernels that are equal but for numbers take those that
differ as tensors. Every layer of a quantised network has its own scales inside its bodies: without this no two of its
layers share a kernel, and each is compiled for itself.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
from mlir import ir

from ...dialects import graph_builder as build
from ...dialects.given_kernel import is_given
from ...runtime.dtypes import dtype
from ..unit import Unit, WeightStore, register_pass
from .deduplicate_kernels import Identity, identify
from .places import add_argument
from .rewriting import body_of, building_before, functions, inner_operations, operations_of, replace, string

# Kernels whose programs run a map's body as it stands. Those of attention look for scale factors, others are given.
KINDS = ("dot", "loop", "row")
ELEMENTS = ("f32", "i32")
# A number that only these read may come from memory: no program asks what it is. Elsewhere a number may be the
# exponent of a power or a distance to shift by, which is better known.
ARITHMETIC = frozenset(
    {"arith.addf", "arith.subf", "arith.mulf", "arith.divf", "arith.maximumf", "arith.minimumf", "arith.maxnumf"}
    | {"arith.minnumf", "math.fma"}
    | {"arith.addi", "arith.subi", "arith.muli"}
)


@register_pass("share-numbers", requires="kernels", ensures="kernels")
def share_numbers(unit: Unit) -> None:
    """Let quantised kernels that differ only in numbers share one function, which reads the numbers from a tensor.

    before::

        %1 = call @dot_0(%0, %w0)           // %a = arith.constant 0.0315 : f32 in a map
        %2 = call @dot_1(%1, %w1)           // %a = arith.constant 0.0271 : f32, all else is equal

    after::

        %n0 = "graph.weight"() {handle = "dot_0.f32"} : tensor<1xf32>
        %n1 = "graph.weight"() {handle = "dot_1.f32"} : tensor<1xf32>
        %1 = call @dot_0(%0, %w0, %n0)      // %a = "graph.element_at"(%n, %zero) : f32
        %2 = call @dot_0(%1, %w1, %n1)

    Numbers that are equal in all of them stay. Kernels that neither read nor write bytes are left alone: a number in
    the instruction is quicker, and the layers of other networks seldom differ in numbers.
    """
    with unit.module.context, ir.Location.unknown():
        everything = functions(unit.module)
        main = everything.pop("main")
        groups = _groups({name: function for name, function in everything.items() if _is_eligible(function)})
        if groups:
            calls = defaultdict(list)
            for operation in inner_operations(main):
                if operation.name == "func.call":
                    calls[ir.FlatSymbolRefAttr(operation.attributes["callee"]).value].append(operation)
            for group in groups:
                _share(group, main, calls, unit.weights)


@dataclass
class _Numbers:
    """Masks the numbers of a kernel; `met` are those, in an order that is common to kernels of equal identity."""

    met: list[ir.Operation] = field(default_factory=list)

    def __call__(self, operation: ir.Operation) -> bool:
        is_number = _is_number(operation)
        if is_number:
            self.met.append(operation)
        return is_number


@dataclass(frozen=True)
class _Member:
    """A kernel of a group, and what is masked in it."""

    function: ir.Operation
    identity: Identity
    numbers: list[ir.Operation]


def _is_eligible(function: ir.Operation) -> bool:
    """Whether it is a kernel of ours, of a kind whose programs do not care, that reads or writes bytes."""
    kind = string(function, "graph.kernel") if "graph.kernel" in function.attributes else ""
    own = ir.FunctionType(ir.TypeAttr(function.attributes["function_type"]).value)
    elements = (str(ir.RankedTensorType(type_).element_type) for type_ in [*own.inputs, *own.results])
    return kind in KINDS and not is_given(function) and any(element in ("i8", "ui8") for element in elements)


def _groups(candidates: dict[str, ir.Operation]) -> list[list[_Member]]:
    """Kernels that are equal but for numbers, two at least a group."""
    likely: dict[Hashable, list[str]] = defaultdict(list)  # quick to tell: most are alone
    for name, function in candidates.items():
        operations = tuple(sorted(operation.name for operation in operations_of(body_of(function))))
        likely[string(function, "graph.kernel"), len(body_of(function).arguments), operations].append(name)
    alike: dict[Hashable, list[_Member]] = defaultdict(list)
    for names in likely.values():
        for name in names if len(names) > 1 else ():
            numbers = _Numbers()
            identity = identify(candidates[name], name, masked=numbers)
            alike[identity.key].append(_Member(candidates[name], identity, numbers.met))
    return [group for group in alike.values() if len(group) > 1]


def _is_number(operation: ir.Operation) -> bool:
    """Whether the operation is a finite constant of a map that only arithmetic reads."""
    if operation.name != "arith.constant" or operation.parent.name != "graph.map":
        return False
    result = operation.results[0]
    if str(result.type) not in ELEMENTS or not math.isfinite(operation.attributes["value"].value):
        return False
    return all(use.owner.name in ARITHMETIC for use in result.uses)


def _share(
    group: Sequence[_Member], main: ir.Operation, calls: dict[str, list[ir.Operation]], weights: WeightStore
) -> None:
    """Let all calls of the group call its first function, each with the numbers of its own."""
    server = group[0]
    given: list[list[ir.Value]] = [[] for _ in group]
    found = {element: _differing([member.numbers for member in group], element) for element in ELEMENTS}
    for element, (places, columns) in found.items():
        if not columns:
            continue
        _read(server, places, len(columns), element)
        with building_before(operations_of(body_of(main))[0]):
            for own, member, values in zip(given, group, zip(*columns, strict=True), strict=True):
                array = np.array([value.value for value in values], dtype(element).numpy)
                handle = weights.add(f"{member.identity.name}.{element}", array)
                own.append(build.weight(handle, array.shape, element))
    for own, member in zip(given, group, strict=True):
        for call in calls[member.identity.name]:
            _redirect(call, member, server, own)
        if member is not server:
            member.function.erase()


def _differing(
    numbers: Sequence[list[ir.Operation]], element: str
) -> tuple[dict[int, int], list[tuple[ir.Attribute, ...]]]:
    """(which column each number that differs is of, the columns): a column has a value for each kernel."""
    columns: dict[tuple[ir.Attribute, ...], int] = {}
    places = {}
    for number, same in enumerate(zip(*numbers, strict=True)):
        values = tuple(constant.attributes["value"] for constant in same)
        if str(same[0].results[0].type) == element and any(value != values[0] for value in values):
            places[number] = columns.setdefault(values, len(columns))
    return places, list(columns)


def _read(server: _Member, places: dict[int, int], count: int, element: str) -> None:
    """Give the function an argument of `count` numbers and let it read them there."""
    type_ = ir.RankedTensorType.get([count], ir.Type.parse(element))
    tensor = add_argument(server.function, type_)
    for number, column in places.items():
        constant = server.numbers[number]
        with building_before(constant):
            value = build.element_at(tensor, [column]).value
        replace(constant, [value])


def _redirect(call: ir.Operation, member: _Member, server: _Member, numbers: list[ir.Value]) -> None:
    """Replace a call of the member by one of the group's function."""
    operands = list(call.operands)
    for place, number in zip(server.identity.arguments, member.identity.arguments, strict=True):
        operands[place] = call.operands[number]
    attributes = {name: call.attributes[name] for name in call.attributes}
    attributes["callee"] = ir.FlatSymbolRefAttr.get(server.identity.name)
    if member is not server and "graph.nodes" in member.function.attributes:
        attributes.setdefault("graph.nodes", member.function.attributes["graph.nodes"])
    types = [result.type for result in call.results]
    with building_before(call):
        new = ir.Operation.create("func.call", types, [*operands, *numbers], attributes)
    replace(call, list(new.results))
