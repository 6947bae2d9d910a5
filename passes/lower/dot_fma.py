"""The main loop on ordinary multiply-adds: outer products of registers, for strict f32, f64 and integers.

In: two shared tiles of the accumulator's type and an accumulator in `fma` layout. Out: the accumulator's new
registers. Each operand is read with 16-byte loads along whichever of its dimensions is contiguous: k steps of
one line, or neighbouring rows or columns.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

from mlir import ir
from mlir.dialects import arith, llvm, scf, vector

from .context import LoweringContext, RegisterTile, SharedTile, byte_width
from .dot_layouts import FmaLayout, parse_shared

ACCESS_BYTES = 16
UNROLLED_PRODUCTS = 128  # multiply-adds of a thread in straight line: each costs LLVM and ptxas; ptxas may unroll
ROLLED = "#llvm.loop_annotation<unroll = <disable = true>>"

Fragment = dict[tuple[int, int], ir.Value]  # (index of the thread's row or column, k) -> scalar


def dot_fma(
    context: LoweringContext, left: SharedTile, right: SharedTile, accumulator: RegisterTile, stage: ir.Value
) -> RegisterTile:
    """accumulator + left x right, one scalar multiply-add for each product, k ascending."""
    layout = accumulator.layout
    assert isinstance(layout, FmaLayout)
    row, column = layout.origin(context)
    left_reader = OperandReader(
        context, left, stage, row, 0, layout.each[0], layout.vector[0], layout.row_offset
    )
    right_reader = OperandReader(
        context, right, stage, column, 1, layout.each[1], layout.vector[1], layout.column_offset
    )
    depths = left.columns // layout.warp_depth
    if layout.warp_depth > 1:
        first = context.multiply(layout.depth_group(context), depths)
        left_reader, right_reader = left_reader.at(first), right_reader.at(first)
    unrolled = _unrolled(layout, depths)
    if unrolled == depths:
        values = _steps(layout, left_reader, right_reader, list(accumulator.values), unrolled)
        return RegisterTile(layout, tuple(values))
    loop = scf.ForOp(
        context.integer(0), context.integer(depths), context.integer(unrolled), list(accumulator.values)
    )
    loop.operation.attributes["loop_annotation"] = ir.Attribute.parse(ROLLED)
    with ir.InsertionPoint(loop.body):
        start = loop.induction_variable
        values = _steps(
            layout, left_reader.at(start), right_reader.at(start), list(loop.inner_iter_args), unrolled
        )
        scf.yield_(values)
    return RegisterTile(layout, tuple(loop.results))


def _unrolled(layout: FmaLayout, depth: int) -> int:
    """How many of `depth` k are unrolled: compile time grows with the products, registers do not shrink."""
    rows, columns = layout.each
    while depth % 8 == 0 and depth * rows * columns > UNROLLED_PRODUCTS:
        depth //= 2
    return depth


def _steps(
    layout: FmaLayout, left: OperandReader, right: OperandReader, values: list[ir.Value], depths: int
) -> list[ir.Value]:
    """`depths` outer products added to `values`."""
    multiply_add = _multiply_add(left.tile.element)
    step = max(left.depth_step, right.depth_step)
    rows, columns = layout.each
    for start in range(0, depths, step):
        left_values, right_values = left.read(start, step), right.read(start, step)
        for depth in range(step):
            for i in range(rows):
                for j in range(columns):
                    place = i * columns + j
                    values[place] = multiply_add(left_values[i, depth], right_values[j, depth], values[place])
    return values


def _multiply_add(element: ir.Type) -> Callable[[ir.Value, ir.Value, ir.Value], ir.Value]:
    if isinstance(element, ir.FloatType):
        return lambda a, b, c: llvm.intr_fma(a, b, c)
    return lambda a, b, c: arith.addi(arith.muli(a, b), c)


class OperandReader:
    """Reads what one thread needs of one operand: `count` lines (rows of the left, columns of the right),
    some k at a time.
    """

    def __init__(
        self,
        context: LoweringContext,
        tile: SharedTile,
        stage: ir.Value,
        origin: ir.Value,
        dimension: int,
        count: int,
        neighbours: int,
        offset_of: Callable[[int], int],
    ) -> None:
        """`dimension` of the tile is not k; the thread's lines start at `origin` and come in runs of
        `neighbours`.
        """
        self.context, self.tile = context, tile
        shared = parse_shared(tile.layout)
        self.line_stride, self.depth_stride = shared.strides[dimension], shared.strides[1 - dimension]
        self.size = byte_width(tile.element)
        self.access = ACCESS_BYTES // self.size
        self.depth_contiguous = shared.fast != dimension
        self.lines = [offset_of(index) for index in range(count)]
        self.run = min(neighbours, self.access)
        byte_offset = context.add(
            stage_offset(context, tile, stage), context.multiply(origin, self.line_stride * self.size)
        )
        self.base = context.shared_pointer(byte_offset)

    def at(self, depth: ir.Value) -> OperandReader:
        """The same reader `depth` k further on."""
        moved = copy.copy(self)
        moved.base = self.context.offset_pointer(
            self.base, self.context.multiply(depth, self.depth_stride), self.tile.element
        )
        return moved

    @property
    def depth_step(self) -> int:
        """How many k one access covers."""
        return self.access if self.depth_contiguous else 1

    def read(self, start: int, depths: int) -> Fragment:
        """All lines at `depths` consecutive k from `start`, keyed by (line, k - start)."""
        fragment: Fragment = {}
        if self.depth_contiguous:
            for index, line in enumerate(self.lines):
                values = self._load(line * self.line_stride + start, depths)
                fragment.update({(index, depth): value for depth, value in enumerate(values)})
            return fragment
        for depth in range(depths):
            for index in range(0, len(self.lines), self.run):
                offset = self.lines[index] + (start + depth) * self.depth_stride
                values = self._load(offset, self.run)
                fragment.update({(index + lane, depth): value for lane, value in enumerate(values)})
        return fragment

    def _load(self, offset: int, count: int) -> list[ir.Value]:
        pointer = self.context.offset_pointer(self.base, offset, self.tile.element)
        return load_shared_vector(self.context, pointer, self.tile.element, count)


def load_shared_vector(
    context: LoweringContext, pointer: ir.Value, element: ir.Type, count: int
) -> list[ir.Value]:
    """`count` neighbouring elements in one access, aligned to its size."""
    size = byte_width(element)
    if count == 1:
        return [context.load(pointer, element, size)]
    loaded = context.load(pointer, ir.VectorType.get([count], element), size * count)
    return [vector.extract(loaded, [], [lane]) for lane in range(count)]


def stage_offset(context: LoweringContext, tile: SharedTile, stage: ir.Value) -> ir.Value:
    """Byte offset of one stage of a shared tile, i32."""
    if tile.stages == 1:
        return context.integer(tile.offset)
    return context.add(context.multiply(stage, tile.stage_bytes), tile.offset)
