"""NonMaxSuppression: of boxes that overlap, the best one.

In: boxes and a score of each for every class. Out: which are kept. The candidates of all classes are sorted at once.
A box is decided as soon as those better ones that overlap it are: all look at all better ones, again and again until
nothing changes, which takes as many rounds as the longest chain of overlaps, not as many as there are boxes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from mlir import ir
from mlir.dialects import scf
from mlir.dialects import tensor as tensor_dialect

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.symbolic import Expression
from ..node import Node
from ..registry import onnx_operator
from .ordering import key_of
from .ranking import sorted_positions
from .scanning import running
from .selection import chosen_positions, position_of

LOWEST = float("-inf")


@onnx_operator("NonMaxSuppression")
def non_max_suppression(node: Node) -> ir.Value:
    """[selected, 3]: batch entry, class and box, the best first for each class."""
    batch, classes, boxes = node.shape(1)
    lines = batch * classes
    scores = _candidates(node, node.reshaped(node.input(1), [lines, boxes]).value)
    order = sorted_positions(node, scores, lambda v: ~key_of(v))
    most = _most_candidates(node, scores)
    corners = _sorted_corners(node, order, [lines, most])
    ranked = node.map([], lambda: build.element_at(scores, [build.index(0), _box(order)]), shape=[lines, most])
    there = node.map([ranked], lambda score: score.gt(LOWEST))
    kept = _first(node, _stable(node, there, lambda now: _survivors(node, there, now, corners)))
    flat = build.reshape(kept, [lines * most])
    count, running_count = chosen_positions(node, flat)

    def body() -> Scalar:
        place = position_of(running_count, build.index(0))
        line, rank = place / build.dimension(most).maximum(1), place.remainder(build.dimension(most).maximum(1))
        box = build.element_at(order, [line, rank]).cast("i64")
        entry, label = line / build.dimension(classes).maximum(1), line.remainder(build.dimension(classes).maximum(1))
        return build.index(1).eq(0).select(entry, build.index(1).eq(1).select(label, box))

    return node.map([], body, shape=build.expressions([count, 3]))


def _candidates(node: Node, scores: ir.Value) -> ir.Value:
    """The scores, with the lowest in place of those that are not above the threshold."""
    if not node.has(4):
        return node.map([scores], lambda v: v.is_nan().select(LOWEST, v))
    threshold = node.reshaped(node.input(4), [])
    return node.map([scores, threshold], lambda v, least: v.gt(least).select(v, LOWEST))


def _most_candidates(node: Node, scores: ir.Value) -> Expression:
    """The most candidates that a class has, found in the run: only they are compared with each other."""
    counts = build.reduce(node.map([scores], lambda v: v.gt(LOWEST).cast("i64")), "sum", [1])
    largest = build.reshape(build.reduce(counts, "max", [0]), [1])
    found = node.map([largest], lambda v: v.maximum(0))  # of no classes
    return node.found("sizes", [node.tensor(found)], 1, options={"operator": node.operator})[0]


def _box(order: ir.Value) -> Scalar:
    """In a map over lines and ranks: the number of the box."""
    return build.element_at(order, [build.index(0), build.index(1)]).cast("i64")


def _sorted_corners(node: Node, order: ir.Value, shape: list[Expression]) -> ir.Value:
    """[lines, candidates, 4]: lower y, lower x, upper y, upper x in order; given as corners, or as centre and size."""
    boxes, classes = node.value(0), node.shape(1)[1]
    centred = bool(node.get("center_point_box", 0))

    def body() -> Scalar:
        entry, box = build.index(0) / build.dimension(classes).maximum(1), _box(order)
        axis, upper = build.index(2) & 1, build.index(2).ge(2)
        one, two = (build.element_at(boxes, [entry, box, axis + step]).cast("f32") for step in (0, 2))
        if centred:
            return upper.select(one + two / 2, one - two / 2)
        return upper.select(one.maximum(two), one.minimum(two))

    return node.map([], body, shape=[*shape, Expression.constant(4)])


def _survivors(node: Node, there: ir.Value, now: ir.Value, corners: ir.Value) -> ir.Value:
    """The candidates that no better one among those of `now` overlaps by more than the threshold."""
    lines, most = build.shape_of(there)
    limit = node.reshaped(node.input(3), []) if node.has(3) else node.literal(np.array(0.0, np.float32), "f32")

    def covered(threshold: Scalar) -> Scalar:
        line, own, other = (build.index(axis) for axis in range(3))
        mine, its = ([build.element_at(corners, [line, place, side]) for side in range(4)] for place in (own, other))
        heights, widths = (mine[2].minimum(its[2]) - mine[0].maximum(its[0]),
                           mine[3].minimum(its[3]) - mine[1].maximum(its[1]))  # fmt: skip
        common = heights.maximum(0.0) * widths.maximum(0.0)
        areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (mine, its)]
        union = areas[0] + areas[1] - common
        ratio = union.gt(0.0).select(common / union, 0.0)
        return (other.lt(own) & build.element_at(now, [line, other]) & ratio.gt(threshold)).cast("i32")

    pairs = node.map([limit], covered, shape=[lines, most, most])
    hidden = build.remove_dimensions(build.reduce(pairs, "sum", [2]), [2])
    return node.map([there, hidden], lambda candidate, number: candidate & number.eq(0))


def _stable(node: Node, start: ir.Value, step: Callable[[ir.Value], ir.Value]) -> ir.Value:
    """`step` again and again, from `start`, until it changes nothing: a loop of the program."""
    yes = node.literal(np.array(True), "i1").value
    holder = ir.Operation.create("scf.while", regions=2, ip=False)
    before, after = (region.blocks.append(start.type, yes.type) for region in holder.regions)
    with ir.InsertionPoint(after):
        now = after.arguments[0]
        following = step(now)
        changed = node.map([now, following], lambda old, new: old.ne(new).cast("i32"))
        number = build.reshape(build.reduce(changed, "sum", [0, 1]), [])
        scf.YieldOp([following, node.map([number], lambda changes: changes.ne(0))])
    with ir.InsertionPoint(before):
        scf.ConditionOp(tensor_dialect.ExtractOp(before.arguments[1], []).result, list(before.arguments))
    loop = ir.Operation.create("scf.while", results=[start.type, yes.type], operands=[start, yes], regions=2)
    for region, block in zip(loop.regions, (before, after), strict=True):
        block.append_to(region)
    return loop.results[0]


def _first(node: Node, kept: ir.Value) -> ir.Value:
    """The best of those that are kept, as many as the operator wants for each class: none unless it says."""
    most = node.reshaped(node.input(2), []) if node.has(2) else node.literal(np.array(0, np.int64), "i64")
    rank = running(node, build.cast(kept, "i64"), 1)
    return node.map([kept, rank, most], lambda there, number, limit: there & number.le(limit.cast("i64")))
