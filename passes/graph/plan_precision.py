"""Pass `plan-precision`: which element type matrix products and convolutions multiply in.

In: f32 products and the unit's precision. Out: `strict`: nothing changes; `model`: nothing but a note on products that
stay in f32; `tf32`: products carry `precision = "tf32"`; `f16` and `bf16`: their operands are cast (weights at compile
time) and the result stays f32, straight from the accumulator.
"""

from __future__ import annotations

from mlir import ir

from ...dialects import graph_builder
from ...dialects.tensors import element_of, shape_of
from ...runtime.dtypes import dtype
from ..unit import Unit, WeightStore, register_pass
from .fold_constants import fold_constants
from .rewriting import (
    blocks_within,
    building_before,
    erase_dead,
    functions,
    node_names,
    operations_of,
    producer,
    string,
)

PRODUCTS = ("graph.matmul", "graph.convolution", "graph.convolution_transpose")
NARROW = ("f16", "bf16")
AS_EXPORTED = ("model", "strict")  # precisions that leave to the model what it multiplies


@register_pass("plan-precision", requires="graph", ensures="graph")
def plan_precision(unit: Unit) -> None:
    """Choose the element type in which matrix products and convolutions multiply.

    before::

        %0 = "graph.matmul"(%x, %w) : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>

    after, with precision f16::

        %h = "graph.map"() ({ truncf %x }) : () -> tensor<4x8xf16>
        %v = "graph.weight"() {handle = "w.f16"} : () -> tensor<8x8xf16>
        %0 = "graph.matmul"(%h, %v) : (tensor<4x8xf16>, tensor<8x8xf16>) -> tensor<4x8xf32>
    """
    if unit.precision in AS_EXPORTED:
        if unit.precision == "model":
            _note_plain_products(unit)
        return
    with unit.module.context, ir.Location.unknown():
        main = functions(unit.module)["main"]
        for block in blocks_within(main):
            casts: dict[ir.Value, ir.Value] = {}
            for operation in operations_of(block):
                if operation.name in PRODUCTS and element_of(operation.operands[0]) == "f32":
                    _plan(unit, operation, casts)
        erase_dead(main)
    fold_constants(unit)


def _note_plain_products(unit: Unit) -> None:
    """Say how many products go past the tensor cores because the model multiplies in f32: TensorRT would have taken
    tf32 there without a word, so whoever compares the two should hear of it.
    """
    products = [
        operation
        for block in blocks_within(functions(unit.module)["main"])
        for operation in operations_of(block)
        if operation.name in PRODUCTS
    ]
    plain = [operation for operation in products if element_of(operation.operands[0]) == "f32"]
    if not plain:
        return
    first = next((name for operation in plain for name in node_names(operation.location)), "")
    unit.notes.append(
        f"{len(plain)} of {len(products)} products and convolutions multiply in f32, as the model does, without tensor "
        f"cores{f' (first: {first})' if first else ''}; --precision tf32, f16 or bf16 uses them"
    )


def _plan(unit: Unit, operation: ir.Operation, casts: dict[ir.Value, ir.Value]) -> None:
    if unit.precision not in NARROW:
        operation.attributes["precision"] = ir.StringAttr.get(unit.precision)
        return
    for index, operand in enumerate(operation.operands):
        if operand not in casts:
            with building_before(operation):
                casts[operand] = narrowed(unit.weights, operand, unit.precision)
        operation.operands[index] = casts[operand]


def narrow_type(unit: Unit, operand: ir.Value) -> str | None:
    """The 16-bit type in which a product takes a float operand, if it has one: that of the precision for f32, its own
    unless the model is to be followed strictly.
    """
    element = element_of(operand)
    if element in NARROW:
        return element if unit.precision in (*NARROW, "model") else None
    return unit.precision if unit.precision in NARROW else None


def narrowed(weights: WeightStore, value: ir.Value, element: str) -> ir.Value:
    """The value in a narrower float; a weight is converted when somebody asks for it."""
    owner = producer(value)
    if owner is None or owner.name != "graph.weight":
        return graph_builder.cast(value, element)
    handle = string(owner, "handle")
    fresh = weights.add(f"{handle}.{element}", lambda: weights.view(handle).astype(dtype(element).numpy))
    return graph_builder.weight(fresh, shape_of(value), element)
