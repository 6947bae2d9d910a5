"""One view of every contraction: C(batch, row, column) = sum of A(batch, row, k) * B(batch, k, column).

In: a graph.matmul, graph.convolution or graph.convolution_transpose. Out: a `Contraction`: the extents as
symbolic integers and three index functions, which say where in the operands and in the result a position of
the view lies. A convolution becomes an implicit GEMM here and nowhere else: rows or columns are its pixels, k
its taps and channels, batch its groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from mlir import ir

from ...dialects.tensors import shape_of
from ...runtime.errors import InternalError
from ...runtime.symbolic import ONE, ZERO, Expression, expression, product
from .builder import TileBuilder

Indices: TypeAlias = tuple[Expression, ...]


@dataclass(frozen=True)
class Condition:
    """``0 <= value < limit``; with `multiple` above 1, `numerator` must be a multiple of it as well."""

    value: Expression
    limit: Expression
    numerator: Expression = ZERO
    multiple: int = 1


@dataclass(frozen=True)
class Place:
    """An element of a graph tensor, and the conditions under which it is there; elsewhere it counts as
    zero.
    """

    tensor: ir.Value
    indices: Indices
    conditions: tuple[Condition, ...] = ()


PlaceFunction: TypeAlias = Callable[[Expression, Expression, Expression], Place]
IndexFunction: TypeAlias = Callable[[Expression, Expression, Expression], Indices]


@dataclass(frozen=True)
class Contraction:
    """The view. `left` takes (batch, row, k), `right` (batch, k, column), `result` (batch, row, column)."""

    operation: ir.Operation
    batch: Expression
    rows: Expression
    columns: Expression
    depth: Expression
    left: PlaceFunction
    right: PlaceFunction
    result: IndexFunction
    is_swapped: bool = False  # rows are the right operand's
    pairs: int | None = None  # 1 where the rest of the kernel takes even and odd columns together, 0 for rows

    def swapped(self) -> Contraction:
        """The transposed problem: rows and columns, left and right change places."""
        left, right, result = self.left, self.right, self.result
        return replace(
            self,
            rows=self.columns,
            columns=self.rows,
            left=lambda batch, row, depth: right(batch, depth, row),
            right=lambda batch, depth, column: left(batch, column, depth),
            result=lambda batch, row, column: result(batch, column, row),
            is_swapped=not self.is_swapped,
            pairs=None if self.pairs is None else 1 - self.pairs,
        )


def find_contraction(function: ir.Operation) -> ir.Operation:
    """The one contraction of a kernel function. Raises InternalError when there is none or more than one."""
    found = [
        view.operation for view in function.regions[0].blocks[0].operations if view.operation.name in _VIEWS
    ]
    if len(found) != 1:
        raise InternalError(
            f"a kernel of kind 'dot' holds exactly one contraction, found {len(found)}:\n{function}"
        )
    return found[0]


def contraction_of(builder: TileBuilder, operation: ir.Operation) -> Contraction:
    """The view of a contraction; its index functions emit nothing and may be called any number of times."""
    return _VIEWS[operation.name](builder, operation)


# Matrix multiplication --------------------------------------------------------------------------------------
def _flag(operation: ir.Operation, name: str) -> bool:
    return bool(ir.IntegerAttr(operation.attributes[name]).value)


def _matmul(builder: TileBuilder, operation: ir.Operation) -> Contraction:
    left, right = operation.operands
    left_shape, right_shape, shape = shape_of(left), shape_of(right), shape_of(operation.results[0])
    left_turned, right_turned = _flag(operation, "transpose_left"), _flag(operation, "transpose_right")
    outer = shape[:-2]
    # Batch dimensions that one operand lacks are more rows (or columns) of the other: one larger problem.
    rows_outer = outer if all(size == 1 for size in right_shape[:-2]) else ()
    columns_outer = outer if not rows_outer and all(size == 1 for size in left_shape[:-2]) else ()
    batch_shape = () if rows_outer or columns_outer else outer
    rows_shape, columns_shape = (*rows_outer, shape[-2]), (*columns_outer, shape[-1])

    def split(
        batch: Expression, row: Expression, column: Expression
    ) -> tuple[Indices, Expression, Expression]:
        above = builder.delinearize(batch, batch_shape) if batch_shape else ()
        in_rows, in_columns = builder.delinearize(row, rows_shape), builder.delinearize(column, columns_shape)
        return (*above, *in_rows[:-1], *in_columns[:-1]), in_rows[-1], in_columns[-1]

    def left_place(batch: Expression, row: Expression, depth: Expression) -> Place:
        above, own, _ = split(batch, row, ZERO)
        position = (depth, own) if left_turned else (own, depth)
        return Place(left, (*_broadcast(above, left_shape[:-2]), *position))

    def right_place(batch: Expression, depth: Expression, column: Expression) -> Place:
        above, _, own = split(batch, ZERO, column)
        position = (own, depth) if right_turned else (depth, own)
        return Place(right, (*_broadcast(above, right_shape[:-2]), *position))

    def result(batch: Expression, row: Expression, column: Expression) -> Indices:
        above, own_row, own_column = split(batch, row, column)
        return (*above, own_row, own_column)

    depth = left_shape[-2] if left_turned else left_shape[-1]
    extents = product(list(batch_shape)), product(list(rows_shape)), product(list(columns_shape))
    return Contraction(operation, *extents, depth, left_place, right_place, result)


def _broadcast(indices: Indices, shape: Sequence[Expression]) -> Indices:
    own = indices[len(indices) - len(shape) :]
    return tuple(ZERO if size == 1 else index for size, index in zip(shape, own, strict=True))


# Convolutions -----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Window:
    """What both convolutions read from their operation."""

    groups: int
    strides: list[int]
    low: list[Expression]
    dilations: list[int]
    channels_last: bool
    pixels: tuple[Expression, ...]  # (N, spatial sizes of the result)
    sizes: tuple[Expression, ...]  # spatial sizes of the input
    kernel: tuple[Expression, ...]
    channels: Expression  # input channels of a group
    outputs: Expression  # output channels of a group

    def tap_shape(self) -> tuple[Expression, ...]:
        """The dimensions of k, in the weight's memory order where that is possible."""
        return (*self.kernel, self.channels) if self.channels_last else (self.channels, *self.kernel)

    def taps(self, builder: TileBuilder, depth: Expression) -> tuple[Expression, Indices]:
        """(channel, kernel position) of k."""
        position = builder.delinearize(depth, self.tap_shape())
        return (position[-1], position[:-1]) if self.channels_last else (position[0], position[1:])

    def arrange(self, image: Expression, channel: Expression, spatial: Indices) -> Indices:
        """Indices of an activation."""
        return (image, *spatial, channel) if self.channels_last else (image, channel, *spatial)


