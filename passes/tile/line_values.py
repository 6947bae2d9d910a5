"""Numbers that a whole line of a contraction's result shares, computed once a line and not once an element.

In: the rest of a kernel behind its contraction, in which maps and reductions make values with one column, such as the
mean and the scale of a normalisation from the sums of parts. Out: the same with a register tile for each of them that
the epilogue reads.
"""

from __future__ import annotations

from dataclasses import replace

from mlir import ir

from ...dialects.tensors import element_of, scalar_type, shape_of
from ..lower.layouts import reduced_text
from .elements import ElementEmitter
from .epilogue import Position, Rest, ResultTile
from .tile_types import map_


def with_lines(rest: Rest, tile: ResultTile, position: Position) -> Rest:
    """Compute the lines of a tile at that position, at the current insertion point."""
    return replace(rest, lines={value: _line_tile(rest, tile, position, value) for value in _line_values(rest)})


def _line_values(rest: Rest) -> list[ir.Value]:
    """What the kernel computes with one column, and reads where it has all of them."""
    view = rest.view
    result = view.operation.results[0]
    if view.is_swapped or view.pairs is not None or shape_of(result)[-1] == 1:
        return []
    found: dict[ir.Value, None] = {}
    for operation in rest.builder.function.regions[0].blocks[0].operations:
        if operation.operation.name != "graph.map" or shape_of(operation.operation.results[0]) != shape_of(result):
            continue
        for inner in operation.operation.regions[0].blocks[0].operations:
            if inner.operation.name != "graph.element":
                continue
            value = inner.operation.operands[0]
            is_line = shape_of(value) == (*shape_of(result)[:-1], shape_of(result)[-1] * 0 + 1)
            if is_line and not isinstance(value.owner, ir.Block):
                found.setdefault(value)
    return list(found)


def _line_tile(rest: Rest, tile: ResultTile, position: Position, value: ir.Value) -> ir.Value:
    builder, view = rest.builder, rest.view
    batch, first, column = position

    def body(i: ir.Value, _: ir.Value) -> ir.Value:
        row = builder.variable(i, "row", view.rows)
        place = (*view.result(batch, row, column)[:-1], column * 0)
        return ElementEmitter(builder).element(value, place)

    origin, limits = (builder.index(first), builder.index(0)), (builder.index(view.rows), builder.index(1))
    full = [name for name in rest.full_dimensions(tile) if name == "rows"]
    layout = reduced_text(1, tile.layout, *tile.shape)
    type_ = scalar_type(element_of(value))
    made = map_(builder, origin, limits, (tile.shape[0], 1), layout, body, type_, full_dimensions=[*full, "columns"])
    assert made is not None
    return made
