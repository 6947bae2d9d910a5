"""Pass `tabulate-bytes`: what a kernel computes from one byte alone is looked up in a table of 256 answers.

In: fused kernels. Out: kernels in which a costly function of a byte, such as dequantise, GELU, quantise, is one read
from a small tensor. The function is computed here, once for each byte; a thread would compute it for each element.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from mlir import ir

from ...dialects import graph_builder as build
from ...dialects.given_kernel import is_given
from ...dialects.scalar import Scalar
from ...dialects.tensors import tensor_type
from ..unit import Unit, register_pass
from .places import add_argument
from .rewriting import (
    Array,
    body_of,
    building_before,
    functions,
    inner_operations,
    node_names,
    operations_of,
    producer,
    replace,
    string,
)
from .scalar_semantics import apply_scalar, understands

KINDS = ("dot", "loop", "row")  # whose programs run a map's body as it stands
ELEMENTS = ("i8", "i32", "f16", "bf16", "f32")  # of tables
# A function is tabulated where it is this many instructions, about. A read takes some four, by units that serve half
# as many threads a cycle as those that compute.
LEAST_COST = 24
COSTS = {
    "arith.divf": 8, "math.sqrt": 8, "math.rsqrt": 8, "math.erf": 25, "math.erfc": 30, "math.tanh": 20, "math.exp": 12,
    "math.exp2": 10, "math.expm1": 20, "math.log": 15, "math.log1p": 20, "math.powf": 60, "math.sin": 25,
    "math.cos": 25, "math.atan": 25,
}  # fmt: skip


@register_pass("tabulate-bytes", requires="kernels", ensures="kernels")
def tabulate_bytes(unit: Unit) -> None:
    """Replace costly functions of one byte by tables.

    before::

        %q = arith.trunci %n : i32 to i8    // quantised
        %h = ...                            // (%q - 3) * 0.047
        %g = ...                            // %h * (1 + erf(%h * 0.707)) * 0.5
        %y = arith.trunci %m : i32 to i8    // %g, quantised

    after::

        %i = arith.extui %q : i8 to i64
        %y = "graph.element_at"(%table, %i) : (tensor<256xi8>, i64) -> i8
    """
    with unit.module.context, ir.Location.unknown():
        everything = functions(unit.module)
        main = everything.pop("main")
        calls = defaultdict(list)
        for operation in inner_operations(main):
            if operation.name == "func.call":
                calls[ir.FlatSymbolRefAttr(operation.attributes["callee"]).value].append(operation)
        for name, function in everything.items():
            if string(function, "graph.kernel") not in KINDS or is_given(function):
                continue
            tables = [found for body in _last_bodies(function) for found in _tabulate(body, function)]
            if tables:
                with building_before(operations_of(body_of(main))[0]):
                    weights = [
                        build.weight(unit.weights.add(name, array), array.shape, element)
                        for name, array, element in tables
                    ]
                for call in calls[name]:
                    _append(call, weights)


def _last_bodies(function: ir.Operation) -> list[ir.Block]:
    """The bodies of maps that only maps read: what a contraction or a reduction reads is recognised there as it is."""
    found: list[ir.Block] = []
    awaited: set[ir.Value] = set()
    for operation in reversed(operations_of(body_of(function))):
        if operation.name == "func.return":
            continue
        if operation.name == "graph.map" and operation.results[0] not in awaited:
            found.append(body_of(operation))
            continue
        awaited.update(operation.operands)
        for inner in inner_operations(operation):
            awaited.update(inner.operands)
    return found


@dataclass(frozen=True)
class _ByteFunction:
    """`result` as a function of the byte `source`: all operations on the way, and those that nothing else needs."""

    source: ir.Value
    result: ir.Value
    path: list[ir.Operation]
    alone: list[ir.Operation]

    @property
    def cost(self) -> int:
        """Instructions that a table saves, about."""
        return sum(COSTS.get(operation.name, 1) for operation in self.alone)

    def table(self) -> Array:
        """The answer for each byte, taken as an unsigned number."""
        values: dict[ir.Value, Array] = {self.source: np.arange(256, dtype=np.uint8).view(np.int8)}
        with np.errstate(all="ignore"):
            for operation in self.path:
                operands = [values[own] if own in values else _constant(own) for own in operation.operands]
                values[operation.results[0]] = apply_scalar(operation, operands)
        return values[self.result]


def _constant(value: ir.Value) -> Array:
    owner = producer(value)
    assert owner is not None
    return apply_scalar(owner, [])


def _tabulate(body: ir.Block, function: ir.Operation) -> Iterator[tuple[str, Array, str]]:
    """Replace what pays in one body, the first byte first; gives (a name, the table, its dtype) of each."""
    while (found := _costly(body)) is not None:
        last, array, element = found.path[-1], found.table(), str(found.result.type)
        names = node_names(last.location) or node_names(function.location)
        table = add_argument(function, tensor_type(array.shape, element))
        with building_before(last):
            i64 = ir.IntegerType.get_signless(64)
            number = ir.Operation.create("arith.extui", results=[i64], operands=[found.source]).result
            answer = build.element_at(table, [Scalar(number, "i64")]).value
        replace(last, [answer])
        for operation in reversed(found.alone[:-1]):
            operation.erase()
        yield f"{names[0] if names else 'bytes'}.table", array, element


def _costly(body: ir.Block) -> _ByteFunction | None:
    """The first byte of which a function costs more than a table, and the costliest function of it."""
    for operation in operations_of(body):
        if len(operation.results) != 1 or str(operation.results[0].type) != "i8":
            continue
        found = [own for own in _functions(body, operation.results[0]) if own.cost >= LEAST_COST]
        if found:
            return max(found, key=lambda own: own.cost)
    return None


def _functions(body: ir.Block, source: ir.Value) -> Iterator[_ByteFunction]:
    """What the body computes from that byte and constants, and uses beside something else or gives back."""
    known: dict[ir.Value, ir.Operation] = {}
    for operation in operations_of(body):
        computed = [own for own in operation.operands if getattr(producer(own), "name", "") != "arith.constant"]
        if understands(operation.name) and computed and all(own == source or own in known for own in computed):
            known[operation.results[0]] = operation
    for value in known:
        is_read = any(not use.owner.results or use.owner.results[0] not in known for use in value.uses)
        if is_read and str(value.type) in ELEMENTS:
            path, needed, alone = [], {value}, {value}
            for own, operation in reversed(known.items()):
                if own in needed:
                    path.append(operation)
                    needed.update(operation.operands)
                    if all(use.owner.results and use.owner.results[0] in alone for use in own.uses):
                        alone.add(own)
            path.reverse()
            yield _ByteFunction(source, value, path, [own for own in path if own.results[0] in alone])


def _append(call: ir.Operation, values: list[ir.Value]) -> None:
    """Give the call more operands."""
    attributes = {name: call.attributes[name] for name in call.attributes}
    with building_before(call):
        types = [result.type for result in call.results]
        new = ir.Operation.create("func.call", types, [*call.operands, *values], attributes)
    replace(call, list(new.results))
