"""Pass `plain-transposed-convolutions`: those that are a product, or an ordinary convolution, in disguise.

In: transposed convolutions of one group with constant weights. Out: where windows stand side by side (kernel = stride,
as U-Nets enlarge), a product of pixels and all taps, whose columns move to their pixels; with a stride of one, the
convolution with the weights turned round. Both then have the programs of their kind, with wgmma. Others keep theirs.
"""

from __future__ import annotations

import math

from mlir import ir

from ...dialects import graph_builder as build
from ...dialects.tensors import element_of, shape_of
from ...runtime.symbolic import Expression
from ..unit import Unit, WeightStore, register_pass
from .given_weights import replace_convolutions
from .rewriting import expressions, integers


@register_pass("plain-transposed-convolutions", requires="graph", ensures="graph")
def plain_transposed_convolutions(unit: Unit) -> None:
    """Replace transposed convolutions that are something simpler.

    before::

        %0 = "graph.convolution_transpose"(%x, %w) {strides = [2, 2], pads = ["0", "0", "0", "0"], ...}
            : (tensor<?x64x8x8xf32>, tensor<64x32x2x2xf32>) -> tensor<?x32x16x16xf32>

    after::

        %1 = "graph.transpose"(%x)                  // channels last
        %2 = "graph.matmul"(%1, %w2)                : (tensor<?x8x8x64xf32>, tensor<64x128xf32>) -> ...
        %0 = reshape, transpose, reshape, transpose of %2
    """

    def simpler(operation: ir.Operation, handle: str) -> ir.Value | None:
        return _product(operation, handle, unit.weights) or _convolution(operation, handle, unit.weights)

    replace_convolutions(unit, "graph.convolution_transpose", simpler)


def _product(operation: ir.Operation, handle: str, weights: WeightStore) -> ir.Value | None:
    """The product, where every result pixel belongs to one input pixel and all of them are wanted."""
    tensor, kernel = operation.operands
    batch, _, *sizes = shape_of(tensor)
    inputs, outputs, *taps = (size.as_constant() or 0 for size in shape_of(kernel))
    rank, strides = len(taps), list(integers(operation, "strides"))
    result = shape_of(operation.results[0])
    whole = tuple(size * step for size, step in zip(sizes, strides, strict=True))
    padded = any(pad != 0 for pad in expressions(operation, "pads"))
    if taps != strides or math.prod(taps) == 1 or padded or result[2:] != whole:
        return None
    order = [0, *range(2, rank + 2), 1]
    fresh = weights.add(
        f"{handle}.taps", lambda: weights.get(handle).transpose(order).reshape(inputs, math.prod(taps) * outputs)
    )
    weight = build.weight(fresh, [inputs, math.prod(taps) * outputs], element_of(kernel))
    pixels = build.transpose(tensor, order)
    product = build.matmul(pixels, weight, element=element_of(operation.results[0]))
    cut = build.reshape(product, [batch, *sizes, *taps, outputs])
    inner = [axis for own in range(rank) for axis in (1 + own, 1 + rank + own)]
    image = build.reshape(build.transpose(cut, [0, *inner, 2 * rank + 1]), [batch, *whole, outputs])
    return build.transpose(image, [0, rank + 1, *range(1, rank + 1)])


def _convolution(operation: ir.Operation, handle: str, weights: WeightStore) -> ir.Value | None:
    """The ordinary convolution, for a stride of one: weights turned round, padding so that windows reach as far."""
    tensor, kernel = operation.operands
    if set(integers(operation, "strides")) != {1}:
        return None
    inputs, outputs, *taps = (size.as_constant() or 0 for size in shape_of(kernel))
    dilations, rank = list(integers(operation, "dilations")), len(taps)
    reach = [(size - 1) * step for size, step in zip(taps, dilations, strict=True)]
    low = [own - pad for own, pad in zip(reach, expressions(operation, "pads")[:rank], strict=True)]
    high = [
        wanted - size - first + own
        for wanted, size, first, own in zip(
            shape_of(operation.results[0])[2:], shape_of(tensor)[2:], low, reach, strict=True
        )
    ]
    pads: list[Expression] = [*low, *high]
    if any(pad.as_constant() is None or not pad.is_nonnegative() for pad in pads):
        return None
    turned = (slice(None), slice(None), *[slice(None, None, -1)] * rank)
    fresh = weights.add(f"{handle}.turned", lambda: weights.get(handle)[turned].swapaxes(0, 1))
    weight = build.weight(fresh, [outputs, inputs, *taps], element_of(kernel))
    return build.convolution(tensor, weight, 1, [1] * rank, pads, dilations, element_of(operation.results[0]))
