"""Elements that a thread computes with a loop of its own: pooling, direct convolution, sequential reductions.

In: an operation and the position of one result element. Out: a scalar; short window loops are unrolled, so that their
index arithmetic folds, longer ones are `scf.for` inside the body. Depthwise convolutions and small windows are at
home here; large reductions and dense convolutions have programs of their own and use this only where they are fused
into a pointwise kernel.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from mlir import ir
from mlir.dialects import arith, scf

from ...dialects.tensors import element_of, scalar_type, shape_of
from ...runtime.dtypes import DTYPES, least_finite
from ...runtime.symbolic import ZERO, Expression, ExpressionLike, expression
from .elements import ElementEmitter, Indices, element_rule, padded_element
from .scalars import accumulator, combine, convert, is_float, neutral

UNROLL = 27  # taps of a window that are unrolled: 3x3x3

Step = Callable[[ElementEmitter, tuple[Expression, ...], list[ir.Value]], list[ir.Value]]


def loop_nest(
    emitter: ElementEmitter, extents: Sequence[ExpressionLike], initial: list[ir.Value], step: Step
) -> list[ir.Value]:
    """Carry `initial` through `step` for every position of the box; inner constant dimensions are unrolled."""
    sizes = [expression(extent) for extent in extents]
    split, count = len(sizes), 1
    while split > 0:
        constant = sizes[split - 1].as_constant()
        if constant is None or count * constant > UNROLL:
            break
        count, split = count * constant, split - 1
    inner = [range(size.as_constant() or 0) for size in sizes[split:]]

    def unrolled(at: ElementEmitter, outer: tuple[Expression, ...], carried: list[ir.Value]) -> list[ir.Value]:
        for position in itertools.product(*inner):
            carried = step(at, (*outer, *map(Expression.constant, position)), carried)
        return carried

    def nested(at: ElementEmitter, axis: int, outer: tuple[Expression, ...], carried: list[ir.Value]) -> list[ir.Value]:
        if axis == split:
            return unrolled(at, outer, carried)
        builder = at.builder
        loop = scf.ForOp(builder.index(0), builder.index(sizes[axis]), builder.index(1), carried)
        with ir.InsertionPoint(loop.body), builder.region():
            # What a loop carries may differ between lanes even where it starts equal.
            builder.varying.update(loop.inner_iter_args)
            position = builder.variable(loop.induction_variable, "tap", sizes[axis])
            scf.yield_(nested(at.scope(), axis + 1, (*outer, position), list(loop.inner_iter_args)))
        builder.varying.update(loop.results)
        return list(loop.results)

    return nested(emitter, 0, (), initial)


class _Window:
    """The attributes of a windowed operation, with positions by layout."""

    def __init__(self, operation: ir.Operation) -> None:
        attributes = operation.attributes
        self.strides = list(ir.DenseI64ArrayAttr(attributes["strides"]))
        self.dilations = list(ir.DenseI64ArrayAttr(attributes["dilations"]))
        pads = [expression(ir.StringAttr(item).value) for item in ir.ArrayAttr(attributes["pads"])]
        self.rank = len(self.strides)
        self.before, self.after = pads[: self.rank], pads[self.rank :]
        self.channels_last = ir.StringAttr(attributes["layout"]).value == "channels_last"

    def spatial(self, indices: Sequence[Expression]) -> list[Expression]:
        return list(indices[1:-1] if self.channels_last else indices[2:])

    def channel(self, indices: Sequence[Expression]) -> Expression:
        return indices[-1] if self.channels_last else indices[1]

    def position(self, batch: Expression, channel: Expression, spatial: Sequence[Expression]) -> Indices:
        return (batch, *spatial, channel) if self.channels_last else (batch, channel, *spatial)

    def source(self, indices: Sequence[Expression], axis: int, tap: Expression) -> Expression:
        """The input's position along `axis` that `tap` of the window at `indices` reads; maybe in the padding."""
        first: Expression = self.spatial(indices)[axis] * self.strides[axis] - self.before[axis]
        position: Expression = first + tap * self.dilations[axis]
        return position


@element_rule("graph.pool")
def _pool(emitter: ElementEmitter, operation: ir.Operation, indices: Indices) -> ir.Value:
    window = _Window(operation)
    value, result = operation.operands[0], operation.results[0]
    kernel = list(ir.DenseI64ArrayAttr(operation.attributes["kernel"]))
    kind = ir.StringAttr(operation.attributes["kind"]).value
    reduction = "max" if kind == "max" else "sum"
    element = element_of(value)
    wide = accumulator(element)
    sizes = window.spatial(shape_of(value))
    outside = arith.constant(scalar_type(element), _padding(kind, element))
    count_all = ir.IntegerAttr(operation.attributes["include_padding"]).value != 0
    counting = kind == "average"

    def step(at: ElementEmitter, taps: tuple[Expression, ...], carried: list[ir.Value]) -> list[ir.Value]:
        position, conditions, counted = [], [], []
        for axis, tap in enumerate(taps):
            own = window.source(indices, axis, tap)
            position.append(own)
            conditions += [own, sizes[axis] - 1 - own]
            counted += [sizes[axis] + window.after[axis] - 1 - own] if count_all else [own, sizes[axis] - 1 - own]
        found = padded_element(
            at, value, window.position(indices[0], window.channel(indices), position), conditions, lambda: outside
        )
        found = at.track(convert(found, element, wide), found)
        totals = [at.track(combine(reduction, wide, carried[0], found), carried[0], found)]
        if counting:
            totals.append(_counted(at, counted, carried[1]))
        return totals

    type_ = scalar_type(wide)
    initial = [arith.constant(type_, neutral(reduction, wide))]
    if counting:
        initial.append(arith.constant(type_, 0.0))
    totals = loop_nest(emitter, kernel, initial, step)
    total = totals[0]
    if counting:
        # A window that lies in the padding has nothing to average: 0, as in onnxruntime.
        count = arith.maximumf(totals[1], arith.constant(type_, 1.0))
        total = emitter.track(arith.divf(totals[0], count), *totals)
    return emitter.track(convert(total, wide, element_of(result)), total)


