"""Reading and changing the graph level: inputs and users of an operation, its attributes, cloning, erasing.

In: MLIR operations of the graph level. Out: the same, changed. It exists because IRDL operations have no
traits or accessors in Python: every pass asks the same questions here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from mlir import ir
from mlir.dialects import arith

from ...dialects.tensors import element_of, shape_of
from ...runtime.dtypes import dtype
from ...runtime.symbolic import Expression, expression

Array = np.ndarray[Any, Any]


# Attributes ---------------------------------------------------------------------------------------------------------
def integers(operation: ir.Operation, name: str) -> tuple[int, ...]:
    """The value of a dense integer array attribute."""
    return tuple(int(item) for item in operation.attributes[name])


def integer(operation: ir.Operation, name: str) -> int:
    """The value of an integer attribute."""
    return int(ir.IntegerAttr(operation.attributes[name]).value)


def string(operation: ir.Operation, name: str) -> str:
    """The value of a string attribute."""
    return str(ir.StringAttr(operation.attributes[name]).value)


def expressions(operation: ir.Operation, name: str) -> tuple[Expression, ...]:
    """The value of an attribute that is an array of symbolic integers."""
    return tuple(expression(ir.StringAttr(item).value) for item in ir.ArrayAttr(operation.attributes[name]))


# Structure ----------------------------------------------------------------------------------------------------------
def functions(module: ir.Module) -> dict[str, ir.Operation]:
    """Every function of the module by name, in order."""
    found = {}
    for view in module.body.operations:
        if view.operation.name == "func.func":
            found[string(view.operation, "sym_name")] = view.operation
    return found


def body_of(operation: ir.Operation, region: int = 0) -> ir.Block:
    """The only block of a region."""
    return operation.regions[region].blocks[0]


def operations_of(block: ir.Block) -> list[ir.Operation]:
    """The block's operations, as a list that survives changes to the block."""
    return [view.operation for view in block.operations]


def blocks_within(function: ir.Operation) -> Iterator[ir.Block]:
    """The function's block and those of every `scf.if` and `scf.while` in it, outer ones first."""
    pending = [body_of(function)]
    while pending:
        block = pending.pop(0)
        yield block
        for operation in operations_of(block):
            if operation.name in ("scf.if", "scf.while"):
                pending += [region.blocks[0] for region in operation.regions if len(region.blocks)]


def inner_operations(operation: ir.Operation) -> Iterator[ir.Operation]:
    """Every operation nested inside, in order, without the operation itself."""
    for region in operation.regions:
        for block in region.blocks:
            for view in block.operations:
                yield view.operation
                if len(view.operation.regions):
                    yield from inner_operations(view.operation)


def inputs_of(operation: ir.Operation) -> list[ir.Value]:
    """Values from outside that the operation reads: its operands and what its regions capture, each once, in order."""
    found: dict[ir.Value, None] = dict.fromkeys(operation.operands)
    if len(operation.regions):
        inside: set[ir.Value] = set()
        for inner in inner_operations(operation):
            for operand in inner.operands:
                if operand not in inside:
                    found.setdefault(operand)
            inside.update(inner.results)
            inside.update(value for region in inner.regions for block in region.blocks for value in block.arguments)
    return list(found)


def producer(value: ir.Value) -> ir.Operation | None:
    """The operation whose result it is; None for an argument."""
    return value.owner.operation if isinstance(value, ir.OpResult) else None


def enclosing(operation: ir.Operation, block: ir.Block) -> ir.Operation:
    """The operation of `block` that is or contains `operation`."""
    current = operation
    while current.block != block:
        current = current.parent.operation
    return current


def users(value: ir.Value, block: ir.Block | None = None) -> list[ir.Operation]:
    """Operations of `block` (the value's own by default) that use it, directly or inside their regions, each once."""
    home = block or block_of(value)
    return list(dict.fromkeys(enclosing(use.owner.operation, home) for use in value.uses))


def block_of(value: ir.Value) -> ir.Block:
    """The block in which the value is defined."""
    owner = value.owner
    return owner if isinstance(owner, ir.Block) else owner.operation.block


def has_uses(value: ir.Value) -> bool:
    """True when anything reads the value."""
    return next(iter(value.uses), None) is not None


