"""Running sums, by blocks where the axis is long.

In: a tensor and an axis. Out: graph.scan of each block, of the blocks' sums (again by blocks), and their sum: an
element costs a few hundred additions whatever the length, instead of half of it.
"""

from __future__ import annotations

from mlir import ir

from ....dialects import graph_builder as build
from ....runtime.symbolic import ONE, ZERO
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator

BLOCK = 128
SHORT = 512  # axes up to here are scanned in one piece
LEVELS = 3  # of blocks: 128^3 elements, then longer pieces


@onnx_operator("CumSum")
def cumulative_sum(node: Node) -> ir.Value:
    axes = node.integers(1, "axis")
    if len(axes) != 1:
        raise Unsupported("CumSum with several axes", "one axis")
    axis = node.axis(axes[0], node.rank(0))
    return running_sum(node, node.value(0), axis, bool(node.get("exclusive", 0)), bool(node.get("reverse", 0)))


def running_sum(
    node: Node, value: ir.Value, axis: int, exclusive: bool = False, reverse: bool = False, levels: int = LEVELS
) -> ir.Value:
    """The sum of all elements up to each one along `axis`: without itself when `exclusive`, from the end in
    `reverse`.
    """
    shape, dtype = list(build.shape_of(value)), build.element_of(value)
    size = shape[axis].as_constant()
    if levels == 0 or (size is not None and size <= SHORT):
        return build.scan(value, "sum", axis, exclusive, reverse)
    blocks = shape[axis].ceil_divide(BLOCK)
    missing = [blocks * BLOCK - shape[axis] if place == axis else ZERO for place in range(len(shape))]
    padded = build.pad(value, build.constant(0, dtype), [ZERO] * len(shape), missing)
    divided = build.reshape(padded, [*shape[:axis], blocks, BLOCK, *shape[axis + 1 :]])
    within = build.scan(divided, "sum", axis + 1, exclusive, reverse)
    totals = build.remove_dimensions(build.reduce(divided, "sum", [axis + 1]), [axis + 1])
    before = running_sum(node, totals, axis, True, reverse, levels - 1)
    before = build.reshape(before, [*shape[:axis], blocks, ONE, *shape[axis + 1 :]])
    joined = node.map([within, before], lambda own, others: own + others)
    whole = build.reshape(joined, [*shape[:axis], blocks * BLOCK, *shape[axis + 1 :]])
    return build.slice(whole, [ZERO] * len(shape), shape)
