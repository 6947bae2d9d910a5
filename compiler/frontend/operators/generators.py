"""Operators that make tensors out of sizes.

In: shapes, limits, constants. Out: maps over graph.index and graph.dimension, which fuse into their users.
"""

from __future__ import annotations

import math

import numpy as np
from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.dtypes import DTYPES
from ....runtime.errors import ModelError
from ....runtime.symbolic import Expression, maximum
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator
from ..shape_arithmetic import fill_value
from ..tensor import Ratio, Tensor

MOST_STORED = 1 << 16  # elements of a constant tensor of one value that is kept as such

@onnx_operator("Constant")
def constant(node: Node) -> Tensor:
    if node.get("value") is not None:
        return node.importer.constant_of(node.get("value"), node.outputs[0])
    if node.get("sparse_value") is not None:
        return node.importer.sparse_constant(node.get("sparse_value"))
    for name in ("value_string", "value_strings"):
        if node.get(name) is not None:
            return node.literal(np.array(node.get(name), dtype=object), "string")
    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    for name, kind in kinds.items():
        if node.get(name) is not None:
            return node.literal(np.array(node.get(name), dtype=kind), "f32" if kind is np.float32 else "i64")
    raise ModelError(f"node '{node.name}' (Constant) has no value")


@onnx_operator("ConstantOfShape")
def constant_of_shape(node: Node) -> ir.Value | Tensor:
    """Small static ones are constants; large ones are computed where they are read, and never stored."""
    shape = node.sizes(0, "shape")
    value, dtype = fill_value(node)
    sizes = [size.as_constant() for size in shape]
    if any(size is not None and size < 0 for size in sizes):
        raise ModelError(f"ConstantOfShape with a negative size: {[str(size) for size in shape]}")
    known = tuple(size for size in sizes if size is not None)
    if len(known) == len(sizes) and math.prod(known) <= MOST_STORED:
        return node.literal(np.full(known, value, dtype=DTYPES[dtype].numpy), dtype)
    return node.map([], lambda: Scalar.constant(value, dtype), shape=shape)


@onnx_operator("Range")
def arange(node: Node) -> ir.Value:
    """start + position * step; the host finds how many there are where that depends on data."""
    known = [node.input(position).known() for position in range(3)]
    if any(item is None for item in known):
        count = node.found("range_size", [node.input(position) for position in range(3)], 1)[0]
    else:
        start, limit, step = (item.ravel()[0] for item in known if item is not None)
        count = _count(node, start, limit, step)
    first, stride = node.input(0), node.input(2)
    return node.map([first, stride], lambda s, d: s + build.index(0).cast(s.dtype) * d, shape=[count])


def _count(node: Node, start: Expression | Ratio, limit: Expression | Ratio, step: Expression | Ratio) -> Expression:
    """max(ceil((limit - start) / step), 0)"""
    first, last, delta = (item if isinstance(item, Ratio) else Ratio(item) for item in (start, limit, step))
    stride = delta.numerator.as_constant()
    if not stride:
        raise Unsupported("Range with a dynamic step", "a constant step other than 0", node.sources)
    sign = 1 if stride > 0 else -1
    # The quotient of the three fractions, with everything over one positive denominator
    span = (last.numerator * first.denominator - first.numerator * last.denominator) * (sign * delta.denominator)
    count = span.ceil_divide(last.denominator * first.denominator * abs(stride))
    return count if count.is_nonnegative() else maximum(count, 0)


@onnx_operator("EyeLike")
def eye_like(node: Node) -> ir.Value:
    kind = node.get("dtype")
    dtype = node.dtype(0) if kind is None else node.importer.element_name(kind)
    offset = int(node.get("k", 0))
    return node.map([], lambda: (build.index(1) - build.index(0)).eq(offset).cast(dtype), shape=node.shape(0))


@onnx_operator("Shape")
def shape_of(node: Node) -> Tensor:
    """Shape arithmetic answers this before an importer is asked; this entry lists the operator as
    supported.
    """
    raise Unsupported("Shape of an unknown tensor")


@onnx_operator("Size")
def size_of(node: Node) -> Tensor:
    """See `Shape`."""
    raise Unsupported("Size of an unknown tensor")
