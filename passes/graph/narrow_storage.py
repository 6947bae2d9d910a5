"""Pass `narrow-storage`: what one kernel hands to another is stored in f16 or bf16 when that is the precision.

In: a fused module and the unit's precision. Out: f32 results of kernels that only kernels read have the
narrow type; kernels convert at their edges and compute in f32 between them. Model inputs and outputs,
recurrences and branches keep their types.
"""

from __future__ import annotations

from mlir import ir

from ...dialects import graph_builder
from ...dialects.given_kernel import KIND
from ...dialects.tensors import element_of, shape_of, tensor_type
from ...runtime.symbolic import Expression, product
from ..unit import Unit, register_pass
from .plan_precision import NARROW
from .rewriting import (
    body_of,
    building_before,
    clone_into,
    erase_dead,
    functions,
    has_uses,
    inner_operations,
    integer,
    operations_of,
    producer,
    replace,
    string,
    yielded,
)

MOVEMENTS = ("graph.slice", "graph.transpose", "graph.reshape", "graph.broadcast")
FIXED = ("recurrent", "scan", "scatter", "sort", KIND)  # kernels that take and give the types they were written for


@register_pass("narrow-storage", requires="kernels", ensures="kernels")
def narrow_storage(unit: Unit) -> None:
    """Store what kernels exchange in the unit's narrow float type.

    before::

        %0 = call @dot_0(%x, %w) : ... -> tensor<4x8xf32>
        %1 = call @row_0(%0) : (tensor<4x8xf32>) -> tensor<4x8xf32>

    after, with precision f16::

        %0 = call @dot_0(%x, %w) : ... -> tensor<4x8xf16>         // ends in a map with truncf
        %1 = call @row_0(%0) : (tensor<4x8xf16>) -> tensor<4x8xf32>   // begins with a map with extf
    """
    if unit.precision not in NARROW:
        return
    with unit.module.context, ir.Location.unknown():
        everything = functions(unit.module)
        main = everything["main"]
        calls = [operation for operation in inner_operations(main) if operation.name == "func.call"]
        statistics = _statistics(everything, calls)
        narrow = {
            result
            for call in calls
            if _kind(everything, call) not in FIXED
            for result in call.results
            if element_of(result) == "f32" and result not in statistics and _only_kernels_read(everything, result)
        }
        for value in narrow:
            _retype(value, unit.precision)
        for call in calls:
            if _kind(everything, call) not in FIXED:
                _adapt(everything[_callee(call)], call, unit.precision)


def _statistics(everything: dict[str, ir.Operation], calls: list[ir.Operation]) -> set[ir.Value]:
    """Sums over many elements, and what is computed from those alone: small, with a range that f16 lacks.

    A sum of squares of a few hundred activations passes 65504 while the activations are harmless.
    """
    found: set[ir.Value] = set()
    for call in calls:
        kind = _kind(everything, call)
        operands = [value for value in call.operands if not _is_weight(value)]
        if kind == "row":
            sizes = _reduced_sizes(everything[_callee(call)])
            found |= {result for result in call.results if product(shape_of(result)) not in sizes}
        elif kind == "loop" and operands and all(_behind_reshapes(value) in found for value in operands):
            found |= set(call.results)
    return found


def _reduced_sizes(function: ir.Operation) -> set[Expression]:
    """How many elements the kernel reduces: what it makes of each of them is no statistic, wherever it comes from."""
    reductions = [own for own in inner_operations(function) if own.name == "graph.reduce"]
    return {product(shape_of(own.operands[0])) for own in reductions}


def _behind_reshapes(value: ir.Value) -> ir.Value:
    owner = producer(value)
    while owner is not None and owner.name == "graph.reshape":
        value = owner.operands[0]
        owner = producer(value)
    return value


def _is_weight(value: ir.Value) -> bool:
    owner = producer(_behind_reshapes(value))
    return owner is not None and owner.name in ("graph.weight", "graph.constant")


def _callee(call: ir.Operation) -> str:
    return str(ir.FlatSymbolRefAttr(call.attributes["callee"]).value)


