"""How far each precision is from onnxruntime's float32, model by model, on the emulator.

    python -m benchmarks.precision [NAME ...]

In: models of tests/support/zoo.py by name, the small ones unless told. Out: the largest difference of any output at
the first of the model's shapes, relative to the largest value of that output.
"""

from __future__ import annotations

import sys

import onnxruntime
from benchmarks.comparing import largest_difference
from rich.console import Console
from rich.table import Table
from tests.support.zoo import MODELS

import tilewright

PRECISIONS = ("strict", "tf32", "f16", "bf16")
DEFAULT = [name for name, model in MODELS.items() if model.gigaflop < 0.1]


def difference(name: str, precision: str) -> float:
    """The largest relative difference of one model in one precision."""
    model = MODELS[name]
    inputs = model.inputs()[0]
    reference = onnxruntime.InferenceSession(model.prototype().SerializeToString())
    names = [output.name for output in reference.get_outputs()]
    expected = dict(zip(names, reference.run(None, inputs), strict=True))
    with tilewright.compile(model.load(), precision=precision).session("emulator") as session:
        return largest_difference(session.run(inputs), expected)


def main() -> None:
    """Print one row a model."""
    onnxruntime.set_default_logger_severity(3)
    table = Table("model", *PRECISIONS, title="largest difference / largest output")
    for name in sys.argv[1:] or DEFAULT:
        table.add_row(name, *(f"{difference(name, precision):.1e}" for precision in PRECISIONS))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
