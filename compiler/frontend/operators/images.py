"""ImageDecoder: the bytes of an image file become pixels, on the host.

In: a vector of bytes. Out: [height, width, channels] of ui8; the host finds the sizes. Running it needs Pillow.
"""

from __future__ import annotations

from mlir import ir

from ....dialects import graph_builder as build
from ....runtime.symbolic import Expression
from ..errors import Unsupported
from ..node import Node
from ..registry import onnx_operator

CHANNELS = {"RGB": 3, "BGR": 3, "Grayscale": 1}


@onnx_operator("ImageDecoder")
def image_decoder(node: Node) -> ir.Value:
    pixels = node.get("pixel_format", "RGB")
    if pixels not in CHANNELS:
        raise Unsupported(f"ImageDecoder with pixel_format '{pixels}'", ", ".join(CHANNELS))
    symbols = node.importer.fresh_symbols(node.operator, 2)
    value = node.host("image_decoder", [node.input(0)], 1, {"pixel_format": pixels}, symbols=symbols)[0]
    return build.upload(value, [*(Expression.symbol(symbol) for symbol in symbols), CHANNELS[pixels]], "ui8")