def _kind(everything: dict[str, ir.Operation], call: ir.Operation) -> str:
    return string(everything[_callee(call)], "graph.kernel")


def _only_kernels_read(everything: dict[str, ir.Operation], value: ir.Value) -> bool:
    """True when every reader is a kernel that can take the narrow type, directly or through reshapes."""
    for use in value.uses:
        reader = use.owner.operation
        if reader.name == "graph.reshape":
            if not _only_kernels_read(everything, reader.results[0]):
                return False
        elif reader.name != "func.call" or _kind(everything, reader) in FIXED:
            return False
    return has_uses(value)


def _retype(value: ir.Value, element: str) -> None:
    """Give the value and the reshapes of it the narrow type."""
    value.set_type(tensor_type(shape_of(value), element))
    for use in list(value.uses):
        reader = use.owner.operation
        if reader.name == "graph.reshape":
            _retype(reader.results[0], element)


def _adapt(function: ir.Operation, call: ir.Operation, element: str) -> None:
    """Make the function's types those of its call, converting inside."""
    block = body_of(function)
    for argument, operand in zip(block.arguments, call.operands, strict=True):
        if argument.type != operand.type:
            _widen(block, argument, operand.type)
    terminator = operations_of(block)[-1]
    for index, result in enumerate(call.results):
        if terminator.operands[index].type != result.type:
            value = terminator.operands[index]
            owner = producer(value)
            with ir.InsertionPoint(terminator), owner.location if owner else terminator.location:
                terminator.operands[index] = graph_builder.cast(value, element)
    inputs = [argument.type for argument in block.arguments]
    results = [value.type for value in terminator.operands]
    function.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(inputs, results))
    _cancel_casts(block)
    erase_dead(function)


def _widen(block: ir.Block, argument: ir.Value, stored: ir.Type) -> None:
    element = element_of(argument)
    argument.set_type(stored)
    with ir.InsertionPoint.at_block_begin(block), argument.location:
        wide = graph_builder.cast(argument, element)
    owner = wide.owner.operation
    inside = list(inner_operations(owner))
    argument.replace_all_uses_except(wide, inside)


def _cancel_casts(block: ir.Block) -> None:
    """Narrowing what was just widened is the stored tensor itself, also where it was moved in between."""
    for operation in operations_of(block):
        source = cast_source(operation, "arith.truncf")
        narrow = _narrow(source, operation.results[0]) if source is not None else None
        if narrow is not None:
            replace(operation, [narrow])


def _narrow(value: ir.Value, wanted: ir.Value) -> ir.Value | None:
    """The value in the element type of `wanted`, where only movements stand between it and tensors of that type."""
    element, maker = element_of(wanted), producer(value)
    if maker is None:
        return None
    stored = cast_source(maker, "arith.extf")
    if stored is not None:
        return stored if element_of(stored) == element else None
    if maker.name in MOVEMENTS:
        source = _narrow(maker.operands[0], wanted)
        if source is None:
            return None
        moved = clone_into(maker, {maker.operands[0]: source}, ir.InsertionPoint(maker)).results[0]
        moved.set_type(tensor_type(shape_of(value), element))
        return moved
    if maker.name != "graph.concatenate" or len(list(value.uses)) > 1:
        return None
    parts = [_narrow(part, wanted) for part in yielded(maker)]
    if all(part is None for part in parts):
        return None
    with building_before(maker):
        rounded = [
            graph_builder.cast(own, element) if part is None else part
            for part, own in zip(parts, yielded(maker), strict=True)
        ]
        return graph_builder.concatenate_to(shape_of(value), rounded, integer(maker, "axis"))


def cast_source(operation: ir.Operation, conversion: str) -> ir.Value | None:
    """The tensor that a map converts and nothing else."""
    if operation.name != "graph.map":
        return None
    body = operations_of(body_of(operation))
    if [inner.name for inner in body] != ["graph.element", conversion, "gpu.yield"]:
        return None
    source = body[0].operands[0]
    same = shape_of(source) == shape_of(operation.results[0])
    return source if same else None
