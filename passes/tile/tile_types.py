"""Small constructors for the tile dialect.

In: shapes, element types, layout texts. Out: tile types and operations with their attributes in the right form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlir import ir

from ...runtime.symbolic import Expression
from .builder import TileBuilder

ACCESS_BYTES = 16  # of the widest access to memory, which strides and vectors should be multiples of


def tile_of(rows: int, columns: int, element: ir.Type, layout: str) -> ir.Type:
    """``!tile.tile<[rows, columns], element, "layout">``."""
    return ir.Type.parse(f'!tile.tile<[{rows}, {columns}], {element}, "{layout}">')


def i64(value: int) -> ir.Attribute:
    """An integer attribute of the width that the dialect uses."""
    return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)


def program_id(axis: int) -> ir.Value:
    """Which block this is along `axis` of the grid."""
    return ir.Operation.create("tile.program_id", results=[ir.IndexType.get()], attributes={"axis": i64(axis)}).result


def full(rows: int, columns: int, layout: str, value: ir.Value) -> ir.Value:
    """A register tile with every element equal to `value`."""
    return ir.Operation.create(
        "tile.full", results=[tile_of(rows, columns, value.type, layout)], operands=[value]
    ).result


def reduce(tile: ir.Value, kind: str, axis: int, result: ir.Type) -> ir.Value:
    """The tile combined along `axis` (0: rows, 1: columns) by `kind`, such as "sum"."""
    attributes = {"kind": ir.StringAttr.get(kind), "axis": i64(axis)}
    return ir.Operation.create("tile.reduce", results=[result], operands=[tile], attributes=attributes).result


def element(tile: ir.Value, type_: ir.Type) -> ir.Value:
    """In a tile.map: the element of a captured tile at the current position."""
    return ir.Operation.create("tile.element", results=[type_], operands=[tile]).result


def select_bytes(low: ir.Value, high: ir.Value, selector: int) -> ir.Value:
    """In a tile.map: four of the eight bytes of two words, the first by the last hexadecimal digit of `selector`."""
    return ir.Operation.create(
        "tile.select_bytes", results=[low.type], operands=[low, high], attributes={"selector": i64(selector)}
    ).result


def map_(
    builder: TileBuilder,
    origin: Sequence[ir.Value],
    limits: Sequence[ir.Value],
    shape: tuple[int, int],
    layout: str,
    body: Callable[[ir.Value, ir.Value], ir.Value | None],
    element_type: ir.Type | None = None,
    fill: ir.Attribute | None = None,
    full_dimensions: Sequence[str] = (),
) -> ir.Value | None:
    """A tile.map at `origin` (row, column) inside `limits`; `body(i, j)` emits and returns the element, or None.

    Returns the tile when `element_type` is given.
    """
    attributes: dict[str, ir.Attribute] = {
        "shape": ir.DenseI64ArrayAttr.get(list(shape)),
        "layout": ir.StringAttr.get(layout),
    }
    if fill is not None:
        attributes["fill"] = fill
    if full_dimensions:
        attributes["full"] = ir.ArrayAttr.get([ir.StringAttr.get(name) for name in full_dimensions])
    results = [] if element_type is None else [tile_of(*shape, element_type, layout)]
    operation = ir.Operation.create(
        "tile.map", results=results, operands=[*origin, *limits], attributes=attributes, regions=1
    )
    index = ir.IndexType.get()
    block = operation.regions[0].blocks.append(index, index)
    with ir.InsertionPoint(block), builder.region():
        value = body(*block.arguments)
        ir.Operation.create("gpu.yield", operands=[] if value is None else [value])
    return operation.results[0] if results else None


def store(builder: TileBuilder, value: ir.Value, memory: ir.Value, offset: Expression, element: str) -> None:
    """A tile.store with its lanes worked out."""
    lanes = builder.lanes(offset, element)
    ir.Operation.create(
        "tile.store", operands=[value, memory, builder.index(offset)], attributes={"lanes": ir.StringAttr.get(lanes)}
    )
