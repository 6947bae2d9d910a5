"""What stands behind a contraction in its kernel: the epilogue on one sum, and the stores of what it makes.

In: sums and their place in the contraction's view. Out: a map that stores, or what stands in its body. One place,
because every kind of contraction program ends like this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mlir import ir

from ...dialects.tensors import element_of, scalar_type
from ...runtime.symbolic import Expression
from .elements import ElementEmitter, Indices
from .epilogue import Position, Rest, ResultTile
from .forward import forward_position
from .line_values import bind_tiles
from .paired_results import emit_pairs
from .scalars import convert
from .tile_types import element, map_, store


def emit_epilogue(rest: Rest, tile: ResultTile, position: Position, sums: ir.Value) -> None:
    """One map over the sums, or pairs of them: convert, run the rest of the kernel, store."""
    if rest.view.pairs is not None:
        emit_pairs(rest, tile, position, sums)
        return

    def body(row: Expression, column: Expression, own: ir.Value) -> None:
        store_results(rest, (own, tile.element), (position[0], row, column))

    map_sums(rest, tile, position, sums, body)


def epilogue_tile(
    rest: Rest,
    tile: ResultTile,
    position: Position,
    sums: ir.Value,
    beside: tuple[ir.Value, ir.Value] | None = None,
) -> ir.Value:
    """The same map where it stores nothing: its values, in registers, become the tile of the one result.

    `beside` is a tensor of the result's shape, and a tile of it in the layout of the sums.
    """
    (made,) = rest.returned

    def body(row: Expression, column: Expression, own: ir.Value) -> ir.Value:
        results = _Results(rest, (own, tile.element), (position[0], row, column))
        if beside is not None:
            results.bind_at(made, *beside)
        return results.element(made)

    values = map_sums(rest, tile, position, sums, body, scalar_type(element_of(made)))
    assert values is not None
    return values


def map_sums(
    rest: Rest,
    tile: ResultTile,
    position: Position,
    sums: ir.Value,
    body: Callable[[Expression, Expression, ir.Value], ir.Value | None],
    element_type: ir.Type | None = None,
) -> ir.Value | None:
    """A map over a tile of sums, or of what is made of them: its body gets the row, the column and the value there."""
    builder, view = rest.builder, rest.view

    def at(i: ir.Value, j: ir.Value) -> ir.Value | None:
        row = builder.variable(i, "row", view.rows)
        column = builder.variable(j, "column", view.columns)
        with builder.vectorised(column, tile.width):
            if tile.width > 1:
                builder.varying.add(j)
            return body(row, column, element(sums, scalar_type(tile.element)))

    origin = (builder.index(position[1]), builder.index(position[2]))
    limits = (builder.index(view.rows), builder.index(view.columns))
    full = rest.full_dimensions(tile)
    return map_(builder, origin, limits, tile.shape, tile.layout, at, element_type=element_type, full_dimensions=full)


class _Results:
    """Elements of what a kernel makes of a sum (value, dtype) at (batch, row, column)."""

    def __init__(self, rest: Rest, total: tuple[ir.Value, str], place: Position) -> None:
        own, accumulator = total
        builder, view = rest.builder, rest.view
        self.builder, self.result = builder, view.operation.results[0]
        value = convert(own, accumulator, element_of(self.result))
        if builder.vector is not None and builder.vector.width > 1:
            builder.varying.update((own, value))
        self.emitter = ElementEmitter(builder)
        self.emitter.bind(self.result, lambda _: value)
        self.position = view.result(*place)
        bind_tiles(self.emitter, rest.lines, self.position)

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


def store_results(rest: Rest, total: tuple[ir.Value, str], place: Position) -> None:
    """Run the rest of the kernel on a sum (value, dtype) at (batch, row, column) and store all that is returned."""
    results = _Results(rest, total, place)
    for argument, made in zip(rest.builder.outputs, rest.returned, strict=True):
        offset = rest.builder.offset(argument, results.indices(made))
        store(rest.builder, results.element(made), argument.memory, offset, argument.element)


def store_tile(rest: Rest, tile: ResultTile, position: Position, made: ir.Value) -> None:
    """Store the one result whose values lie in a register tile in the layout of the sums."""
    (value,), argument = rest.returned, rest.builder.outputs[0]
    result = rest.view.operation.results[0]

    def body(row: Expression, column: Expression, own: ir.Value) -> None:
        if rest.builder.vector is not None and rest.builder.vector.width > 1:
            rest.builder.varying.add(own)
        indices = forward_position(rest.builder, result, rest.view.result(position[0], row, column), value)
        store(rest.builder, own, argument.memory, rest.builder.offset(argument, indices), argument.element)

    map_sums(rest, replace(tile, element=argument.element), position, made, body)