# Names --------------------------------------------------------------------------------------------------------------
def node_names(location: ir.Location) -> list[str]:
    """The ONNX node names that a location carries, each once."""
    found: dict[str, None] = {}

    def collect(current: ir.Location) -> None:
        if current.is_a_name():
            found.setdefault(current.name_str)
        elif current.is_a_fused():
            for part in current.locations:
                collect(part)

    collect(location)
    return list(found)


def fused_location(locations: Sequence[ir.Location]) -> ir.Location:
    """One location that carries the names of all."""
    names = dict.fromkeys(name for location in locations for name in node_names(location))
    if not names:
        return locations[0] if locations else ir.Location.unknown()
    parts = [ir.Location.name(name) for name in names]
    return parts[0] if len(parts) == 1 else ir.Location.fused(parts)


# Change -------------------------------------------------------------------------------------------------------------
@contextmanager
def building_before(operation: ir.Operation, location: ir.Location | None = None) -> Iterator[None]:
    """Within it, dialects/graph_builder builds in front of `operation`, with its location unless told otherwise."""
    with ir.InsertionPoint(operation), location or operation.location:
        yield


def clone_into(operation: ir.Operation, values: dict[ir.Value, ir.Value], point: ir.InsertionPoint) -> ir.Operation:
    """A copy at `point`, its inputs replaced through `values`, in which its results are then recorded."""
    copy = operation.clone(point).operation
    remap(copy, values)
    values.update(zip(operation.results, copy.results, strict=True))
    return copy


def create_kernel(
    module: ir.Module, name: str, function_type: ir.FunctionType, kind: str, location: ir.Location
) -> ir.Operation:
    """A private function without a body yet, that of a kernel of this kind; `location` has its ONNX nodes."""
    names = ir.ArrayAttr.get([ir.StringAttr.get(node) for node in node_names(location)])
    return ir.Operation.create(
        "func.func",
        attributes={
            "sym_name": ir.StringAttr.get(name),
            "sym_visibility": ir.StringAttr.get("private"),
            "function_type": ir.TypeAttr.get(function_type),
            "graph.kernel": ir.StringAttr.get(kind),
            "graph.nodes": names,
        },
        regions=1,
        loc=location,
        ip=ir.InsertionPoint(module.body),
    )


def remap(operation: ir.Operation, values: Mapping[ir.Value, ir.Value]) -> None:
    """Replace inputs of the operation, also inside its regions."""
    for inner in (operation, *inner_operations(operation)):
        for index, operand in enumerate(inner.operands):
            replacement = values.get(operand)
            if replacement is not None:
                inner.operands[index] = replacement


def replace(operation: ir.Operation, values: Sequence[ir.Value]) -> None:
    """Use `values` wherever the results were used, and erase the operation."""
    for result, value in zip(operation.results, values, strict=True):
        result.replace_all_uses_with(value)
    operation.erase()


def is_object(value: ir.Value) -> bool:
    """True for values on the host."""
    return not isinstance(value.type, ir.RankedTensorType) and str(value.type) == "!graph.object"


def binds_symbols(operation: ir.Operation) -> bool:
    """True for a call on the host that finds sizes which others use by name."""
    return operation.name == "graph.host" and len(ir.ArrayAttr(operation.attributes["symbols"])) > 0


def mentioned_symbols(root: ir.Operation) -> set[str]:
    """Every symbol that a shape or a symbolic attribute of the operation, or inside it, mentions."""
    found: set[str] = set()

    def add_type(type_: ir.Type) -> None:
        if isinstance(type_, ir.RankedTensorType) and type_.encoding is not None:
            for size in shape_of(type_):
                found.update(size.symbols)

    def visit(operation: ir.Operation) -> ir.WalkResult:
        for value in [*operation.operands, *operation.results]:
            add_type(value.type)
        for name in ("starts", "low", "pads", "sizes"):
            if name in operation.attributes:
                for size in expressions(operation, name):
                    found.update(size.symbols)
        if operation.name == "graph.dimension":
            found.update(expression(string(operation, "expression")).symbols)
        for region in operation.regions:
            for block in region.blocks:
                for argument in block.arguments:
                    add_type(argument.type)
        return ir.WalkResult.ADVANCE

    root.walk(visit)
    return found


def erase_dead(function: ir.Operation) -> int:
    """Erase operations whose results nobody reads, repeatedly; returns how many went."""
    return sum(erase_unused(block) for block in reversed(list(blocks_within(function))))


