"""Det: determinants of small square matrices.

In: [..., M, M]. Out: [...]: Gaussian elimination with row exchange, unrolled in one map.
"""

from __future__ import annotations

from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator

LARGEST = 8  # rows: the unrolled elimination has M^3 / 3 steps in registers


@onnx_operator("Det")
def determinant(node: Node) -> ir.Value:
    x = node.input(0)
    size = x.shape[-1].as_constant()
    if size is None or x.shape[-1] != x.shape[-2] or size > LARGEST:
        raise Unsupported(f"Det of matrices {x.shape[-2]} x {x.shape[-1]}", f"static square ones up to {LARGEST}")
    table = x.value

    def body() -> Scalar:
        batch = [build.index(axis) for axis in range(x.rank - 2)]
        wide = "f64" if x.dtype == "f64" else "f32"
        rows = [[build.element_at(table, [*batch, i, j]).cast(wide) for j in range(size)] for i in range(size)]
        return _eliminated(rows, wide).cast(x.dtype)

    return node.map([], body, shape=x.shape[:-2])


def _eliminated(rows: list[list[Scalar]], dtype: str) -> Scalar:
    result = Scalar.constant(1.0, dtype)
    for column in range(len(rows)):
        for other in range(column + 1, len(rows)):  # the largest element of the column comes to the top
            larger = rows[other][column].abs().gt(rows[column][column].abs())
            pairs = list(zip(rows[column], rows[other], strict=True))
            rows[column] = [larger.select(b, a) for a, b in pairs]
            rows[other] = [larger.select(a, b) for a, b in pairs]
            result = larger.select(-result, result)
        pivot = rows[column][column]
        result = result * pivot
        divisor = pivot.eq(0.0).select(1.0, pivot)  # a column of zeros makes the determinant zero already
        for other in range(column + 1, len(rows)):
            factor = rows[other][column] / divisor
            rows[other] = [b - a * factor for a, b in zip(rows[column], rows[other], strict=True)]
    return result
