"""Products of matrices that a reshape flattened and another one restores are products of the tensor as it was.

In: reshape [b, s, k] -> [b*s, k], a matmul, maps with a bias, reshape -> [b, s, n], as exporters write linear layers
that are Gemm nodes. Out: the matmul and its maps in [b, s, n]. Their readers, which have that shape, then share the
product's kernel, and what stands in front meets its own reshape and cancels it.
"""

from __future__ import annotations

from mlir import ir

from ...dialects import graph_builder
from ...dialects.tensors import Shape, element_of, rank_of, shape_of, tensor_type
from ...runtime.symbolic import ONE
from .rewriting import building_before, captures, clone_into, integer, producer, replace

MATRIX = 2  # dimensions
MOST_MAPS = 4  # behind a product: a bias, a scale, roundings


def unflatten_product(reshape: ir.Operation) -> bool:
    """Compute what is reshaped in the reshape's shape, where a product of a flattened tensor makes it; True when it was
    done.

    before::

        %0 = "graph.reshape"(%x) : (tensor<2x8x32xf32>) -> tensor<16x32xf32>
        %1 = "graph.matmul"(%0, %w) : (tensor<16x32xf32>, tensor<32x64xf32>) -> tensor<16x64xf32>
        %2 = "graph.reshape"(%1) : (tensor<16x64xf32>) -> tensor<2x8x64xf32>

    after::

        %2 = "graph.matmul"(%x, %w) : (tensor<2x8x32xf32>, tensor<32x64xf32>) -> tensor<2x8x64xf32>
    """
    source, shape = reshape.operands[0], shape_of(reshape.results[0])
    chain = _chain(source)
    if chain is None or len(shape) <= MATRIX or shape[-1] != shape_of(source)[-1]:
        return False
    product, maps = chain[0], chain[1:]
    with building_before(reshape):
        leading = (*shape[:-1], shape_of(product.operands[0])[-1])
        left = graph_builder.reshape(product.operands[0], leading)
        values = {product.operands[0]: left}
        for operation in (product, *maps):
            made = clone_into(operation, values, ir.InsertionPoint(reshape)).results[0]
            made.set_type(tensor_type(shape, element_of(made)))
            values[operation.results[0]] = made
    replace(reshape, [values[source]])
    return True


def _chain(value: ir.Value) -> list[ir.Operation] | None:
    """The product and the maps behind it, each with the next one as its only reader; None where there is none."""
    maps: list[ir.Operation] = []
    while (maker := producer(value)) is not None and len(list(value.uses)) == 1:
        if maker.name == "graph.matmul":
            return [maker, *reversed(maps)] if _is_flattened(maker) else None
        inner = _streamed(maker) if maker.name == "graph.map" and len(maps) < MOST_MAPS else None
        if inner is None:
            return None
        maps.append(maker)
        value = inner
    return None


def _is_flattened(product: ir.Operation) -> bool:
    left = producer(product.operands[0])
    return (
        left is not None
        and left.name == "graph.reshape"
        and all(rank_of(operand) == MATRIX for operand in product.operands)
        and not integer(product, "transpose_left")
    )


def _streamed(pointwise: ir.Operation) -> ir.Value | None:
    """The one tensor of the map's own shape that it reads, where all others are rows: they broadcast in any shape."""
    shape = shape_of(pointwise.results[0])
    if captures(pointwise, "graph.index") or captures(pointwise, "graph.element_at"):
        return None
    tensors = dict.fromkeys(inner.operands[0] for inner in captures(pointwise))
    streamed = [tensor for tensor in tensors if shape_of(tensor) == shape]
    others = [tensor for tensor in tensors if tensor not in streamed]
    return streamed[0] if len(streamed) == 1 and all(_is_row(shape_of(own)) for own in others) else None


def _is_row(shape: Shape) -> bool:
    return all(size == ONE for size in shape[:-1])
