"""What type of file is this? Files go in, magika's answer for each comes out, from an engine compiled here.

    python examples/file_types.py [FILE ...]        # without arguments: some files of this repository

The whole journey: fetch the model, compile it, run it on the GPU or the emulator, say what was made where.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path

import numpy as np
from models import fetch
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, track
from rich.table import Table

import tilewright
from tilewright.compiler.compilation import Progress as StageProgress

ROOT = Path(__file__).resolve().parent.parent
SHOWN = ["README.md", "Makefile", "pyproject.toml", ".ci/run", "examples/file_types.py", "docs/interfaces.md"]
SHOWN += ["tests/models/graphs/resnet-small-legacy.onnx", ".gitignore"]
BATCH = 4  # files at a time: the batch is a dynamic dimension, so the last batch may be smaller


def features(content: bytes, settings: dict[str, int]) -> NDArray[np.int32]:
    """The 2048 numbers that magika takes: the first and last 1024 bytes, without white space at the ends.

    As in magika's own `_extract_features_from_seekable`; bytes are 0 to 255, what is missing is 256.
    """
    half, block, padding = settings["beg_size"], settings["block_size"], settings["padding_token"]
    begin = content[:block].lstrip()[:half]
    end = content[-block:].rstrip()[-half:]
    numbers = np.full(2 * half, padding, np.int32)
    numbers[: len(begin)] = list(begin)
    numbers[2 * half - len(end) :] = list(end)
    return numbers


def stage_table(index: Path) -> Table:
    """The time per stage, from the index of the dump folder."""
    table = Table("stage", "milliseconds", title="compiling, stage by stage")
    with index.open(newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            table.add_row(row["pass"], row["milliseconds"])
    return table


def main() -> None:
    """Compile, run, and print one line a file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, help="default: some files of this repository")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "demo", help="for engine and dumps")
    chosen = parser.parse_args()
    console = Console()
    files = chosen.files or [ROOT / name for name in SHOWN]
    try:
        contents = [path.read_bytes() for path in files]
    except OSError as error:
        parser.error(f"cannot read {error.filename}: {error.strerror}")

    console.print("fetching magika 1.0.3 (a model of 3 MB that knows 214 types of file)")
    model = fetch("magika")
    settings = json.loads(fetch("magika-config").read_text())
    labels = settings["target_labels_space"]

    chosen.output.mkdir(parents=True, exist_ok=True)
    dumps, engine_file = chosen.output / "ir", chosen.output / "magika.tw"
    started = time.perf_counter()
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("compiling")

        def show(at: StageProgress) -> None:
            kernels = f", kernel {at.done} of {at.kernels}" if at.kernels else ""
            bar.update(task, description=at.stage + kernels, completed=at.number, total=at.total)

        engine = tilewright.compile(model, dump=dumps, progress=show)
    compiled = time.perf_counter() - started
    engine.save(engine_file)
    console.print(stage_table(dumps / "index.tsv"))

    numbers = [features(content, settings) for content in contents]
    batches = [np.stack(numbers[first : first + BATCH]) for first in range(0, len(numbers), BATCH)]
    with tilewright.load(engine_file).session() as session:
        name, answer = session.inputs[0].name, session.outputs[0].name
        started = time.perf_counter()
        progress = track(batches, f"running on {session.device.name}", console=console, transient=True)
        rows = np.concatenate([session.run({name: batch})[answer] for batch in progress])
        ran = time.perf_counter() - started
        device = session.device.description

    table = Table("file", "type", "probability")
    for path, row in zip(files, rows, strict=True):
        shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        table.add_row(escape(str(shown)), labels[int(row.argmax())], f"{row.max():.1%}")
    console.print(table)
    print(f"compiled in {compiled:.2f} s: {len(engine.kernels)} kernels for {engine.target}")
    print(f"ran {len(files)} files in {ran:.2f} s on {device}")
    print(f"engine   {engine_file}\nIR dumps {dumps}")


if __name__ == "__main__":
    main()
