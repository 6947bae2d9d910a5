"""Reductions, running ones, sorting and scattering.

In: tensors, a kind (sum, product, max, min) and axes. Out: the combined elements; reduced axes stay as size 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mlir import ir

from ...runtime.dtypes import DTYPES
from ...runtime.symbolic import ONE, Expression, ExpressionLike
from ..scalar import Scalar, is_float
from ..tensors import Shape, element_of, shape_of
from .operations import build
from .pointwise import cast, element_count, index, map, splat


def reduced_shape(shape: Sequence[Expression], axes: Sequence[int]) -> Shape:
    """`shape` with size 1 at `axes`."""
    return tuple(ONE if axis in axes else size for axis, size in enumerate(shape))


def reduce(tensor: ir.Value, kind: str, axes: Sequence[int], element: str | None = None) -> ir.Value:
    """`kind` of sum, product, max, min over `axes` (not negative), which stay as size 1; none: the tensor."""
    if not axes:
        return cast(tensor, element or element_of(tensor))
    shape = reduced_shape(shape_of(tensor), axes)
    dtype = element or element_of(tensor)
    if any(size == 0 for size in (*shape_of(tensor), *shape)):
        return splat(neutral(kind, dtype), shape, dtype)
    return build("reduce", shape, dtype, [tensor], kind=kind, axes=sorted(axes))


def neutral(kind: str, element: str) -> float | int:
    """The neutral element of a reduction in that dtype."""
    if kind in ("sum", "product"):
        return 0 if kind == "sum" else 1
    if is_float(element):
        return float("-inf") if kind == "max" else float("inf")
    if element == "i1":
        return 0 if kind == "max" else 1
    information = np.iinfo(DTYPES[element].numpy)
    return int(information.min if kind == "max" else information.max)


def mean(tensor: ir.Value, axes: Sequence[int]) -> ir.Value:
    """Arithmetic mean over `axes`, which stay as size 1."""
    shape, element = shape_of(tensor), element_of(tensor)
    sizes = [shape[axis] for axis in axes]
    return map([reduce(tensor, "sum", axes)], lambda total: total / element_count(sizes, element))


def arg_reduce(tensor: ir.Value, kind: str, axis: int, last: bool = False) -> ir.Value:
    """Index (i64) of the max or min along `axis`, which stays as size 1; of equals the first, or the `last`.

    The extreme first, then the least index where it stands: two reductions, which share a kernel. A NaN is extreme.
    """
    extreme, choice = reduce(tensor, kind, [axis]), "max" if last else "min"
    nowhere = neutral(choice, "i32")

    def place(value: Scalar, best: Scalar) -> Scalar:
        found = value.eq(best)
        if is_float(element_of(tensor)):
            found = found | (value.ne(value) & best.ne(best))
        return found.select(index(axis).cast("i32"), nowhere)

    return cast(reduce(map([tensor, extreme], place), choice, [axis]), "i64")


def scan(tensor: ir.Value, kind: str, axis: int, exclusive: bool = False, reverse: bool = False) -> ir.Value:
    """Running `kind` (sum, product, max, min) along `axis`."""
    options: dict[str, Any] = {"kind": kind, "axis": axis, "exclusive": int(exclusive), "reverse": int(reverse)}
    return build("scan", shape_of(tensor), element_of(tensor), [tensor], **options)


def sort(keys: ir.Value, run: int = 0) -> ir.Value:
    """Positions (i32) along the last axis in the order of unsigned keys, inside runs of `run` elements (0: all)."""
    return build("sort", shape_of(keys), "i32", [keys], run=run)


SCATTERED = ("f32", "f64", "i32", "i64", "ui32", "ui64")  # what atomic operations combine


def scatter(
    places: ir.Value,
    updates: ir.Value,
    kind: str,
    shape: Sequence[ExpressionLike] = (),
    initial: ir.Value | None = None,
) -> ir.Value:
    """`initial`, or zeros of `shape`, with every update combined (sum, product, max) at its flat place; of one of the
    types `SCATTERED`.
    """
    if initial is None:
        return build("scatter", shape, element_of(updates), [places, updates], kind=kind)
    return build("scatter", shape_of(initial), element_of(updates), [places, updates, initial], kind=kind)
