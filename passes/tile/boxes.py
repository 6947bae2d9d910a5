"""Operands that the tensor memory accelerator fetches: what of a contraction can be taken in boxes, and how.

In: the place functions of a contraction. Out: for each operand a `Matrix` (dense lines, k and batches) or `Pixels` (the
implicit matrix of a convolution), which knows its tensor map and the coordinates of each tile. It exists so that the
program around them need not know which one it fetches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from ...dialects.tensors import Shape, scalar_type, shape_of
from ...runtime.symbolic import ONE, ZERO, Expression, expression, product
from ..lower.context import byte_width
from ..lower.dot_layouts import SharedLayout
from ..unit import BoxedTensor, Im2colBox
from .builder import TileBuilder
from .contraction import Contraction, Window, convolution_window
from .elements import ElementEmitter
from .strides import can_start_boxes, strides_of, strides_of_tensor
from .tile_types import ACCESS_BYTES

LINE_BYTES = 128  # of a swizzled shared tile
NARROW_SPANS = (32, 64)  # bytes of the channels of a pixel that make lines of their own
MOST_BOX = 256  # elements of a box along one dimension
MOST_STRIDE = 8  # between the pixels that one copy takes
FARTHEST_CORNER = {1: 1 << 15, 2: 1 << 7, 3: 1 << 4}  # pixels, by the number of spatial dimensions
DATA_TYPES = {
    "f16": "float16", "bf16": "bfloat16", "f32": "float32", "i8": "uint8", "ui8": "uint8", "f8E4M3FN": "uint8",
    "f8E5M2": "uint8",
}  # fmt: skip


@dataclass(frozen=True)
class Load:
    """One copy: coordinates in the tensor, innermost first, filter offsets of the im2col mode, and where in the shared
    tile it begins, in elements.
    """

    coordinates: tuple[Expression, ...]
    offsets: tuple[Expression, ...] = ()
    inside: int = 0


class Boxes(Protocol):
    """One operand of a contraction as tensor maps see it; `dimension` of its tile is not k."""

    @property
    def source(self) -> int:
        """The number of the kernel's input."""

    @property
    def element(self) -> str:
        """dtype in memory and in the shared tile."""

    @property
    def dimension(self) -> int:
        """0 for the left operand, 1 for the right."""

    @property
    def depth_contiguous(self) -> bool:
        """Whether neighbours along k are neighbours in memory; else those along lines are."""

    def layout(self) -> SharedLayout:
        """The swizzled layout of its shared tile."""

    def boxed(self, lines: int, depth: int) -> BoxedTensor:
        """The tensor map for tiles of `lines` x `depth`."""

    def fixed(self, builder: TileBuilder, line: Expression, batch: Expression) -> tuple[Expression, ...]:
        """What of the coordinates is the same for all steps of k."""

    def loads(
        self, builder: TileBuilder, origin: tuple[Expression, Expression, Expression], tile: tuple[int, int]
    ) -> list[Load]:
        """The copies of the tile of (lines, depth) at (line, k, batch)."""


