"""Pad, in all its modes.

In: a tensor and how much to add on every side (negative: cut off). Out: graph.pad for constants, maps that
read at folded indices for the others.
"""

from __future__ import annotations

from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.errors import ModelError
from ....runtime.symbolic import ZERO, Expression
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator
from ..tensor import Tensor

MODES = ("constant", "reflect", "edge", "wrap")


@onnx_operator("Pad")
def pad(node: Node) -> ir.Value:
    x = node.input(0)
    low, high = pad_sizes(node, x)
    mode = node.get("mode", "constant")
    if mode not in MODES:
        raise Unsupported(f"Pad mode '{mode}'", ", ".join(MODES))
    if mode == "constant":
        return build.pad(x.value, _fill(node, x).value, low, high)
    return folded(node, x, low, high, mode)


def pad_sizes(node: Node, x: Tensor) -> tuple[list[Expression], list[Expression]]:
    """Elements to add before and after in every dimension."""
    given = node.get("pads") or node.get("paddings")
    values = [Expression.constant(item) for item in given] if given is not None else node.sizes(1, "pads")
    axes = list(range(x.rank))
    if node.has(3):
        axes = [node.axis(axis, x.rank) for axis in node.integers(3, "axes")]
    if len(values) != 2 * len(axes):
        raise ModelError(f"Pad with {len(values)} pads for {len(axes)} dimensions")
    low, high = [ZERO] * x.rank, [ZERO] * x.rank
    for number, axis in enumerate(axes):
        low[axis], high[axis] = values[number], values[len(axes) + number]
    return low, high


def _fill(node: Node, x: Tensor) -> Tensor:
    if node.has(2):
        return node.reshaped(node.input(2), [])
    import numpy as np

    from ....runtime.dtypes import DTYPES

    return node.literal(np.array(node.get("value", 0), dtype=DTYPES[x.dtype].numpy), x.dtype)


def folded(node: Node, x: Tensor, low: list[Expression], high: list[Expression], mode: str) -> ir.Value:
    """The padding repeats the edge, mirrors the tensor without its edge, or wraps around."""
    shape = [size + begin + end for size, begin, end in zip(x.shape, low, high, strict=True)]
    table = x.value

    def body() -> Scalar:
        places = []
        for axis, size in enumerate(x.shape):
            position = build.index(axis)
            if low[axis] != 0 or high[axis] != 0:
                position = _fold(position - build.dimension(low[axis]), build.dimension(size), mode)
            places.append(position)
        return build.element_at(table, places)

    return node.map([], body, shape=shape)


def _fold(position: Scalar, size: Scalar, mode: str) -> Scalar:
    if mode == "edge":
        return position.clip(0, size - 1)
    if mode == "wrap":
        return position % size
    # reflect: a triangle wave of period 2 (size - 1); one element alone reflects to itself
    period = ((size - 1) * 2).maximum(1)
    phase = position % period
    return phase.minimum(period - phase).minimum(size - 1)
