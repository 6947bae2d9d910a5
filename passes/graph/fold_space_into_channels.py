"""Pass `fold-space-into-channels`: first layers with a stride see as many channels as tensor cores want.

In: convolutions of a few channels (an image's three) with a stride and constant weights. Out: convolutions with stride
one of blocks of pixels, stride x stride of them with all their channels in a line, and the movement of data that makes
the blocks; together with padding and change of layout it becomes one small kernel. The products are the same, and some
with zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mlir import ir

from ...dialects import graph_builder as build
from ...dialects.tensors import element_of, shape_of
from ...runtime.dtypes import dtype
from ...runtime.symbolic import expression
from ..target import find_target
from ..unit import Unit, WeightStore, register_pass
from .given_weights import replace_convolutions
from .plan_precision import narrow_type
from .rewriting import Array, integers

MOST_CHANNELS = 4
LEAST_DEPTH = 64  # of k, for wgmma
MOST_WORK = 3  # of the new products over the old ones
_LINES = (16, 32)  # channels of a block that fill a line; above, multiples of 8 do


@register_pass("fold-space-into-channels", requires="graph", ensures="graph")
def fold_space_into_channels(unit: Unit) -> None:
    """Let first layers with a stride multiply blocks of pixels.

    before::

        %0 = "graph.convolution"(%x, %w) {strides = [2, 2], pads = ["3", "3", "3", "3"], ...}
            : (tensor<?x3x224x224xf32>, tensor<64x3x7x7xf32>) -> tensor<?x64x112x112xf32>

    after::

        %p = "graph.pad"(%x, %zero)                  // in f16, 230 x 230
        %b = reshape and transpose of %p             // tensor<?x115x115x12xf16>, then 16 channels
        %0 = "graph.convolution"(%b, %w2) {strides = [1, 1], pads = ["0", "0", "0", "0"], ...}
            : (tensor<?x16x115x115xf16>, tensor<64x16x4x4xf16>) -> tensor<?x64x112x112xf32>

    A value that is not finite then reaches the windows whose blocks it is in, as NaN: only in f16 and bf16.
    """
    if not find_target(unit.target).wgmma:
        return

    def folded(operation: ir.Operation, handle: str) -> ir.Value | None:
        half = narrow_type(unit, operation.operands[0])
        layer = _first_layer(operation) if half else None
        return _folded(operation, layer, handle, half, unit.weights) if half and layer else None

    replace_convolutions(unit, "graph.convolution", folded)


@dataclass(frozen=True)
class FirstLayer:
    """Sizes of a convolution in two dimensions; `blocks` and `taps` count blocks of stride x stride pixels."""

    channels: int
    sizes: tuple[int, int]
    strides: tuple[int, int]
    low: tuple[int, int]
    blocks: tuple[int, int]
    taps: tuple[int, int]

    @property
    def depth(self) -> int:
        """Channels of a block."""
        return self.channels * self.strides[0] * self.strides[1]

    @property
    def padded(self) -> int:
        """The same with those that are zero."""
        return next((line for line in _LINES if self.depth <= line), -(-self.depth // 8) * 8)


def _first_layer(operation: ir.Operation) -> FirstLayer | None:
    if len(shape_of(operation.operands[0])) != 4:
        return None
    strides, dilations = integers(operation, "strides"), integers(operation, "dilations")
    pads = [expression(ir.StringAttr(item).value).as_constant() for item in ir.ArrayAttr(operation.attributes["pads"])]
    known = [size.as_constant() for size in shape_of(operation.operands[0])[1:]]
    channels, height, width = known
    if channels is None or height is None or width is None or None in pads or set(dilations) != {1}:
        return None
    if channels > MOST_CHANNELS or min(strides) < 2:
        return None
    kernel = [size.as_constant() or 0 for size in shape_of(operation.operands[1])[2:]]
    results = [size.as_constant() or 0 for size in shape_of(operation.results[0])[2:]]
    taps = [-(-size // step) for size, step in zip(kernel, strides, strict=True)]
    blocks = [count + tap - 1 for count, tap in zip(results, taps, strict=True)]
    low = [pad or 0 for pad in pads[:2]]
    layer = FirstLayer(channels, (height, width), _pair(strides), _pair(low), _pair(blocks), _pair(taps))
    work = taps[0] * taps[1] * layer.padded
    # Without zeros at the end of a line nothing would keep the movement of data out of the product's kernel.
    suits = layer.padded > layer.depth and work >= LEAST_DEPTH
    return layer if suits and work <= MOST_WORK * channels * kernel[0] * kernel[1] else None


def _pair(values: Sequence[int]) -> tuple[int, int]:
    return values[0], values[1]


def _folded(
    operation: ir.Operation, layer: FirstLayer, handle: str, half: str, weights: WeightStore
) -> ir.Value:
    """In channels-last, narrowed and padded last, so that a kernel of its own writes the blocks as they are read."""
    tensor, old = operation.operands
    zero = build.constant(0.0, half)
    reach = [count * step for count, step in zip(layer.blocks, layer.strides, strict=True)]
    high = [own - first - size for own, first, size in zip(reach, layer.low, layer.sizes, strict=True)]
    padded = build.pad(build.cast(tensor, half), zero, [0, 0, *layer.low], [0, 0, *high])
    (down, across), (rows, columns), batch = layer.strides, layer.blocks, shape_of(tensor)[0]
    cut = build.reshape(padded, [batch, layer.channels, rows, down, columns, across])
    blocks = build.reshape(build.transpose(cut, [0, 2, 4, 3, 5, 1]), [batch, rows, columns, layer.depth])
    lines = build.pad(blocks, zero, [0] * 4, [0, 0, 0, layer.padded - layer.depth])
    fresh = weights.add(f"{handle}.blocks", lambda: folded_weight(weights.get(handle), layer, dtype(half).numpy))
    weight = build.weight(fresh, [shape_of(old)[0], layer.padded, *layer.taps], half)
    image, element = build.transpose(lines, [0, 3, 1, 2]), element_of(operation.results[0])
    sums = build.convolution(image, weight, 1, [1, 1], [0] * 4, [1, 1], "f32")
    return build.cast(sums, element)


def folded_weight(array: Array, layer: FirstLayer, kind: np.dtype[Any]) -> Array:
    """The weights [O, C, kernel...] for blocks: [O, stride * stride * C and zeros, taps...]."""
    outputs, channels, *kernel = array.shape
    (down, across), (rows, columns) = layer.strides, layer.taps
    ends = [(0, tap * step - size) for tap, step, size in zip(layer.taps, layer.strides, kernel, strict=True)]
    whole = np.pad(array, [(0, 0), (0, 0), *ends])
    cut = whole.reshape(outputs, channels, rows, down, columns, across).transpose(0, 3, 5, 1, 2, 4)
    blocks = cut.reshape(outputs, layer.depth, rows, columns)
    return np.pad(blocks, [(0, 0), (0, layer.padded - layer.depth), (0, 0), (0, 0)]).astype(kind)
