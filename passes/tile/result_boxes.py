"""Results that tensor memory stores: which result of a contraction can be written in boxes, and how.

In: the view of a contraction and what its kernel returns. Out: a `ResultBox`, which knows its tensor map, the shared
tile that boxes are written from and their coordinates; or None: then threads store what they hold themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlir import ir

from ...dialects.tensors import element_of, scalar_type, shape_of
from ...runtime.symbolic import ZERO, Expression, product
from ..lower.context import byte_width
from ..lower.dot_layouts import SharedLayout
from ..unit import BoxedTensor
from .boxes import DATA_TYPES, LINE_BYTES
from .builder import TileBuilder
from .contraction import Contraction
from .epilogue import Position
from .forward import forward_position
from .strides import can_start_boxes, strides_of
from .tile_types import i64, tile_of

RESULT_TYPES = {**DATA_TYPES, "i32": "int32"}
GROUP_ROWS = 64  # of a box: what four warps store together
NARROWEST = 32  # bytes of a line: two chunks of what a swizzle moves, and of what stmatrix writes at a time
MOST_COLUMNS = 256  # of a tile
SLOTS = 2  # shared tiles of a group: one is written while the other is read


@dataclass(frozen=True)
class Place:
    """Where a matrix lies in memory: its address is origin + batch * c + row * a + column, in elements."""

    source: tuple[str, int]  # input or output of the kernel
    strides: tuple[Expression, ...]  # of rows, and of batches where there are any
    origin: Expression = ZERO  # elements in front of the first


@dataclass(frozen=True)
class ResultBox:
    """The one result of a kernel as a matrix in memory. The epilogue may read one whole tensor, of the result's type
    and where the result is stored: it arrives in the shared tile that the result then leaves from.
    """

    element: str
    extents: tuple[Expression, ...]  # columns, rows, and batches where there are any
    place: Place
    beside: Place | None = None
    span: int = LINE_BYTES  # bytes of columns of a box: a line of its shared tile

    @property
    def strip(self) -> int:
        """Columns of a box."""
        return self.span // byte_width(scalar_type(self.element))

    @property
    def widest(self) -> int:
        """Columns of the widest tile: what the epilogue reads beside its sums must be there at once."""
        return SLOTS * self.strip if self.beside is not None else MOST_COLUMNS

    def boxed(self, place: Place) -> BoxedTensor:
        """The tensor map of the result, or of what is read beside it."""
        size = byte_width(scalar_type(self.element))
        return BoxedTensor(
            place.source,
            RESULT_TYPES[self.element],
            self.extents,
            tuple(stride * size for stride in place.strides),
            f"{self.span}b",
            (self.strip, GROUP_ROWS, 1)[: len(self.extents)],
            offset=place.origin * size,
        )

    def narrowed(self, columns: int) -> ResultBox | None:
        """The same for tiles of so many columns; None where those are not cut into whole boxes, or too wide."""
        span = min(self.span, columns * byte_width(scalar_type(self.element)))
        found = replace(self, span=span)
        return found if span >= NARROWEST and columns % found.strip == 0 and columns <= found.widest else None

    def allocate(self, rows: int, groups: int) -> ir.Value:
        """Shared tiles of `rows` for each of `groups` that run apart."""
        layout = SharedLayout("rows", self.strip, self.span)
        type_ = tile_of(rows, self.strip, scalar_type(self.element), str(layout))
        return ir.Operation.create(
            "tile.allocate", results=[type_], attributes={"stages": i64(SLOTS * groups)}
        ).result

    def store(
        self,
        builder: TileBuilder,
        tile: ir.Value,
        place: tuple[ir.Value, ir.Value, ir.Value],
        position: Position,
        strip: int | None = None,
    ) -> None:
        """Start the stores of a register tile at `position`, or of one strip of it that is all of `tile`; `place` is
        (shared tile, its first slot, tensor map).
        """
        operands = [tile, *place, *self._coordinates(builder, position)]
        attributes = {"slots": i64(SLOTS)} | ({} if strip is None else {"strip": i64(strip)})
        ir.Operation.create("tile.store_boxes", operands=operands, attributes=attributes)

    def fetch(
        self,
        builder: TileBuilder,
        place: tuple[ir.Value, ir.Value, ir.Value, ir.Value],
        position: Position,
        columns: int,
    ) -> None:
        """Start the copies of what is read beside a tile of so many columns; `place` is (shared tile, its first slot,
        tensor map, barriers).
        """
        operands = [*place, *self._coordinates(builder, position)]
        strips = {"strips": i64(columns // self.strip)}
        ir.Operation.create("tile.fetch_boxes", operands=operands, attributes=strips)

    def _coordinates(self, builder: TileBuilder, position: Position) -> list[ir.Value]:
        batch, row, column = position
        return [builder.index(value) for value in (column, row, batch)[: len(self.extents)]]


def find_result_box(builder: TileBuilder, view: Contraction, returned: list[ir.Value]) -> ResultBox | None:
    """The result in boxes, where the kernel returns one tensor of known line pitch, and its epilogue reads lines only,
    or one tensor that lies like the result: others are better read by threads that hold neighbours.
    """
    made = returned[0]
    element, tensors = element_of(made), _tensors_read(view.operation.results[0], made)
    if len(returned) != 1 or element not in RESULT_TYPES or len(tensors) > 1:
        return None
    if any(shape_of(own) != shape_of(made) or element_of(own) != element for own in tensors):
        return None
    if product(list(shape_of(made))) != view.batch * view.rows * view.columns:
        return None
    names = ("%stored_batch", "%stored_row", "%stored_column")
    builder.extents.update(zip(names, (view.batch, view.rows, view.columns), strict=True))
    position = view.result(*map(Expression.symbol, names))
    indices = forward_position(builder, view.operation.results[0], position, made)
    numbers = [ir.BlockArgument(own).arg_number for own in tensors]
    arguments = [(("output", 0), builder.outputs[0]), *((("input", own), builder.inputs[own]) for own in numbers)]
    places = []
    for source, argument in arguments:
        found = strides_of(builder.offset(argument, indices), names)
        if found is None:
            return None
        (batch, row, column), origin = found
        outer = (row,) if view.batch == 1 else (row, batch)
        if column != 1 or not can_start_boxes(outer, origin, element):
            return None
        places.append(Place(source, outer, origin))
    extents = (view.columns, view.rows, view.batch)[: 1 + len(places[0].strides)]
    return ResultBox(element, extents, places[0], places[1] if tensors else None)


def _tensors_read(sums: ir.Value, made: ir.Value) -> list[ir.Value]:
    """What has several lines of all that is read on the way from the sums to `made`; one number a line, be it read or
    reduced to (line_values.py), is as cheap as a bias.
    """
    pending, seen = [made], {sums}
    found = []
    while pending:
        value = pending.pop()
        if value in seen:
            continue
        seen.add(value)
        if isinstance(value.owner, ir.Block):
            shape = shape_of(value)
            if shape and shape[-1] != 1 and sum(size != 1 for size in shape) > 1:
                found.append(value)
            continue
        if value.owner.name != "graph.reduce":
            pending += _operands(value.owner)
    return found


def _operands(operation: ir.Operation) -> list[ir.Value]:
    """What an operation of the graph reads, by its operands and in its body."""
    found = list(operation.operands)

    def visit(inner: ir.Operation) -> ir.WalkResult:
        if inner.name == "graph.element":
            found.append(inner.operands[0])
        return ir.WalkResult.ADVANCE

    operation.walk(visit)
    return found