@dataclass(frozen=True)
class Matrix:
    """A dense operand. Strides are in elements, of (lines, k, batch); the first element is `origin` elements in."""

    source: int  # number of the kernel's input
    element: str
    dimension: int
    extents: tuple[Expression, Expression, Expression]
    strides: tuple[Expression, ...]
    origin: Expression = ZERO
    span: int = LINE_BYTES  # bytes of a line of the shared tile, and of its swizzle

    @property
    def line(self) -> int:
        """Elements of a line of the shared tile."""
        return self.span // byte_width(scalar_type(self.element))

    def narrowed(self, lines: int) -> Matrix:
        """The same for tiles of so many lines, where those are what is contiguous: no panel is wider than the tile."""
        span = lines * byte_width(scalar_type(self.element))
        return self if self.depth_contiguous or span >= self.span else replace(self, span=span)

    @property
    def depth_contiguous(self) -> bool:
        """Whether neighbours along k are neighbours in memory; else those along lines are."""
        return self.strides[1] == 1

    @property
    def order(self) -> list[int]:
        """Which of (lines, k, batch) are dimensions of the map, innermost first."""
        matrix = [1, 0] if self.depth_contiguous else [0, 1]
        return matrix + ([2] if self.strides[2] != 0 else [])

    def layout(self) -> SharedLayout:
        along_lines = (self.dimension == 1) == self.depth_contiguous
        return SharedLayout("columns" if along_lines else "rows", self.line, self.span)

    def boxed(self, lines: int, depth: int) -> BoxedTensor:
        size = byte_width(scalar_type(self.element))
        tile = (lines, depth, 1) if self.depth_contiguous else (self.line, depth, 1)
        return BoxedTensor(
            ("input", self.source),
            DATA_TYPES[self.element],
            tuple(self.extents[axis] for axis in self.order),
            tuple(self.strides[axis] * size for axis in self.order[1:]),
            f"{self.span}b",
            tuple(min(tile[axis], MOST_BOX) for axis in self.order),
            offset=self.origin * size,
        )

    def fixed(self, builder: TileBuilder, line: Expression, batch: Expression) -> tuple[Expression, ...]:
        return (line, batch)

    def loads(
        self, builder: TileBuilder, origin: tuple[Expression, Expression, Expression], tile: tuple[int, int]
    ) -> list[Load]:
        line, depth, batch = origin
        step, stride = (MOST_BOX, self.line) if self.depth_contiguous else (self.line, tile[1])
        return [
            Load(tuple((line + first, depth, batch)[axis] for axis in self.order), (), first * stride)
            for first in range(0, tile[0], step)
        ]


@dataclass(frozen=True)
class Taps:
    """The weights of a convolution whose channels do not fill whole lines: k is a tap and a channel, of which there are
    `padded` for each tap; those past the last are outside the map and arrive as zero.
    """

    matrix: Matrix  # of all taps, one after the other
    channels: int
    padded: int
    dimension: int = 1

    @property
    def source(self) -> int:
        return self.matrix.source

    @property
    def element(self) -> str:
        return self.matrix.element

    def narrowed(self, lines: int) -> Taps:
        """The same for tiles of so many lines."""
        return replace(self, matrix=self.matrix.narrowed(lines))

    @property
    def depth_contiguous(self) -> bool:
        return self.matrix.depth_contiguous

    def layout(self) -> SharedLayout:
        return self.matrix.layout()

    def boxed(self, lines: int, depth: int) -> BoxedTensor:
        whole = self.matrix.boxed(lines, depth)
        taps = self.matrix.extents[1].exact_divide(self.channels) or ONE
        shape = [expression(self.channels) if axis == 1 else self.matrix.extents[axis] for axis in self.matrix.order]
        stride = self.matrix.strides[1] * self.channels * byte_width(scalar_type(self.element))
        return replace(whole, shape=(*shape, taps), strides=(*whole.strides, stride), box=(*whole.box, 1))

    def fixed(self, builder: TileBuilder, line: Expression, batch: Expression) -> tuple[Expression, ...]:
        return self.matrix.fixed(builder, line, batch)

    def loads(
        self, builder: TileBuilder, origin: tuple[Expression, Expression, Expression], tile: tuple[int, int]
    ) -> list[Load]:
        line, depth, batch = origin
        tap, channel = builder.divide(depth, self.padded), builder.remainder(depth, self.padded)
        loads = self.matrix.loads(builder, (line, channel, batch), tile)
        return [replace(load, coordinates=(*load.coordinates, tap)) for load in loads]


