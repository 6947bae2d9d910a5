"""TopK by counting: every element's rank is how many others come before it.

In: a tensor and k. Out: the k largest or smallest along one axis, in order, with their positions. Quadratic
in the length of the axis and free of sorting networks: two reductions that fuse with their maps.
"""

from __future__ import annotations

from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.symbolic import Expression
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator

LONGEST = 8192  # n*n comparisons a row: beyond this a real sort is needed


@onnx_operator("TopK")
def top_k(node: Node) -> list[ir.Value]:
    """Of equal elements the first comes first."""
    x = node.input(0)
    axis = node.axis(node.get("axis", -1), x.rank)
    length = x.shape[axis]
    static = length.as_constant()
    if static is not None and static > LONGEST:
        raise Unsupported(f"TopK along {static} elements", f"up to {LONGEST}")
    count = Expression.constant(int(node.get("k"))) if node.get("k") is not None else node.sizes(1, "k")[0]
    descending = bool(node.get("largest", 1))
    table = x.value
    rank = x.rank
    last = rank  # the compared element's axis is added at the end

    def precedes() -> Scalar:
        """1 where the element at `last` comes before the one at `axis`."""
        places = [build.index(number) for number in range(rank)]
        mine = build.element_at(table, places)
        own, other_place = places[axis], build.index(last)
        other = build.element_at(table, [*places[:axis], other_place, *places[axis + 1 :]])
        ahead = other.gt(mine) if descending else other.lt(mine)
        return (ahead | (other.eq(mine) & other_place.lt(own))).cast("i32")

    compared = node.map([], precedes, shape=[*x.shape, length])
    order = build.remove_dimensions(build.reduce(compared, "sum", [last]), [last])
    outputs = [*x.shape[:axis], count, *x.shape[axis + 1 :]]

    def chosen(dtype: str, pick: bool) -> ir.Value:
        """The element (or its position) whose rank is the output's position along `axis`."""

        def body() -> Scalar:
            places = [build.index(number) for number in range(rank)]
            there = [*places[:axis], build.index(last), *places[axis + 1 :]]
            hit = build.element_at(order, there).cast("i64").eq(places[axis])
            value = build.element_at(table, there).cast(dtype) if pick else build.index(last)
            return hit.select(value, 0)

        spread = node.map([], body, shape=[*outputs, length])
        return build.remove_dimensions(build.reduce(spread, "sum", [last]), [last])

    wide = {"f16": "f32", "bf16": "f32"}.get(x.dtype, x.dtype)
    return [build.cast(chosen(wide, True), x.dtype), chosen("i64", False)]
