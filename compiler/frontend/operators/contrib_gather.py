"""onnxruntime's gather of quantised rows (com.microsoft), as exporters of language models write 4-bit embeddings.

In: integers in blocks with a scale each, and indices. Out: the chosen slices, dequantised while they are read.
"""

from __future__ import annotations

from mlir import ir

from ....dialects import graph_builder as build
from ....dialects.scalar import Scalar
from ....runtime.symbolic import Expression
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator
from .contrib import DOMAIN
from .indexing import in_bounds


@onnx_operator("GatherBlockQuantized", domain=DOMAIN)
def gather_block_quantized(node: Node) -> ir.Value:
    """Slices along `gather_axis`; every `block_size` elements along `quantize_axis` have one scale and zero point.

    Bytes hold one element of 8 bits or two of 4 along the last axis, the first in the low half.
    """
    data, indices, scales = node.input(0), node.input(1), node.input(2)
    gathered = node.axis(node.get("gather_axis", 0), data.rank)
    blocked = node.axis(node.get("quantize_axis", 1), data.rank)
    block, bits = int(node.get("block_size", 128)), int(node.get("bits", 4))
    if bits not in (4, 8):
        raise Unsupported(f"GatherBlockQuantized of {bits} bits", "4, 8")
    per_byte = 8 // bits if data.dtype == "ui8" else 1
    middle = (1 << (bits - 1)) if data.dtype == "ui8" else 0
    zeros, last = node.optional(3), data.rank - 1
    sizes = [size * per_byte if axis == last else size for axis, size in enumerate(data.shape)]

    def field(table: ir.Value, places: list[Scalar]) -> Scalar:
        """An element of a table whose last axis may be packed, as f32."""
        value = build.element_at(table, [*places[:-1], places[-1] / per_byte])
        if per_byte == 1:
            return value.cast("f32")
        shift = places[-1].remainder(per_byte).cast("i32") * bits
        return (value.cast("i32").shift_right(shift) & ((1 << bits) - 1)).cast("f32")

    def body() -> Scalar:
        own = [build.index(axis) for axis in range(len(shape))]
        chosen = build.element_at(indices.value, own[gathered : gathered + indices.rank]).cast("i64")
        places = [*own[:gathered], in_bounds(chosen, sizes[gathered]), *own[gathered + indices.rank :]]
        of_block = [place / block if axis == blocked else place for axis, place in enumerate(places)]
        zero = field(zeros.value, of_block) if zeros is not None else float(middle)
        scale = build.element_at(scales.value, of_block)
        return ((field(data.value, places) - zero) * scale.cast("f32")).cast(scales.dtype)

    shape: list[Expression] = [*sizes[:gathered], *indices.shape, *sizes[gathered + 1 :]]
    return node.map([], body, shape=shape)
