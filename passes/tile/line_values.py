"""Numbers that a whole line of a contraction's result shares, computed once a line and not once an element.

In: the rest of a kernel behind its contraction, in which maps and reductions make values with one column, such as the
mean and the scale of a normalisation from the sums of parts. Out: the same with a register tile for each of them that
the epilogue reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from mlir import ir

from ...dialects.tensors import element_of, scalar_type, shape_of
from ...runtime.symbolic import ONE, ZERO
from ..graph.rewriting import body_of, captures, operations_of, producer
from ..lower.layouts import reduced_text
from .elements import ElementEmitter, Indices
from .epilogue import Position, Rest, ResultTile
from .tile_types import element, map_


def with_lines(rest: Rest, tile: ResultTile, position: Position) -> Rest:
    """Compute the lines of a tile at that position, at the current insertion point."""
    return replace(rest, lines={value: _line_tile(rest, tile, position, value) for value in _line_values(rest)})


def _line_values(rest: Rest) -> list[ir.Value]:
    """What the kernel computes with one column, and reads where it has several."""
    view = rest.view
    *lead, columns = shape_of(view.operation.results[0])
    if view.is_swapped or columns == 1:
        return []
    sizes = (columns, columns // 2)  # with gates half of the columns
    found: dict[ir.Value, None] = {}
    for operation in operations_of(body_of(rest.builder.function)):
        if operation.name != "graph.map" or shape_of(operation.results[0])[-1:] not in [(size,) for size in sizes]:
            continue  # of numbers without dimensions, too
        for value in [inner.operands[0] for inner in captures(operation)]:
            if producer(value) is not None and shape_of(value) == (*lead, ONE):
                found.setdefault(value)
    return list(found)


def _line_tile(rest: Rest, tile: ResultTile, position: Position, value: ir.Value) -> ir.Value:
    builder, view = rest.builder, rest.view
    batch, first, column = position

    def body(i: ir.Value, _: ir.Value) -> ir.Value:
        row = builder.variable(i, "row", view.rows)
        place = (*view.result(batch, row, column)[:-1], ZERO)
        return ElementEmitter(builder).element(value, place)

    origin, limits = (builder.index(first), builder.index(0)), (builder.index(view.rows), builder.index(1))
    full = [name for name in rest.full_dimensions(tile) if name == "rows"]
    layout = reduced_text(1, tile.layout, *tile.shape)
    type_ = scalar_type(element_of(value))
    made = map_(builder, origin, limits, (tile.shape[0], 1), layout, body, type_, full_dimensions=[*full, "columns"])
    assert made is not None
    return made


def bind_tiles(emitter: ElementEmitter, tiles: Mapping[ir.Value, ir.Value], place: Indices) -> None:
    """Let elements of values at `place` be those of register tiles: along dimensions of one element at the only one,
    and of values with other dimensions the first. Elsewhere they are computed.
    """

    def held(value: ir.Value, tile: ir.Value) -> Callable[[Indices], ir.Value | None]:
        shape = shape_of(value)
        near = place if len(place) == len(shape) else (ZERO,) * len(shape)
        here = tuple(ZERO if size == 1 else index for size, index in zip(shape, near, strict=True))
        return lambda indices: element(tile, scalar_type(element_of(value))) if indices == here else None

    for value, tile in tiles.items():
        emitter.bind(value, held(value, tile))