@dataclass(frozen=True)
class Pixels:
    """The activations of a convolution in channels-last: a line is a pixel of the result, k a tap and a channel.

    `window` has the channels of a group padded to whole lines; those past the tensor's arrive as zero. Channels of 32
    or 64 bytes have lines of that length: a tile is cut into panels along k, one for each tap.
    """

    source: int
    element: str
    window: Window
    shape: Shape  # of the tensor: N, spatial, C
    strides: Shape  # of the same, in elements
    origin: Expression  # elements in front of the first
    low: tuple[int, ...]
    span: int = LINE_BYTES  # bytes of a line of the shared tile
    dimension: int = 0
    depth_contiguous: bool = True

    @property
    def line(self) -> int:
        """Elements of a line of the shared tile."""
        return self.span // byte_width(scalar_type(self.element))

    @property
    def upper(self) -> tuple[Expression, ...]:
        """The last corner, from the end of each dimension: base pixels of a line of the result are low, low + stride,
        ... as many as the result has.
        """
        window = self.window
        return tuple(
            (count - 1) * step + 1 - low - extent
            for count, step, low, extent in zip(window.pixels[1:], window.strides, self.low, window.sizes, strict=True)
        )

    def layout(self) -> SharedLayout:
        return SharedLayout("rows", self.line, self.span)

    def boxed(self, lines: int, depth: int) -> BoxedTensor:
        size = byte_width(scalar_type(self.element))
        window = self.window
        upper = self.upper
        return BoxedTensor(
            ("input", self.source),
            DATA_TYPES[self.element],
            tuple(reversed(self.shape)),
            tuple(stride * size for stride in reversed(self.strides[:-1])),
            f"{self.span}b",
            offset=self.origin * size,
            element_strides=(1, *reversed(window.strides), 1),
            im2col=Im2colBox(tuple(-low for low in reversed(self.low)), tuple(reversed(upper)), self.line, lines),
        )

    def fixed(self, builder: TileBuilder, line: Expression, batch: Expression) -> tuple[Expression, ...]:
        image, *position = builder.delinearize(line, self.window.pixels)
        first = [own * step - low for own, step, low in zip(position, self.window.strides, self.low, strict=True)]
        return (*reversed(first), image)

    def loads(
        self, builder: TileBuilder, origin: tuple[Expression, Expression, Expression], tile: tuple[int, int]
    ) -> list[Load]:
        line, depth, batch = origin
        whole, fixed = product(list(self.window.tap_shape())), self.fixed(builder, line, batch)
        loads = []
        for first in range(0, tile[1], self.line):
            channel, tap = self.window.taps(builder, depth + first)
            if self.window.groups > 1:
                channel = channel + batch * self.window.channels
            if self.span < LINE_BYTES:  # past the last tap there are no more channels either: zero
                channel = channel + builder.divide(depth + first, whole) * self.shape[-1]
            offsets = [own * step for own, step in zip(tap, self.window.dilations, strict=True)]
            loads.append(Load((channel, *fixed), tuple(reversed(offsets)), first * tile[0]))
        return loads


def line_length(element: str) -> int:
    """Elements of a line of a swizzled tile: also the k of a stage."""
    return LINE_BYTES // byte_width(scalar_type(element))


@dataclass(frozen=True)
class Operands:
    """Both operands, and k as the loop over it counts: with the channels of a convolution padded to whole lines."""

    left: Boxes
    right: Matrix | Taps
    depth: int

    def narrowed(self, columns: int) -> Operands:
        """The same for tiles of so many columns."""
        return replace(self, right=self.right.narrowed(columns))

    @property
    def both(self) -> tuple[Boxes, Boxes]:
        return self.left, self.right

    @property
    def zero_past_depth(self) -> bool:
        """Whether both operands are zero past the end of k: not so where the next channel is another tap's first, or
        another group's.
        """
        if not isinstance(self.left, Pixels) or self.left.span < LINE_BYTES:
            return True
        return self.left.window.groups == 1 and all(size == 1 for size in self.left.window.kernel)


