"""The epilogue of a contraction whose even and odd columns are joined, such as silu(a) * b: pass `pair-products`.

In: sums whose threads hold both of a pair, along the columns or, where the problem is turned, the rows. Out: the two
halves as tiles, and what is stored for each pair. It differs from results.py in that one position has two sums.
"""

from __future__ import annotations

from mlir import ir

from ...dialects.tensors import element_of, scalar_type
from ...runtime.errors import InternalError
from ...runtime.symbolic import Expression
from ..graph.gates import alternate_columns
from ..lower.layouts import half_text
from .contraction import Contraction
from .elements import ElementEmitter, Indices
from .epilogue import Position, Rest, ResultTile
from .forward import forward_position
from .line_values import bind_tiles
from .scalars import convert
from .tile_types import element, map_, store, tile_of


def takes_pairs(operation: ir.Operation) -> bool:
    """Whether the kernel reads the even and the odd columns of its contraction, and nothing else of it."""
    return operation.name == "graph.matmul" and alternate_columns(operation.results[0]) is not None


def halved(extent: Expression) -> Expression:
    """Half of an even extent or position."""
    half = extent.exact_divide(2)
    if half is None:
        raise InternalError(f"{extent} columns are not pairs")
    return half


def halves(tile: ir.Value, shape: tuple[int, int], layout: str, axis: int) -> tuple[ir.Value, ir.Value]:
    """The even and the odd columns (axis 1) or rows (axis 0) of a register tile of that shape and layout."""
    text = half_text(axis, layout, *shape)
    rows, columns = (size // 2 if number == axis else size for number, size in enumerate(shape))
    type_ = tile_of(rows, columns, element_type(tile), text)
    even, odd = ir.Operation.create("tile.halves", results=[type_, type_], operands=[tile]).results
    return even, odd


def element_type(tile: ir.Value) -> ir.Type:
    """The type of a tile's elements."""
    return ir.Type.parse(str(tile.type).split("],", 1)[1].split(",", 1)[0].strip())


def emit_pairs(rest: Rest, tile: ResultTile, position: Position, sums: ir.Value) -> None:
    """One map over pairs of sums: convert both, run the rest of the kernel, store."""
    builder, view = rest.builder, rest.view
    axis = view.pairs
    assert axis is not None
    batch, *first = position
    extents = [view.rows, view.columns]
    first[axis], extents[axis] = halved(first[axis]), halved(extents[axis])
    even, odd = halves(sums, tile.shape, tile.layout, axis)
    width = tile.width // 2 if axis == 1 else tile.width

    def body(i: ir.Value, j: ir.Value) -> None:
        row, column = builder.variable(i, "row", extents[0]), builder.variable(j, "column", extents[1])
        with builder.vectorised(column, width):
            if width > 1:
                builder.varying.add(j)
            pair = (element(even, scalar_type(tile.element)), element(odd, scalar_type(tile.element)))
            store_pair(rest, (pair, tile.element), (batch, row, column))

    shape = tuple(size // 2 if number == axis else size for number, size in enumerate(tile.shape))
    layout = half_text(axis, tile.layout, *tile.shape)
    origin, limits = [builder.index(value) for value in first], [builder.index(value) for value in extents]
    map_(builder, origin, limits, (shape[0], shape[1]), layout, body, full_dimensions=rest.full_dimensions(tile))


def store_pair(rest: Rest, pair: tuple[tuple[ir.Value, ir.Value], str], place: Position) -> None:
    """Run the rest of the kernel on two sums of a dtype and store all that is returned; `place` is (batch, row, column)
    with the number of the pair instead of a column (or row).
    """
    sums, accumulator = pair
    builder, view = rest.builder, rest.view
    result = view.operation.results[0]
    values: dict[Indices, ir.Value] = {}
    for number, own in enumerate(sums):
        value = convert(own, accumulator, element_of(result))
        if builder.vector is not None and builder.vector.width > 1:
            builder.varying.update((own, value))
        values[_position(view, place, number)] = value
    emitter = ElementEmitter(builder)
    emitter.bind(result, values.get)
    position = _position(view, place, 0)
    bind_tiles(emitter, rest.lines, position)
    for argument, made in zip(builder.outputs, rest.returned, strict=True):
        indices = forward_position(builder, result, position, made)
        offset = builder.offset(argument, indices)
        store(builder, emitter.element(made, indices), argument.memory, offset, argument.element)


def _position(view: Contraction, place: Position, number: int) -> Indices:
    """Where in the contraction's result the even (0) or odd (1) sum of a pair lies."""
    batch, row, column = place
    if view.pairs == 0:
        return view.result(batch, row * 2 + number, column)
    return view.result(batch, row, column * 2 + number)
