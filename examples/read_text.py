"""Read a line of text in a picture: Pillow draws the text, the PP-OCR recogniser reads it back.

    python examples/read_text.py ["some text" ...]

The engine takes pictures of any width: two lines of different lengths run on one compilation.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import onnx
from models import fetch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import tilewright

HEIGHT = 48  # what the model was trained on; the width is free
SAMPLES = ["tilewright", "one engine, all widths"]


def draw(text: str) -> NDArray[np.float32]:
    """A picture [1, 3, 48, width] of black text on white, values from -1 to 1."""
    font = ImageFont.load_default(30)
    width = int(font.getlength(text)) + 16
    picture = Image.new("RGB", (width, HEIGHT), "white")
    ImageDraw.Draw(picture).text((8, 6), text, "black", font)
    channels_first = np.asarray(picture, np.float32).transpose(2, 0, 1) / 127.5 - 1
    return channels_first[None]


def characters(model: onnx.ModelProto) -> list[str]:
    """The alphabet, from the model's own metadata: class 0 is CTC's blank, the last one is the space."""
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return ["", *metadata["character"].splitlines(), " "]


def decode(probabilities: NDArray[np.float32], alphabet: list[str]) -> tuple[str, float]:
    """Greedy CTC decoding of [time, classes]: the best class a step, repeats merged, blanks dropped.

    Returns the text and the mean probability of its characters.
    """
    best = probabilities.argmax(axis=1)
    kept = (best != 0) & np.concatenate([[True], best[1:] != best[:-1]])
    text = "".join(alphabet[index] for index in best[kept])
    return text.strip(), float(probabilities.max(axis=1)[kept].mean()) if kept.any() else 0.0


def main() -> None:
    """Draw and read each text."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("texts", nargs="*", default=SAMPLES)
    texts: list[str] = parser.parse_args().texts
    path = fetch("ppocr-recogniser")
    alphabet = characters(onnx.load(path))

    started = time.perf_counter()
    engine = tilewright.compile(path)
    print(f"compiled in {time.perf_counter() - started:.2f} s: {len(engine.kernels)} kernels")
    with engine.session() as session:
        print(f"running on {session.device.description}")
        for text in texts:
            picture = draw(text)
            started = time.perf_counter()
            (probabilities,) = session.run({"x": picture}).values()
            seconds = time.perf_counter() - started
            read, probability = decode(probabilities[0], alphabet)
            print(f"drawn {text!r} ({picture.shape[3]} pixels wide)")
            print(f"read  {read!r} with probability {probability:.1%} in {seconds:.2f} s")


if __name__ == "__main__":
    main()
