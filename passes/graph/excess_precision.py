"""Pass `excess-precision`: inside a kernel, values stay in f32 where the model rounds them to 16 bits and back.

In: fused kernels of a model that computes in f16 or bf16 itself. Out: the same, rounded where they store a tensor or
multiply one only. A model exported in half precision says after every operation what its framework would have stored;
a kernel that does not store it gains nothing from the rounding but two instructions an element and an error.
"""

from __future__ import annotations

from mlir import ir
from mlir.dialects import arith

from ...dialects import graph_builder
from ...dialects.tensors import element_of, shape_of, tensor_type
from ..unit import Unit, register_pass
from .narrow_storage import FIXED, MOVEMENTS
from .plan_precision import NARROW, PRODUCTS
from .rewriting import body_of, functions, operations_of, producer, string
from .simplify import merge_body

ELEMENTS = ("graph.element", "graph.element_at")
# What gives the same before and after a conversion to f32; the condition of a select is no such operand.
EXACT = frozenset({"arith.select", "arith.maximumf", "arith.minimumf", "arith.negf", "math.absf"})


@register_pass("excess-precision", requires="kernels", ensures="kernels")
def excess_precision(unit: Unit) -> None:
    """Leave out roundings to 16 bits between operations that share a kernel; `strict` keeps them.

    before::

        %0 = "graph.matmul"(%q, %k) : (tensor<4x8xf16>, tensor<8x4xf16>) -> tensor<4x4xf16>
        %1 = "graph.map"() ({ truncf (extf %0 * 0.125) }) : () -> tensor<4x4xf16>
        %2 = "graph.map"() ({ exp (extf %1) }) : () -> tensor<4x4xf32>

    after::

        %0 = "graph.matmul"(%q, %k) : (tensor<4x8xf16>, tensor<8x4xf16>) -> tensor<4x4xf32>
        %1 = "graph.map"() ({ %0 * 0.125 }) : () -> tensor<4x4xf32>
        %2 = "graph.map"() ({ exp %1 }) : () -> tensor<4x4xf32>

    What is also stored or multiplied keeps its rounding there.
    """
    if unit.precision == "strict":
        return
    with unit.module.context, ir.Location.unknown():
        for function in functions(unit.module).values():
            if "graph.kernel" in function.attributes and string(function, "graph.kernel") not in FIXED:
                block = body_of(function)
                wide = _widened_tensors(block)
                for value in wide:
                    _retype(value, wide)
                for operation in operations_of(block):
                    if operation.name == "graph.map":
                        _convert_body(operation, operation.results[0] in wide)


# Which tensors --------------------------------------------------------------------------------------------------
def _widened_tensors(block: ir.Block) -> dict[ir.Value, None]:
    """The 16-bit tensors that are made from f32 and that something reads as f32: the largest set of which this is
    true of all.
    """
    found = [
        result
        for operation in operations_of(block)
        if operation.name in (*PRODUCTS, *MOVEMENTS, "graph.map")
        for result in operation.results
        if element_of(result) in NARROW
    ]
    while True:
        chosen = set(found)
        kept = [value for value in found if _is_made_wide(value, chosen) and _is_read_wide(value, chosen)]
        if len(kept) == len(found):
            return dict.fromkeys(found)
        found = kept


def _is_made_wide(value: ir.Value, chosen: set[ir.Value]) -> bool:
    owner = producer(value)
    assert owner is not None
    if owner.name in PRODUCTS:
        return True  # their sums are f32
    if owner.name in MOVEMENTS:
        return owner.operands[0] in chosen
    return _is_rounded(operations_of(body_of(owner))[-1].operands[0], chosen)


def _is_rounded(scalar: ir.Value, chosen: set[ir.Value]) -> bool:
    """Whether a 16-bit scalar comes from wider ones, at least in part."""
    owner = producer(scalar)
    if owner is None:
        return False
    if owner.name in ELEMENTS:
        return owner.operands[0] in chosen
    if owner.name in EXACT:
        return any(_is_rounded(operand, chosen) for operand in _numbers(owner))
    return owner.name == "arith.constant" or _is_rounding(owner)