def find_boxes(builder: TileBuilder, view: Contraction) -> Operands | None:
    """Both operands in boxes, or None when one of them is not to be had so; k must be known.

    wgmma reads operands along either dimension where their elements have 16 bits, along k where they have not.
    """
    matrix, weights, depth = _matrix(builder, view, 0), _matrix(builder, view, 1), view.depth.as_constant()
    pixels = _pixels(builder, view) if matrix is None else None
    left = matrix or pixels
    if left is None or weights is None or depth is None:
        return None
    if not all(own.depth_contiguous or byte_width(scalar_type(own.element)) == 2 for own in (left, weights)):
        return None
    if pixels is None:
        return Operands(left, weights, depth)
    whole, padded = pixels.shape[-1].as_constant(), pixels.window.channels.as_constant()
    assert whole is not None and padded is not None
    channels = whole // pixels.window.groups
    access = ACCESS_BYTES // byte_width(scalar_type(weights.element))
    if padded == channels or depth == channels:
        return Operands(pixels, weights, depth // channels * padded)
    if not (weights.strides[1] * channels).divisible_by(access):
        return None
    return Operands(pixels, Taps(weights, channels, padded), depth // channels * padded)


def _matrix(builder: TileBuilder, view: Contraction, dimension: int) -> Matrix | None:
    """The operand when its address is lines * a + k * b + batch * c, with a or b one and no conditions."""
    extents = (view.rows if dimension == 0 else view.columns, view.depth, view.batch)
    names = ("%box_line", "%box_depth", "%box_batch")
    for name, extent in zip(names, extents, strict=True):
        builder.extents[name] = extent
    line, depth, batch = map(Expression.symbol, names)
    found = view.left(batch, line, depth) if dimension == 0 else view.right(batch, depth, line)
    address = ElementEmitter(builder).address(found.tensor, found.indices)
    if address is None or address.inside or found.conditions or address.argument.element not in DATA_TYPES:
        return None
    element = address.argument.element
    found_strides = strides_of(address.offset, names)
    if found_strides is None:
        return None
    strides, origin = found_strides
    if strides[0] != 1 and strides[1] != 1:
        return None
    box = Matrix(builder.inputs.index(address.argument), element, dimension, extents, strides, origin)
    return box if can_start_boxes([strides[axis] for axis in box.order[1:]], origin, element) else None


def _pixels(builder: TileBuilder, view: Contraction) -> Pixels | None:
    """The activations of a convolution, where rows are its pixels and channels fill half of their lines (of several
    groups, whole lines).
    """
    window = convolution_window(view.operation)
    tensor = view.operation.operands[0]
    if window is None or view.is_swapped or not window.channels_last:
        return None
    if max(window.strides) > MOST_STRIDE:
        return None
    memory = strides_of_tensor(builder, tensor)
    if memory is None:
        return None
    low = [own.as_constant() for own in window.low]
    kernel = [own.as_constant() for own in window.kernel]
    channels = window.channels.as_constant() or 1
    element = memory.argument.element
    if element not in DATA_TYPES or not can_start_boxes(memory.strides[:-1], memory.origin, element):
        return None
    span = min(channels * byte_width(scalar_type(element)), LINE_BYTES)
    if span not in NARROW_SPANS:
        span = LINE_BYTES
    length = line_length(element) * span // LINE_BYTES
    padded = -(-channels // length) * length
    if padded != channels and window.groups > 1:
        return None
    if 2 * channels < padded or channels * byte_width(scalar_type(element)) % ACCESS_BYTES:
        return None
    window = replace(window, channels=expression(padded))
    known_low, known_kernel = [own for own in low if own is not None], [own for own in kernel if own is not None]
    spatial = len(window.sizes)
    if len(known_low) < spatial or len(known_kernel) < spatial:
        return None
    reach = [size * step for size, step in zip(known_kernel, window.dilations, strict=True)]
    farthest = FARTHEST_CORNER[spatial] - 1
    if max(*known_low, *reach, 0) + max(window.strides) > farthest:
        return None
    source, shape = builder.inputs.index(memory.argument), shape_of(tensor)
    found = Pixels(source, element, window, shape, memory.strides, memory.origin, tuple(known_low), span)
    last = [corner.as_constant() for corner in found.upper]
    return None if any(corner is not None and not -farthest <= corner <= farthest for corner in last) else found
