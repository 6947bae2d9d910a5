"""Running sums and products, by blocks where the axis is long.

In: a tensor and an axis. Out: graph.scan, which is linear; a long axis is divided so that more than a few threads
have work: a scan of each block, of the blocks' totals, and both combined.
"""

from __future__ import annotations

from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.symbolic import ONE, ZERO, Expression
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator

NEIGHBOURS = 16  # elements inside the axis, above which a thread walks along a line of its own (passes/tile/scan.py)
BLOCKS = {True: 2048, False: 128}  # of an axis that a thread block scans, or that a thread walks
PIECES = 4  # blocks that an axis may have and still be scanned in one piece
LEVELS = 2  # of blocks, where the length is not known


@onnx_operator("CumSum", "CumProd")
def cumulative(node: Node) -> ir.Value:
    axes = node.integers(1, "axis")
    if len(axes) != 1:
        raise Unsupported(f"{node.operator} with several axes", "one axis")
    axis = node.axis(axes[0], node.rank(0))
    exclusive, reverse = bool(node.get("exclusive", 0)), bool(node.get("reverse", 0))
    kind = "sum" if node.operator == "CumSum" else "product"
    return running(node, node.value(0), axis, kind, exclusive, reverse)


def running(
    node: Node,
    value: ir.Value,
    axis: int,
    kind: str = "sum",
    exclusive: bool = False,
    reverse: bool = False,
    levels: int = LEVELS,
) -> ir.Value:
    """The sum or product of all elements up to each one along `axis`: without itself when `exclusive`, from the end
    in `reverse`.
    """
    shape, dtype = list(build.shape_of(value)), build.element_of(value)
    inside = build.product(shape[axis + 1 :]).as_constant()
    block = BLOCKS[inside is not None and inside <= NEIGHBOURS]
    size = shape[axis].as_constant()
    if levels == 0 or (size is not None and size <= block * PIECES):
        return build.scan(value, kind, axis, exclusive, reverse)
    blocks = shape[axis].ceil_divide(block)
    missing = [blocks * block - shape[axis] if place == axis else ZERO for place in range(len(shape))]
    neutral = build.constant(build.neutral(kind, dtype), dtype)
    padded = build.pad(value, neutral, [ZERO] * len(shape), missing)
    divided = build.reshape(padded, [*shape[:axis], blocks, block, *shape[axis + 1 :]])
    within = build.scan(divided, kind, axis + 1, exclusive, reverse)
    totals = build.remove_dimensions(_totals(divided, within, axis + 1, kind, exclusive, reverse), [axis + 1])
    before = running(node, totals, axis, kind, True, reverse, levels - 1)
    before = build.reshape(before, [*shape[:axis], blocks, ONE, *shape[axis + 1 :]])
    joined = node.map([within, before], lambda own, others: _combine(kind, own, others))
    whole = build.reshape(joined, [*shape[:axis], blocks * block, *shape[axis + 1 :]])
    return build.slice(whole, [ZERO] * len(shape), shape)


def _totals(divided: ir.Value, within: ir.Value, axis: int, kind: str, exclusive: bool, reverse: bool) -> ir.Value:
    """What a block comes to: the last of its scan, with its own element where the scan leaves that out."""
    shape = build.shape_of(within)
    last = ZERO if reverse else shape[axis] - 1
    starts: list[Expression] = [last if place == axis else ZERO for place in range(len(shape))]
    ends = [build.slice(table, starts, build.reduced_shape(shape, [axis])) for table in (within, divided)]
    return build.map(ends, lambda own, element: _combine(kind, own, element)) if exclusive else ends[0]


def _combine(kind: str, left: Scalar, right: Scalar) -> Scalar:
    return left + right if kind == "sum" else left * right
