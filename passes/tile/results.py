"""What stands behind a contraction in its kernel: the epilogue on one sum, and the stores of what it makes.

In: sums and their place in the contraction's view. Out: a map that stores, or what stands in its body. One place,
because every kind of contraction program ends like this.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlir import ir

from ...dialects.tensors import element_of, scalar_type
from ...runtime.symbolic import Expression
from .builder import TileBuilder
from .contraction import Contraction
from .elements import ElementEmitter
from .forward import forward_position
from .loop import store
from .scalars import convert
from .tile_types import element, map_

Position = tuple[Expression, Expression, Expression]  # batch, first row, first column


@dataclass(frozen=True)
class ResultTile:
    """The sums of which one block runs the epilogue: a register tile whose threads store `width` columns at a time.

    Tiles begin at multiples of `steps` (rows, columns): where those divide the result, none crosses its edge.
    """

    shape: tuple[int, int]
    layout: str
    width: int
    element: str
    steps: tuple[int, int]


def emit_epilogue(
    builder: TileBuilder,
    view: Contraction,
    returned: list[ir.Value],
    tile: ResultTile,
    position: Position,
    sums: ir.Value,
) -> None:
    """One map over the sums: convert, run the rest of the kernel, store."""
    batch, first_row, first_column = position

    def body(i: ir.Value, j: ir.Value) -> None:
        row = builder.variable(i, "row", view.rows)
        column = builder.variable(j, "column", view.columns)
        with builder.vectorised(column, tile.width):
            if tile.width > 1:
                builder.varying.add(j)
            own = element(sums, scalar_type(tile.element))
            store_results(builder, view, returned, (own, tile.element), (batch, row, column))

    origin = (builder.index(first_row), builder.index(first_column))
    limits = (builder.index(view.rows), builder.index(view.columns))
    complete = [
        name
        for name, extent, step in zip(("rows", "columns"), (view.rows, view.columns), tile.steps, strict=True)
        if extent.divisible_by(step)
    ]
    map_(builder, origin, limits, tile.shape, tile.layout, body, full_dimensions=complete)


def store_results(
    builder: TileBuilder,
    view: Contraction,
    returned: list[ir.Value],
    total: tuple[ir.Value, str],
    place: Position,
) -> None:
    """Run the rest of the kernel on a sum (value, dtype) at (batch, row, column) and store all that is returned."""
    own, accumulator = total
    result = view.operation.results[0]
    value = convert(own, accumulator, element_of(result))
    if builder.vector is not None and builder.vector.width > 1:
        builder.varying.update((own, value))
    emitter = ElementEmitter(builder)
    emitter.bind(result, lambda _: value)
    position = view.result(*place)
    for argument, made in zip(builder.outputs, returned, strict=True):
        indices = forward_position(builder, result, position, made)
        offset = builder.linearize(indices, argument.shape)
        store(builder, emitter.element(made, indices), argument.memory, offset, argument.element)
