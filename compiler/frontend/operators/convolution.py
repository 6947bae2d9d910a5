"""Convolutions.

In: input [N, C, spatial...], weight [O, C/groups, kernel...] and an optional bias. Out: graph.convolution
and a map that adds the bias.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlir import ir

from ....dialects import graph_builder as build
from ....runtime.errors import ModelError
from ....runtime.symbolic import Expression
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Tensor
from .reduction import wide
from .windows import Window, window_of


def kernel_sizes(node: Node, weight: Tensor) -> list[int]:
    """The static spatial sizes of a weight. Raises ModelError where `kernel_shape` contradicts them."""
    sizes = [size.as_constant() for size in weight.shape[2:]]
    if None in sizes:
        raise Unsupported(f"{node.operator} with a kernel of dynamic size", "static kernel sizes")
    kernel = [size for size in sizes if size is not None]
    if list(node.get("kernel_shape") or kernel) != kernel:
        raise ModelError(f"kernel_shape {node.get('kernel_shape')} does not fit the weight's {kernel}")
    return kernel


def check_channels(node: Node, x: Tensor, channels: Expression, groups: int) -> None:
    """The input has `channels` channels. Raises ModelError."""
    if x.rank < 3:
        raise ModelError(f"{node.operator} needs at least one spatial dimension; the input has rank {x.rank}")
    if groups < 1:
        raise ModelError(f"{node.operator} with group {groups}")
    node.unify(x.shape[1], channels)


def with_bias(node: Node, value: ir.Value, bias: Tensor | None, dtype: str) -> ir.Value:
    """value + bias for each channel, in `dtype`."""
    if bias is None:
        return build.cast(value, dtype)
    shaped = node.per_channel(bias, build.rank_of(value))
    kind = build.element_of(value)
    return node.map([value, shaped], lambda x, b: x + b.cast(kind), element=dtype)


def convolve(
    node: Node, x: Tensor, weight: Tensor, values: tuple[ir.Value, ir.Value], element: str
) -> tuple[ir.Value, Window]:
    """The convolution of `values` with this node's attributes; `x` and `weight` give the shapes."""
    groups = int(node.get("group", 1))
    if weight.rank != x.rank:
        raise ModelError(f"{node.operator}: the weight has rank {weight.rank}, the input {x.rank}")
    check_channels(node, x, weight.shape[1] * groups, groups)
    window = window_of(node, kernel_sizes(node, weight), x.shape[2:])
    value = build.convolution(*values, groups, window.strides, window.pads, window.dilations, element=element)
    return value, window


@onnx_operator("Conv")
def convolution(node: Node) -> ir.Value:
    """Narrow floats accumulate in f32 and take the bias there."""
    x, weight = node.input(0), node.input(1)
    bias = node.optional(2)
    element = wide(x.dtype) if bias is not None else x.dtype
    value, _ = convolve(node, x, weight, (x.value, weight.value), element)
    return with_bias(node, value, bias, x.dtype)


@onnx_operator("ConvTranspose")
def convolution_transpose(node: Node) -> ir.Value:
    x, weight = node.input(0), node.input(1)
    groups = int(node.get("group", 1))
    check_channels(node, x, weight.shape[0], groups)
    kernel = kernel_sizes(node, weight)
    sizes = x.shape[2:]
    # auto_pad means something else here: it places the output, so it is taken out of the window's attributes.
    mode = node.attributes.pop("auto_pad", "NOTSET") or "NOTSET"
    window = window_of(node, kernel, sizes)
    extra = node.get("output_padding") or [0] * len(kernel)
    pads, output = _transposed(window, sizes, extra, mode, node.get("output_shape"))
    value = build.convolution_transpose(x.value, weight.value, groups, window.strides, pads, window.dilations, output)
    return with_bias(node, value, node.optional(2), x.dtype)


def _transposed(
    window: Window, sizes: Sequence[Expression], extra: Sequence[int], mode: str, wanted: Sequence[int] | None
) -> tuple[list[Expression], list[Expression]]:
    """Padding and output sizes. With `output_shape`, or SAME, the padding follows from the size."""
    rank = len(sizes)
    full = [
        (size - 1) * window.strides[axis] + window.extent(axis) + int(extra[axis]) for axis, size in enumerate(sizes)
    ]
    if wanted is None and not mode.startswith("SAME"):
        pads = window.pads
        return pads, [size - pads[axis] - pads[rank + axis] for axis, size in enumerate(full)]
    if wanted is not None:
        output = [Expression.constant(int(size)) for size in wanted[-rank:]]
    else:
        output = [size * window.strides[axis] for axis, size in enumerate(sizes)]
    begins, ends = [], []
    for size, target in zip(full, output, strict=True):
        total = size - target
        half = total // 2
        begins.append(half if mode == "SAME_UPPER" else total - half)
        ends.append(total - half if mode == "SAME_UPPER" else half)
    return [*begins, *ends], output