def _read_window(operation: ir.Operation, transposed: bool) -> Window:
    shape, weight = shape_of(operation.operands[0]), shape_of(operation.operands[1])
    result = shape_of(operation.results[0])
    rank = len(shape) - 2
    groups = ir.IntegerAttr(operation.attributes["groups"]).value
    last = ir.StringAttr(operation.attributes["layout"]).value == "channels_last"
    spatial = slice(1, 1 + rank) if last else slice(2, 2 + rank)
    kernel = weight[:rank] if last else weight[2:]
    # Weights are [O, C/groups, ...] or [..., C/groups, O]; of the transposed convolution [C, O/groups, ...]
    # or [..., C, O/groups].
    inner = weight[rank:] if last else (weight[:2] if transposed else (weight[1], weight[0]))
    channels, outputs = inner
    if groups != 1:
        channels, outputs = (channels // groups, outputs) if transposed else (channels, outputs // groups)
    pads = [expression(ir.StringAttr(item).value) for item in ir.ArrayAttr(operation.attributes["pads"])]
    return Window(
        groups,
        list(ir.DenseI64ArrayAttr(operation.attributes["strides"])),
        pads[:rank],
        list(ir.DenseI64ArrayAttr(operation.attributes["dilations"])),
        last,
        (result[0], *result[spatial]),
        shape[spatial],
        kernel,
        channels,
        outputs,
    )


def convolution_window(operation: ir.Operation) -> Window | None:
    """The window of a graph.convolution; None for anything else."""
    return _read_window(operation, transposed=False) if operation.name == "graph.convolution" else None


def _convolution(builder: TileBuilder, operation: ir.Operation) -> Contraction:
    window = _read_window(operation, transposed=False)
    tensor, weight = operation.operands

    def input_place(group: Expression, pixel: Expression, depth: Expression) -> Place:
        image, *position = builder.delinearize(pixel, window.pixels)
        channel, tap = window.taps(builder, depth)
        spatial = tuple(
            own * window.strides[axis] - window.low[axis] + tap[axis] * window.dilations[axis]
            for axis, own in enumerate(position)
        )
        conditions = [Condition(own, size) for own, size in zip(spatial, window.sizes, strict=True)]
        inside = tuple(c for c in conditions if not _always(builder, c))
        return Place(tensor, window.arrange(image, group * window.channels + channel, spatial), inside)

    def weight_place(group: Expression, output: Expression, depth: Expression) -> Place:
        channel, tap = window.taps(builder, depth)
        own = group * window.outputs + output
        return Place(weight, (*tap, channel, own) if window.channels_last else (own, channel, *tap))

    return _pixels_by_channels(builder, operation, window, input_place, weight_place)


def _convolution_transpose(builder: TileBuilder, operation: ir.Operation) -> Contraction:
    window = _read_window(operation, transposed=True)
    divides = all(
        size.divisible_by(step) for size, step in zip(window.pixels[1:], window.strides, strict=True)
    )
    if max(window.strides) > 1 and divides and set(window.dilations) == {1}:
        return _by_phases(builder, operation, window)
    tensor, weight = operation.operands

    def input_place(group: Expression, pixel: Expression, depth: Expression) -> Place:
        image, *position = builder.delinearize(pixel, window.pixels)
        channel, tap = window.taps(builder, depth)
        spatial, conditions = [], []
        for axis, own in enumerate(position):
            # Output o receives input i through tap k where o = i*stride - low + k*dilation.
            numerator = own + window.low[axis] - tap[axis] * window.dilations[axis]
            source = builder.divide(numerator, window.strides[axis])
            spatial.append(source)
            conditions.append(Condition(source, window.sizes[axis], numerator, window.strides[axis]))
        inside = tuple(c for c in conditions if c.multiple > 1 or not _always(builder, c))
        return Place(tensor, window.arrange(image, group * window.channels + channel, tuple(spatial)), inside)

    def weight_place(group: Expression, output: Expression, depth: Expression) -> Place:
        channel, tap = window.taps(builder, depth)
        source = group * window.channels + channel
        return Place(weight, (*tap, source, output) if window.channels_last else (source, output, *tap))

    return _pixels_by_channels(builder, operation, window, input_place, weight_place)


class _Phases:
    """A transposed convolution whose result divides into `stride` interleaved phases, which become batches.

    Output ``o = q*stride + phase`` only receives through the taps ``k = (phase + low) % stride + stride*j``,
    from input ``q + (phase + low)//stride - j``: no product with an inserted zero is computed.
    """

    def __init__(self, builder: TileBuilder, operation: ir.Operation, window: Window) -> None:
        self.builder, self.window = builder, window
        self.tensor, self.weight = operation.operands
        steps = window.strides
        self.axes = range(len(steps))
        # Positions of one phase, and the taps that one output receives through at most.
        sizes = (size.exact_divide(step) or size for size, step in zip(window.pixels[1:], steps, strict=True))
        reach = tuple(size.ceil_divide(step) for size, step in zip(window.kernel, steps, strict=True))
        self.inner = replace(window, pixels=(window.pixels[0], *sizes), kernel=reach)
        self.batch_shape = (ONE * window.groups, *(ONE * step for step in steps))

    def split(self, batch: Expression) -> tuple[Expression, list[Expression]]:
        """(group, phase of every dimension) of a batch."""
        group, *phases = self.builder.delinearize(batch, self.batch_shape)
        return group, phases

    def input_place(self, batch: Expression, pixel: Expression, depth: Expression) -> Place:
        group, phases = self.split(batch)
        image, *position = self.builder.delinearize(pixel, self.inner.pixels)
        channel, taps = self.inner.taps(self.builder, depth)
        begins = [phases[axis] + self.window.low[axis] for axis in self.axes]
        whole = [self.builder.divide(begins[axis], self.window.strides[axis]) for axis in self.axes]
        spatial = tuple(position[axis] + whole[axis] - taps[axis] for axis in self.axes)
        indices = self.window.arrange(image, group * self.window.channels + channel, spatial)
        return Place(self.tensor, indices, self._inside(spatial, self.window.sizes))

    def weight_place(self, batch: Expression, depth: Expression, output: Expression) -> Place:
        group, phases = self.split(batch)
        channel, taps = self.inner.taps(self.builder, depth)
        steps, low = self.window.strides, self.window.low
        first = [self.builder.remainder(phases[axis] + low[axis], steps[axis]) for axis in self.axes]
        tap = tuple(first[axis] + taps[axis] * steps[axis] for axis in self.axes)
        source = group * self.window.channels + channel
        indices = (*tap, source, output) if self.window.channels_last else (source, output, *tap)
        return Place(self.weight, indices, self._inside(tap, self.window.kernel))

    def _inside(self, position: Indices, sizes: Indices) -> tuple[Condition, ...]:
        conditions = [Condition(own, size) for own, size in zip(position, sizes, strict=True)]
        return tuple(c for c in conditions if not _always(self.builder, c))

    def result(self, batch: Expression, pixel: Expression, output: Expression) -> Indices:
        group, phases = self.split(batch)
        image, *position = self.builder.delinearize(pixel, self.inner.pixels)
        spatial = tuple(position[axis] * self.window.strides[axis] + phases[axis] for axis in self.axes)
        return self.window.arrange(image, group * self.window.outputs + output, spatial)


def _by_phases(builder: TileBuilder, operation: ir.Operation, window: Window) -> Contraction:
    """The view of a transposed convolution with the phases of its result as batches."""
    phases = _Phases(builder, operation, window)
    return Contraction(
        operation,
        product(list(phases.batch_shape)),
        product(list(phases.inner.pixels)),
        window.outputs,
        product(list(phases.inner.tap_shape())),
        phases.input_place,
        phases.weight_place,
        phases.result,
    )


def _always(builder: TileBuilder, condition: Condition) -> bool:
    value, limit = condition.value, condition.limit
    return value.is_nonnegative(builder.extents) and (limit - 1 - value).is_nonnegative(builder.extents)


def _pixels_by_channels(
    builder: TileBuilder,
    operation: ir.Operation,
    window: Window,
    input_place: PlaceFunction,
    weight_place: PlaceFunction,
) -> Contraction:
    """Rows are pixels, columns output channels, batch groups."""

    def result(group: Expression, pixel: Expression, output: Expression) -> Indices:
        image, *position = builder.delinearize(pixel, window.pixels)
        return window.arrange(image, group * window.outputs + output, tuple(position))

    return Contraction(
        operation,
        ONE * window.groups,
        product(list(window.pixels)),
        window.outputs,
        product(list(window.tap_shape())),
        input_place,
        lambda group, depth, output: weight_place(group, output, depth),
        result,
    )


_VIEWS: dict[str, Callable[[TileBuilder, ir.Operation], Contraction]] = {
    "graph.matmul": _matmul,
    "graph.convolution": _convolution,
    "graph.convolution_transpose": _convolution_transpose,
}
