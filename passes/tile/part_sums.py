"""Sums of parts of lines, which a contraction's epilogue makes beside its result: the statistics of a normalisation.

In: a kernel that returns, behind its result, sums over parts of the result's lines, each as wide as a tile. Out: the
epilogue of a tile: its values in f32, the one number a line that they add up to, and what is stored of both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlir import ir

from ...dialects.tensors import element_of, scalar_type, shape_of
from ...runtime.symbolic import ONE, ZERO, Expression
from ..lower.dot_layouts import WarpgroupLayout
from ..lower.layouts import Blocked, parse_layout, reduced_text
from .elements import ElementEmitter
from .epilogue import Position, Rest, ResultTile
from .line_values import bind_tiles
from .results import epilogue_tile, map_sums
from .tile_types import element, map_, reduce, store, tile_of


@dataclass(frozen=True)
class PartSums:
    """The sums behind the result of a kernel: of parts of `tensor`, which are `parts`, each as wide as `width`."""

    tensor: ir.Value
    parts: ir.Value
    sums: tuple[ir.Operation, ...]
    width: int


def find_part_sums(returned: list[ir.Value]) -> PartSums | None:
    """The sums that a kernel returns behind its result, as graph/line_statistics.py writes them; else None."""
    sums = [_behind_reshape(value) for value in returned[1:]]
    if not sums or any(own is None or own.name != "graph.reduce" for own in sums):
        return None
    found = [own for own in sums if own is not None]
    parts = next(own for own in map(_parts, (own.operands[0] for own in found)) if own is not None)
    width = shape_of(parts)[-1].as_constant() or 0
    return PartSums(parts.owner.operands[0], parts, tuple(found), width)


def main_result(returned: list[ir.Value]) -> list[ir.Value]:
    """What a kernel returns without such sums."""
    return returned if find_part_sums(returned) is None else returned[:1]


def _behind_reshape(value: ir.Value) -> ir.Operation | None:
    if isinstance(value.owner, ir.Block) or value.owner.name != "graph.reshape":
        return None
    source = value.owner.operands[0]
    return None if isinstance(source.owner, ir.Block) else source.owner


def _parts(value: ir.Value) -> ir.Value | None:
    """The reshaped tensor that a value is, or that the map which makes it reads at full size."""
    owner = value.owner
    if owner.name == "graph.reshape":
        return value
    inner = [view.operation for view in owner.regions[0].blocks[0].operations]
    read = [own.operands[0] for own in inner if own.name == "graph.element"]
    return next((own for own in read if shape_of(own) == shape_of(value)), None)


def epilogue_with_sums(
    rest: Rest,
    found: PartSums,
    tile: ResultTile,
    position: Position,
    total: ir.Value,
    beside: tuple[ir.Value, ir.Value] | None,
) -> ir.Value:
    """The epilogue of a tile that is as wide as a part: stores the sums of its lines; returns the values of the result,
    which the caller stores.
    """
    (made,) = rest.returned
    values = epilogue_tile(replace(rest, returned=[found.tensor]), tile, position, total, beside)
    known: dict[ir.Value, ir.Value] = {found.tensor: values, found.parts: values}
    type_ = scalar_type("f32")
    for own in found.sums:
        addends = _mapped(rest, tile, position, known, own.operands[0])
        reduced = tile_of(tile.shape[0], 1, type_, reduced_text(1, tile.layout, *tile.shape))
        known[own.results[0]] = reduce(addends, "sum", 1, reduced)
    _store_sums(rest, found, tile, position, known)
    return _mapped(rest, tile, position, known, made)


def _mapped(
    rest: Rest, tile: ResultTile, position: Position, known: dict[ir.Value, ir.Value], value: ir.Value
) -> ir.Value:
    """The tile of a value that is computed from known ones, place by place."""
    if value in known:
        return known[value]
    made_of = next(iter(known))

    def body(row: Expression, column: Expression, _: ir.Value) -> ir.Value:
        place = rest.view.result(position[0], row, column)
        if shape_of(value) != shape_of(made_of):  # by parts; what it is made of is bound, wherever it lies
            place = (ZERO,) * len(shape_of(value))
        emitter = ElementEmitter(rest.builder)
        bind_tiles(emitter, known, place)
        return emitter.element(value, place)

    made = map_sums(rest, tile, position, known[made_of], body, scalar_type(element_of(value)))
    assert made is not None
    return made


def _store_sums(
    rest: Rest, found: PartSums, tile: ResultTile, position: Position, known: dict[ir.Value, ir.Value]
) -> None:
    """One thread of each line stores the numbers of the line."""
    builder, view = rest.builder, rest.view
    batch, first, column = position
    layout, columns = _line_layout(tile)
    part = builder.divide(column, found.width)
    full = [name for name in rest.full_dimensions(tile) if name == "rows"]

    def body(i: ir.Value, _: ir.Value) -> None:
        row = builder.variable(i, "row", view.rows)
        place = (*view.result(batch, row, column)[:-1], part)
        for own, argument in zip(found.sums, builder.outputs[1:], strict=True):
            value = element(known[own.results[0]], scalar_type(argument.element))
            store(builder, value, argument.memory, builder.offset(argument, place), argument.element)

    origin, limits = (builder.index(first), builder.index(0)), (builder.index(view.rows), builder.index(ONE))
    map_(builder, origin, limits, (tile.shape[0], columns), layout, body, full_dimensions=full)


def _line_layout(tile: ResultTile) -> tuple[str, int]:
    """A layout whose first column has one thread of each line, with the rows of the tile's; and its columns."""
    layout = parse_layout(tile.layout, *tile.shape)
    if isinstance(layout, WarpgroupLayout):
        return str(replace(layout, columns=8, width=1)), 8
    assert isinstance(layout, Blocked)
    return f"blocked<{layout.thread_rows}x{layout.thread_columns}, vector=1>", layout.thread_columns
