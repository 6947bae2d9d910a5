"""Which elements and which boxes to keep, where that is decided one after the other.

In: downloaded tensors. Out: the kept ones; the symbol is how many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import HostCall, host_function

Array = np.ndarray[Any, Any]


@host_function("unique")
def unique(call: HostCall) -> Sequence[Any]:
    """Values, first positions, inverse and counts, sorted or in the order of first occurrence."""
    (values,) = call.inputs
    axis = call.attributes["axis"]
    kind = values.dtype
    wide = values.astype(np.float32) if kind.kind == "V" else values  # bfloat16 has no sort of its own
    kept, first, inverse, counts = np.unique(wide, True, True, True, axis=axis)
    inverse = inverse.reshape(-1)
    if not call.attributes["sorted"]:
        order = np.argsort(first, kind="stable")
        ranks = np.empty_like(order)
        ranks[order] = np.arange(len(order))
        kept = np.take(kept, order, axis=axis or 0)
        first, counts, inverse = first[order], counts[order], ranks[inverse]
    call.symbols = [len(first)]
    integers = [np.asarray(item, dtype=np.int64) for item in (first, inverse, counts)]
    return [np.ascontiguousarray(kept.astype(kind)), *integers]


@host_function("non_max_suppression")
def non_max_suppression(call: HostCall) -> Sequence[Any]:
    """Greedy: for each batch entry and class the best box that overlaps no better one by more than the threshold."""
    given = dict(zip(call.attributes["given"], call.inputs, strict=True))
    boxes, scores = given[0].astype(np.float32), given[1].astype(np.float32)
    most = int(np.ravel(given[2])[0]) if 2 in given else 0
    overlap = float(np.ravel(given[3])[0]) if 3 in given else 0.0
    least = float(np.ravel(given[4])[0]) if 4 in given else -np.inf
    selected: list[tuple[int, int, int]] = []
    for batch, classes in enumerate(scores):
        corners = _corners(boxes[batch], bool(call.attributes["center_point_box"]))
        for label, points in enumerate(classes):
            selected += [(batch, label, box) for box in _best(corners, points, most, overlap, least)]
    call.symbols = [len(selected)]
    return [np.array(selected, np.int64).reshape(-1, 3)]


def _corners(boxes: Array, centred: bool) -> Array:
    """[boxes, 4]: lower and upper corner, from two opposite corners or from centre and size."""
    if centred:
        centre, half = boxes[:, :2], boxes[:, 2:] / 2
        return np.concatenate([centre - half, centre + half], axis=1)
    first, second = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=1)


def _best(corners: Array, points: Array, most: int, overlap: float, least: float) -> list[int]:
    waiting = np.flatnonzero(points > least)
    waiting = waiting[np.argsort(-points[waiting], kind="stable")]
    kept: list[int] = []
    while len(waiting) and len(kept) < most:
        box, waiting = int(waiting[0]), waiting[1:]
        kept.append(box)
        waiting = waiting[_intersection_over_union(corners[box], corners[waiting]) <= overlap]
    return kept


def _intersection_over_union(box: Array, others: Array) -> Array:
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = np.prod(np.maximum(sides, 0), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    union = areas - common
    ratio: Array = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return ratio
