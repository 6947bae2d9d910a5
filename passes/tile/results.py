"""What stands behind a contraction in its kernel: the epilogue on one sum, and the stores of what it makes.

In: sums and their place in the contraction's view. Out: a map that stores, or what stands in its body. One place,
because every kind of contraction program ends like this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlir import ir

from ...dialects.tensors import element_of, scalar_type
from ...runtime.symbolic import Expression
from .builder import TileBuilder
from .contraction import Contraction
from .elements import ElementEmitter, Indices
from .forward import forward_position
from .paired_results import emit_pairs
from .scalars import convert
from .tile_types import element, map_, store

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
    """One map over the sums, or pairs of them: convert, run the rest of the kernel, store."""
    if view.pairs is not None:
        emit_pairs(builder, view, returned, tile, position, sums)
        return

    def body(row: Expression, column: Expression, own: ir.Value) -> None:
        store_results(builder, view, returned, (own, tile.element), (position[0], row, column))

    _map_sums(builder, view, tile, position, sums, body)


def epilogue_tile(
    builder: TileBuilder,
    view: Contraction,
    made: ir.Value,
    tile: ResultTile,
    position: Position,
    sums: ir.Value,
    beside: tuple[ir.Value, ir.Value] | None = None,
) -> ir.Value:
    """The same map where it stores nothing: its values, in registers, become the tile of the one result `made`.

    `beside` is a tensor of the shape of `made`, and a tile of it in the layout of the sums.
    """

    def body(row: Expression, column: Expression, own: ir.Value) -> ir.Value:
        results = _Results(builder, view, (own, tile.element), (position[0], row, column))
        if beside is not None:
            results.bind_at(made, *beside)
        return results.element(made)

    values = _map_sums(builder, view, tile, position, sums, body, scalar_type(element_of(made)))
    assert values is not None
    return values


def _map_sums(
    builder: TileBuilder,
    view: Contraction,
    tile: ResultTile,
    position: Position,
    sums: ir.Value,
    body: Callable[[Expression, Expression, ir.Value], ir.Value | None],
    element_type: ir.Type | None = None,
) -> ir.Value | None:
    """A map whose body gets the row, the column and the sum there."""

    def at(i: ir.Value, j: ir.Value) -> ir.Value | None:
        row = builder.variable(i, "row", view.rows)
        column = builder.variable(j, "column", view.columns)
        with builder.vectorised(column, tile.width):
            if tile.width > 1:
                builder.varying.add(j)
            return body(row, column, element(sums, scalar_type(tile.element)))

    origin = (builder.index(position[1]), builder.index(position[2]))
    limits = (builder.index(view.rows), builder.index(view.columns))
    complete = [
        name
        for name, extent, step in zip(("rows", "columns"), (view.rows, view.columns), tile.steps, strict=True)
        if extent.divisible_by(step)
    ]
    return map_(
        builder, origin, limits, tile.shape, tile.layout, at, element_type=element_type, full_dimensions=complete
    )


class _Results:
    """Elements of what a kernel makes of a sum (value, dtype) at (batch, row, column)."""

    def __init__(
        self, builder: TileBuilder, view: Contraction, total: tuple[ir.Value, str], place: Position
    ) -> None:
        own, accumulator = total
        self.builder, self.result = builder, view.operation.results[0]
        value = convert(own, accumulator, element_of(self.result))
        if builder.vector is not None and builder.vector.width > 1:
            builder.varying.update((own, value))
        self.emitter = ElementEmitter(builder)
        self.emitter.bind(self.result, lambda _: value)
        self.position = view.result(*place)

    def indices(self, made: ir.Value) -> Indices:
        """Where in `made` the element lies."""
        return forward_position(self.builder, self.result, self.position, made)

    def bind_at(self, made: ir.Value, tensor: ir.Value, tile: ir.Value) -> None:
        """Where the element of `tensor` at the place in `made` is asked for, it is that of `tile`."""
        value, place = element(tile, scalar_type(element_of(tensor))), self.indices(made)
        if self.builder.vector is not None and self.builder.vector.width > 1:
            self.builder.varying.add(value)
        self.emitter.bind(tensor, lambda indices: value if tuple(indices) == tuple(place) else None)

    def element(self, made: ir.Value) -> ir.Value:
        """The element of `made`."""
        return self.emitter.element(made, self.indices(made))


def store_results(
    builder: TileBuilder,
    view: Contraction,
    returned: list[ir.Value],
    total: tuple[ir.Value, str],
    place: Position,
) -> None:
    """Run the rest of the kernel on a sum (value, dtype) at (batch, row, column) and store all that is returned."""
    results = _Results(builder, view, total, place)
    for argument, made in zip(builder.outputs, returned, strict=True):
        offset = builder.offset(argument, results.indices(made))
        store(builder, results.element(made), argument.memory, offset, argument.element)
