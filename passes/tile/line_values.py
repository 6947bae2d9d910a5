"""Numbers that a whole line of a contraction's result shares, computed once a line and not once an element.

In: the rest of a kernel behind its contraction, in which maps and reductions make values with one column, such as the
mean and the scale of a normalisation, from the sums of parts or from the tensor itself. Out: the same with a register
tile for each of them that the epilogue reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from mlir import ir
from mlir.dialects import arith, scf

from ...dialects.tensors import element_of, scalar_type, shape_of
from ...runtime.symbolic import ONE, ZERO, Expression
from ..graph.rewriting import body_of, captures, integers, operations_of, producer, string
from ..lower.layouts import reduced_text
from .builder import TileBuilder
from .contraction import Contraction
from .elements import ElementEmitter, Indices, zero
from .epilogue import Position, Rest, ResultTile
from .tile_types import element, full, map_, reduce, tile_of


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


# Sums that a block adds up -----------------------------------------------------------------------------------------
def sums_of_line(
    builder: TileBuilder, view: Contraction, line: tuple[Expression, Expression], threads: int
) -> dict[ir.Value, ir.Value]:
    """The sums that the kernel makes of the tensors of one line (batch, row), each as a tile of one number that every
    thread of the block has: all of them add up, in the order of the kernel, since one may need another (the mean).
    None of a turned product, whose lines are not its rows.
    """
    if view.is_swapped:
        return {}
    place = (*view.result(*line, ZERO)[:-1], ZERO)
    tiles: dict[ir.Value, ir.Value] = {}
    for operation in operations_of(body_of(builder.function)):
        if operation.name == "graph.reduce" and _is_of_lines(operation, view):
            tiles[operation.results[0]] = _sum_of_line(builder, operation.operands[0], place, threads, tiles)
    return tiles


def _is_of_lines(operation: ir.Operation, view: Contraction) -> bool:
    *lead, _ = shape_of(view.operation.results[0])
    plain = string(operation, "kind") == "sum" and integers(operation, "axes") == (len(lead),)
    return plain and shape_of(operation.results[0]) == (*lead, ONE) and element_of(operation.results[0]) == "f32"


def _sum_of_line(
    builder: TileBuilder, tensor: ir.Value, place: Indices, threads: int, tiles: Mapping[ir.Value, ir.Value]
) -> ir.Value:
    length = shape_of(tensor)[-1]
    vector = next(width for width in (8, 4, 2, 1) if length.divisible_by(width))
    shape, type_ = (1, threads * vector), ir.F32Type.get()
    layout = f"blocked<1x{threads}, vector={vector}>"
    full_dimensions = ["rows", *(["columns"] if length.divisible_by(shape[1]) else [])]

    def own(_: ir.Value, j: ir.Value) -> ir.Value:
        column = builder.variable(j, "k", length)
        with builder.vectorised(column, vector):
            if vector > 1:
                builder.varying.add(j)
            emitter = ElementEmitter(builder)
            bind_tiles(emitter, tiles, place)
            return emitter.element(tensor, (*place[:-1], column))

    def added(total: ir.Value, part: ir.Value) -> ir.Value:
        limits = [builder.index(extent) for extent in shape]
        origin = [builder.index(0)] * 2

        def both(_: ir.Value, __: ir.Value) -> ir.Value:
            return arith.addf(element(total, type_), element(part, type_))

        made = map_(builder, origin, limits, shape, layout, both, type_, full_dimensions=["rows", "columns"])
        assert made is not None
        return made

    start = full(*shape, layout, zero(type_))
    loop = scf.ForOp(*(builder.index(value) for value in (0, length, shape[1])), [start])
    with ir.InsertionPoint(loop.body), builder.region():
        origin, limits = (builder.index(0), loop.induction_variable), (builder.index(1), builder.index(length))
        nothing = ir.FloatAttr.get(type_, 0.0)
        part = map_(builder, origin, limits, shape, layout, own, type_, nothing, full_dimensions)
        assert part is not None
        scf.yield_([added(loop.inner_iter_args[0], part)])
    return reduce(loop.results[0], "sum", 1, tile_of(1, 1, type_, reduced_text(1, layout, *shape)))


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
