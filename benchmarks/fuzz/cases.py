"""A failing graph as a folder: model.onnx, the data of its inputs, the model as text, and how to run it again.

In: a model and data, or such a folder. Out: the folder, or its verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.printer

from .differential import Verdict, judge
from .reference import Arrays

MODEL, TEXT = "model.onnx", "model.txt"
LONGEST_CONSTANT = 128  # bytes that the text shows


def save_case(
    folder: Path, model: onnx.ModelProto, data: Sequence[Arrays], options: list[str], notes: str = ""
) -> None:
    """Write a case."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL).write_bytes(model.SerializeToString())
    (folder / "options").write_text(" ".join(options))
    for old in folder.glob("data*.npz"):
        old.unlink()
    for place, arrays in enumerate(data):
        np.savez(folder / f"data{place}.npz", **arrays)  # type: ignore[arg-type]
    again = f"python -m benchmarks.fuzz case {folder}"
    text = onnx.printer.to_text(_without_weights(model))
    (folder / TEXT).write_text(f"{notes}\n{again}\n\n{text}\n")


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Large constants by type and shape only, so that the text can be read."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if len(tensor.raw_data) > LONGEST_CONSTANT:
            tensor.ClearField("raw_data")
    return copy


def load_case(folder: Path) -> tuple[onnx.ModelProto, list[Arrays], list[str]]:
    """What `save_case` wrote: `options` are target and precision, and `watched` for the sanitizer."""
    data = [dict(np.load(path)) for path in sorted(folder.glob("data*.npz"))]
    return onnx.load(folder / MODEL), data, (folder / "options").read_text().split()


def judge_folder(folder: Path) -> Verdict:
    """Run a case again."""
    model, data, options = load_case(folder)
    target, precision, *watched = options
    return judge(model, data, target, precision, is_watched=bool(watched))
