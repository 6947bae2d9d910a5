"""What multiplies and adds up: windows, matrix products, convolutions, recurrent layers.

In: tensors, channels first, and the numbers of the window. Out: the result with the sizes that follow from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlir import ir

from ...runtime.symbolic import Expression, ExpressionLike
from ..tensors import element_of, shape_of, tensor_type
from .operations import Unify, attribute, broadcast_shapes, build, expressions, strict


def window_output(
    size: Expression, kernel: int, stride: int, low: ExpressionLike, high: ExpressionLike, dilation: int
) -> Expression:
    """Number of window positions along one dimension, rounded down."""
    covered = size + low + high - ((kernel - 1) * dilation + 1)
    return covered // stride + 1


def _window_outputs(
    shape: Sequence[Expression],
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[ExpressionLike],
    dilations: Sequence[int],
) -> list[Expression]:
    """`window_output` of each dimension from the third on; pads are those in front, then those behind."""
    low, high = pads[: len(kernel)], pads[len(kernel) :]
    return [
        window_output(*along) for along in zip(shape[2:], kernel, strides, low, high, dilations, strict=True)
    ]


def pool(
    tensor: ir.Value,
    kind: str,
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[ExpressionLike],
    dilations: Sequence[int],
    include_padding: bool = False,
    output: Sequence[ExpressionLike] | None = None,
) -> ir.Value:
    """Channels-first windows over the third dimension and on; `output` overrides the sizes (ceil mode)."""
    shape = shape_of(tensor)
    sizes = output or _window_outputs(shape, kernel, strides, pads, dilations)
    attributes: dict[str, Any] = {"kind": kind, "kernel": list(kernel), "include_padding": int(include_padding)}
    window = _window(strides, pads, dilations)
    return build("pool", [*shape[:2], *sizes], element_of(tensor), [tensor], **attributes, **window)


def _window(strides: Sequence[int], pads: Sequence[ExpressionLike], dilations: Sequence[int]) -> dict[str, Any]:
    return {
        "strides": list(strides),
        "pads": expressions(pads),
        "dilations": list(dilations),
        "layout": "channels_first",
    }


def matmul(
    left: ir.Value,
    right: ir.Value,
    transpose_left: bool = False,
    transpose_right: bool = False,
    element: str | None = None,
    unify: Unify = strict,
) -> ir.Value:
    """[..., M, K] x [..., K, N] -> [..., M, N]; both of rank 2 at least; batch dimensions broadcast."""
    first, second = shape_of(left), shape_of(right)
    rows, depth = (first[-1], first[-2]) if transpose_left else (first[-2], first[-1])
    other_depth, columns = (second[-1], second[-2]) if transpose_right else (second[-2], second[-1])
    if depth != other_depth:
        unify(depth, other_depth)
    shape = [*broadcast_shapes([first[:-2], second[:-2]], unify), rows, columns]
    flags: dict[str, Any] = {"transpose_left": int(transpose_left), "transpose_right": int(transpose_right)}
    return build("matmul", shape, element or element_of(left), [left, right], **flags)


def convolution(
    tensor: ir.Value,
    kernel: ir.Value,
    groups: int,
    strides: Sequence[int],
    pads: Sequence[ExpressionLike],
    dilations: Sequence[int],
    element: str | None = None,
) -> ir.Value:
    """Channels-first: tensor [N, C, spatial...], kernel [O, C/groups, sizes...] of static sizes."""
    shape, weights = shape_of(tensor), shape_of(kernel)
    taps = [int(size.as_constant() or 0) for size in weights[2:]]
    sizes = _window_outputs(shape, taps, strides, pads, dilations)
    window = _window(strides, pads, dilations)
    result = [shape[0], weights[0], *sizes]
    return build("convolution", result, element or element_of(tensor), [tensor, kernel], groups=groups, **window)


def convolution_transpose(
    tensor: ir.Value,
    kernel: ir.Value,
    groups: int,
    strides: Sequence[int],
    pads: Sequence[ExpressionLike],
    dilations: Sequence[int],
    output: Sequence[ExpressionLike],
) -> ir.Value:
    """Channels-first: tensor [N, C, spatial...], kernel [C, O/groups, sizes...]; `output`: spatial sizes."""
    result = [shape_of(tensor)[0], shape_of(kernel)[1] * groups, *expressions(output)]
    window = _window(strides, pads, dilations)
    return build("convolution_transpose", result, element_of(tensor), [tensor, kernel], groups=groups, **window)


def lstm(
    gates: ir.Value,
    recurrence: ir.Value,
    hidden: ir.Value,
    cell: ir.Value,
    peepholes: ir.Value,
    reverse: bool,
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """One direction: gates [T, N, 4H] -> Y [T, N, H], Y_h and Y_c [N, H]."""
    operands = [gates, recurrence, hidden, cell, peepholes]
    results = _recurrent("lstm", operands, 3, reverse=int(reverse))
    return results[0], results[1], results[2]


def gru(
    gates: ir.Value,
    recurrence: ir.Value,
    bias: ir.Value,
    hidden: ir.Value,
    reverse: bool,
    linear_before_reset: bool,
) -> tuple[ir.Value, ir.Value]:
    """One direction: gates [T, N, 3H] -> Y [T, N, H], Y_h [N, H]."""
    flags = {"reverse": int(reverse), "linear_before_reset": int(linear_before_reset)}
    results = _recurrent("gru", [gates, recurrence, bias, hidden], 2, **flags)
    return results[0], results[1]


def _recurrent(name: str, operands: list[ir.Value], count: int, **attributes: Any) -> list[ir.Value]:
    steps, batch, _ = shape_of(operands[0])
    hidden = shape_of(operands[1])[1]
    state = tensor_type([batch, hidden], element_of(operands[0]))
    sequence = tensor_type([steps, batch, hidden], element_of(operands[0]))
    operation = ir.Operation.create(
        f"graph.{name}",
        results=[sequence, *[state] * (count - 1)],
        operands=operands,
        attributes={key: attribute(value) for key, value in attributes.items()},
    )
    return list(operation.results)