def _padding(kind: str, element: str) -> ir.Attribute:
    """What an average, a sum or a maximum finds outside: of floats the least finite number, as in onnxruntime, which
    is then the maximum of a window that lies in the padding.
    """
    if kind == "max" and is_float(element):
        return ir.FloatAttr.get(scalar_type(element), least_finite(DTYPES[element].numpy))
    return neutral("max" if kind == "max" else "sum", element)


def _counted(emitter: ElementEmitter, conditions: Sequence[Expression], count: ir.Value) -> ir.Value:
    """count + 1 where every condition holds."""
    checks = [check for check in map(emitter.nonnegative, conditions) if check is not None]
    one = arith.constant(count.type, 1.0)
    for check in checks:
        one = emitter.track(arith.select(check, one, arith.constant(count.type, 0.0)), check, one)
    return emitter.track(arith.addf(count, one), count, one)


@element_rule("graph.convolution")
def _convolution(emitter: ElementEmitter, operation: ir.Operation, indices: Indices) -> ir.Value:
    """Direct convolution: right for depthwise, where a tensor core has nothing to do."""
    window = _Window(operation)
    value, weight = operation.operands
    groups = ir.IntegerAttr(operation.attributes["groups"]).value
    weight_shape = shape_of(weight)
    kernel = weight_shape[:-2] if window.channels_last else weight_shape[2:]
    inner = weight_shape[-2] if window.channels_last else weight_shape[1]
    out_channels = weight_shape[-1] if window.channels_last else weight_shape[0]
    channel = window.channel(indices)
    group = emitter.builder.divide(channel, out_channels.exact_divide(groups) or out_channels // groups)
    sizes = window.spatial(shape_of(value))
    element = element_of(value)
    wide = accumulator(element) if is_float(element) else "i32"
    nothing = arith.constant(scalar_type(element), neutral("sum", element))

    def step(at: ElementEmitter, taps: tuple[Expression, ...], carried: list[ir.Value]) -> list[ir.Value]:
        inner_channel, taps = (taps[0], taps[1:]) if inner != 1 else (ZERO, taps)
        position, conditions = [], []
        for axis, tap in enumerate(taps):
            own = window.source(indices, axis, tap)
            position.append(own)
            conditions += [own, sizes[axis] - 1 - own]
        where = window.position(indices[0], group * inner + inner_channel, position)
        left = padded_element(at, value, where, conditions, lambda: nothing)
        at_weight = (*taps, inner_channel, channel) if window.channels_last else (channel, inner_channel, *taps)
        right = at.element(weight, at_weight)
        left, right = (at.track(convert(v, element_of(t), wide), v) for v, t in ((left, value), (right, weight)))
        if not is_float(wide):
            product = at.track(arith.muli(left, right), left, right)
            return [at.track(arith.addi(carried[0], product), carried[0], product)]
        product = at.track(arith.mulf(left, right, fastmath=arith.FastMathFlags.contract), left, right)
        return [at.track(arith.addf(carried[0], product, fastmath=arith.FastMathFlags.contract), carried[0], product)]

    extents = [*([inner] if inner != 1 else []), *kernel]
    total = loop_nest(emitter, extents, [arith.constant(scalar_type(wide), neutral("sum", wide))], step)[0]
    return emitter.track(convert(total, wide, element_of(operation.results[0])), total)


@element_rule("graph.reduce")
def _reduce(emitter: ElementEmitter, operation: ir.Operation, indices: Indices) -> ir.Value:
    """A reduction in one thread."""
    value = operation.operands[0]
    axes = list(ir.DenseI64ArrayAttr(operation.attributes["axes"]))
    kind = ir.StringAttr(operation.attributes["kind"]).value
    shape, element = shape_of(value), element_of(value)
    wide = accumulator(element)

    def step(at: ElementEmitter, taps: tuple[Expression, ...], carried: list[ir.Value]) -> list[ir.Value]:
        position = list(indices)
        for axis, tap in zip(axes, taps, strict=True):
            position[axis] = tap
        found = at.element(value, position)
        found = at.track(convert(found, element, wide), found)
        return [at.track(combine(kind, wide, carried[0], found), carried[0], found)]

    initial = [arith.constant(scalar_type(wide), neutral(kind, wide))]
    total = loop_nest(emitter, [shape[axis] for axis in axes], initial, step)[0]
    return emitter.track(convert(total, wide, element_of(operation.results[0])), total)
