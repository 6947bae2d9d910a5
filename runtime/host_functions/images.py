"""Decoding of image files.

In: the bytes of a file. Out: its pixels. It uses Pillow, which is asked for only where a model decodes images.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import UnsupportedError
from . import HostCall, host_function


@host_function("image_decoder")
def image_decoder(call: HostCall) -> Sequence[Any]:
    """Pixels [height, width, channels], none for what is no image; the symbols are height and width."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise UnsupportedError("ImageDecoder needs Pillow to run: pip install pillow") from None
    pixel_format = call.attributes["pixel_format"]
    channels = 1 if pixel_format == "Grayscale" else 3
    try:
        image = Image.open(io.BytesIO(call.inputs[0].tobytes()))
        pixels = np.array(image.convert("L" if channels == 1 else "RGB"), np.uint8)
    except (UnidentifiedImageError, OSError, ValueError):
        pixels = np.zeros((0, 0, channels), np.uint8)
    pixels = pixels.reshape(*pixels.shape[:2], channels)
    call.symbols = pixels.shape[:2]
    return [np.ascontiguousarray(pixels[..., ::-1] if pixel_format == "BGR" else pixels)]