def _is_rounding(operation: ir.Operation) -> bool:
    return bool(operation.name == "arith.truncf" and str(operation.operands[0].type) == "f32")


def _numbers(operation: ir.Operation) -> list[ir.Value]:
    """The operands of an exact operation that are numbers like its result."""
    return [operand for operand in operation.operands if operand.type == operation.results[0].type]


def _is_read_wide(value: ir.Value, chosen: set[ir.Value]) -> bool:
    for use in value.uses:
        reader = use.owner.operation
        if reader.name in MOVEMENTS and reader.results[0] in chosen:
            return True
        if reader.name in ELEMENTS and _reaches_extension(reader.results[0], chosen):
            return True
    return False


def _reaches_extension(scalar: ir.Value, chosen: set[ir.Value]) -> bool:
    for use in scalar.uses:
        reader = use.owner.operation
        if reader.name == "gpu.yield":
            around = reader.parent.operation
            if around.name == "graph.map" and around.results[0] in chosen:
                return True
        elif _is_extension(reader) or (reader.name in EXACT and _reaches_extension(reader.results[0], chosen)):
            return True
    return False


def _is_extension(operation: ir.Operation) -> bool:
    return bool(operation.name == "arith.extf" and str(operation.results[0].type) == "f32")


# The change -----------------------------------------------------------------------------------------------------
def _retype(value: ir.Value, wide: dict[ir.Value, None]) -> None:
    """Make a tensor f32. Maps read it so, and what needs it narrow reads a cast of it."""
    owner, element = producer(value), element_of(value)
    assert owner is not None
    readers = [(use.owner.operation, use.operand_number) for use in value.uses]
    value.set_type(tensor_type(shape_of(value), "f32"))
    narrow: ir.Value | None = None
    for reader, number in readers:
        if reader.name in ELEMENTS:
            _round_here(reader)
        elif reader.name not in MOVEMENTS or reader.results[0] not in wide:
            if narrow is None:
                with ir.InsertionPoint.after(owner), owner.location:
                    narrow = graph_builder.cast(value, element)
            reader.operands[number] = narrow


def _round_here(read: ir.Operation) -> None:
    """Let an element be f32, and round it for those that read it."""
    result = read.results[0]
    narrow = result.type
    result.set_type(ir.F32Type.get())
    with ir.InsertionPoint.after(read), read.location:
        rounded = arith.truncf(narrow, result)
    result.replace_all_uses_except(rounded, [rounded.owner.operation])


def _convert_body(operation: ir.Operation, is_wide: bool) -> None:
    """Replace what is rounded and extended within a map, and the rounding of a result that is now f32."""
    body = operations_of(body_of(operation))
    for inner in body:
        if _is_extension(inner) and str(inner.operands[0].type) in NARROW and _is_rounded(inner.operands[0], set()):
            with ir.InsertionPoint(inner), inner.location:
                inner.results[0].replace_all_uses_with(_wide(inner.operands[0]))
    if is_wide and str(body[-1].operands[0].type) in NARROW:
        with ir.InsertionPoint(body[-1]), operation.location:
            body[-1].operands[0] = _wide(body[-1].operands[0])
    merge_body(operation)


def _wide(scalar: ir.Value) -> ir.Value:
    """The 16-bit scalar in f32, without the roundings that made it."""
    owner, f32 = producer(scalar), ir.F32Type.get()
    if owner is not None and _is_rounding(owner):
        return owner.operands[0]
    if owner is not None and owner.name == "arith.constant":
        return arith.constant(f32, ir.FloatAttr.get(f32, ir.FloatAttr(owner.attributes["value"]).value))
    if owner is None or owner.name not in EXACT:
        return arith.extf(f32, scalar)
    numbers = {operand: _wide(operand) for operand in _numbers(owner)}
    return ir.Operation.create(
        owner.name,
        results=[f32],
        operands=[numbers.get(operand, operand) for operand in owner.operands],
        attributes={name: owner.attributes[name] for name in owner.attributes},
    ).result