def erase_unused(block: ir.Block) -> int:
    """The same for one block; the body of a map, say."""
    erased = 0
    for operation in reversed(operations_of(block)):
        used = any(has_uses(result) for result in operation.results) or binds_symbols(operation)
        if len(operation.results) and not used:
            operation.erase()
            erased += 1
    return erased


# Maps ---------------------------------------------------------------------------------------------------------------
def captures(operation: ir.Operation, name: str = "graph.element") -> list[ir.Operation]:
    """The operations of that name in a map's body."""
    return [inner for inner in operations_of(body_of(operation)) if inner.name == name]


def yielded(operation: ir.Operation) -> list[ir.Value]:
    """What a map's or concatenation's region yields."""
    return list(operations_of(body_of(operation))[-1].operands)


def map_cost(operation: ir.Operation) -> tuple[int, int]:
    """(cheap, expensive) operations of a map's body; transcendental functions and divisions are expensive."""
    cheap = expensive = 0
    for inner in operations_of(body_of(operation)):
        if inner.name in _EXPENSIVE:
            expensive += 1
        elif inner.name.startswith(("arith.", "math.", "graph.element_at")) and inner.name != "arith.constant":
            cheap += 1
    return cheap, expensive


_EXPENSIVE = frozenset(
    ["arith.divf", "arith.remf", "arith.divsi", "arith.remsi", "arith.divui", "arith.remui", "math.ipowi"]
    + [
        "math." + name
        for name in [
            "exp",
            "exp2",
            "expm1",
            "log",
            "log2",
            "log10",
            "log1p",
            "tanh",
            "erf",
            "erfc",
            "sin",
            "cos",
            "tan",
            "asin",
            "acos",
            "atan",
            "atan2",
            "sinh",
            "cosh",
        ]
    ]
    + ["math." + name for name in ["asinh", "acosh", "atanh", "powf", "cbrt", "sqrt", "rsqrt"]]
)


# Constants ----------------------------------------------------------------------------------------------------------
def is_constant(value: ir.Value) -> bool:
    """True for weights and small constants."""
    owner = producer(value)
    return owner is not None and owner.name in ("graph.weight", "graph.constant")


def constant_array(operation: ir.Operation) -> Array:
    """The array of a `graph.constant`."""
    attribute = operation.attributes["value"]
    kind = dtype(element_of(operation.results[0])).numpy
    shape = tuple(ir.RankedTensorType(operation.results[0].type).shape)
    if kind.name == "bool" and str(attribute).startswith(("dense<true", "dense<false")):
        return np.full(shape, str(attribute).startswith("dense<true"))  # the bindings read one byte for all of them
    if kind.name != "bfloat16":
        return np.array(attribute).astype(kind, copy=False)
    if '"0x' in str(attribute):  # the bindings cannot read bfloat16, so this goes through the text form
        data = bytes.fromhex(str(attribute).split('"')[1][2:])
        return np.frombuffer(data, kind).reshape(shape) if shape else np.frombuffer(data, kind)[0]
    numbers = str(attribute).split("dense<")[1].split("> :")[0].replace("[", " ").replace("]", " ").replace(",", " ")
    values = [_read_bfloat16(number, kind) for number in numbers.split()]
    return np.full(shape, values[0], kind) if len(values) == 1 else np.array(values, kind).reshape(shape)


def _read_bfloat16(text: str, kind: np.dtype[Any]) -> Any:
    if text.startswith("0x"):
        return np.array([int(text, 16)], np.uint16).view(kind)[0]
    return kind.type(float(text))


def only_reader(operation: ir.Operation) -> ir.Operation | None:
    """The operation that reads the result, where there is one use of it."""
    uses = list(operation.results[0].uses)
    return uses[0].owner.operation if len(uses) == 1 else None


def scalar_number(value: ir.Value) -> float | None:
    """The value of a float constant of a body; None for anything else."""
    owner = producer(value)
    if owner is None or owner.name != "arith.constant":
        return None
    return float(ir.FloatAttr(owner.attributes["value"]).value)


def scalar_constant(value: float) -> ir.Value:
    """A constant f32 in a body, at the current insertion point."""
    kind = ir.F32Type.get()
    return arith.constant(kind, ir.FloatAttr.get(kind, float(value)))
