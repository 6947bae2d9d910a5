"""Every model, compiled and compared: those of the tests, larger ones, quantised forms and exported files.

In: the tables of tests/support/zoo.py, and files that `benchmarks.export_models --small DIR` wrote. Out: a table of
models and shapes with the largest difference from onnxruntime, launches and seconds, and JSON.

    python -m benchmarks.models [--only PART] [--quantized] [--exported DIR] [--json benchmarks/results/models.json]

Runs on the emulator. Rows of an earlier run that the file already holds are kept; delete a row to measure it again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument
from tests.support.quantizing import FORMS, quantized
from tests.support.zoo import LARGE, MODELS, Inputs, Model, exported

import tilewright
from tilewright.runtime.errors import Error

QUANTIZED = ("resnet-small-dynamo", "mobilenet-small-dynamo", "bert-small-dynamo")
ONE_STEP = 1 / 255  # of quantised activations: a rounding that goes the other way


@dataclass(frozen=True)
class Row:
    """One model. `differences` are of each of its inputs, relative to the largest output; `error` when it failed."""

    model: str
    opset: int
    nodes: int
    shapes: list[str]
    differences: list[float]
    tolerance: float
    launches: int
    kernels: int
    on_bytes: int  # kernels that multiply 8-bit integers on tensor cores
    spilling: int
    error: str = ""

    @property
    def passed(self) -> bool:
        """It compiled, and every answer is within the tolerance."""
        return not self.error and all(value <= self.tolerance for value in self.differences)


def measure(name: str, model: Model, target: str) -> Row:
    """Compile one model, run it on all its inputs, compare."""
    prototype, batches = model.prototype(), model.inputs()
    opset = max(item.version for item in prototype.opset_import if item.domain in ("", "ai.onnx"))
    shapes = ["; ".join("x".join(map(str, value.shape)) or "()" for value in batch.values()) for batch in batches]
    row = Row(name, opset, len(prototype.graph.node), shapes, [], model.tolerance, 0, 0, 0, 0)
    try:
        engine = tilewright.compile(prototype, target=target)
        row = replace(
            row,
            launches=len(engine.program.launches),
            kernels=len(engine.kernels),
            on_bytes=sum("mma.sync.aligned.m16n8k32" in engine.ptx(kernel) for kernel in engine.kernels),
            spilling=sum(kernel.spills > 0 for kernel in engine.kernels.values()),
        )
        return replace(row, differences=differences(engine, prototype, batches))
    except Error as error:
        return replace(row, error=str(error).splitlines()[0])
    except InvalidArgument as error:
        return replace(row, error=f"onnxruntime refuses it: {error}")


def differences(engine: tilewright.Engine, prototype: onnx.ModelProto, batches: list[Inputs]) -> list[float]:
    """The largest difference of any output, relative to the output's largest value, for each of the inputs."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    reference = onnxruntime.InferenceSession(prototype.SerializeToString(), options)
    names = [output.name for output in reference.get_outputs()]
    found = []
    with engine.session("emulator") as session:
        for batch in batches:
            actual = session.run(batch)
            worst = 0.0
            for name, expected in zip(names, reference.run(None, batch), strict=True):
                if actual[name].shape != expected.shape or actual[name].dtype != expected.dtype:
                    worst = float("inf")
                elif expected.size:
                    gap = np.abs(actual[name].astype(np.float64) - expected.astype(np.float64)).max()
                    worst = max(worst, float(gap / max(np.abs(expected.astype(np.float64)).max(), 1e-30)))
            found.append(float(f"{worst:.2g}"))
    return found


def chosen_models(options: argparse.Namespace) -> Iterator[tuple[str, Model]]:
    """What the options ask for."""
    tables = {**MODELS, **LARGE}
    if options.exported:
        tables = {path.stem: exported(path) for path in sorted(options.exported.glob("*.onnx"))}
    elif options.quantized:
        tables = {f"{name} {form}": _in_form(MODELS[name], form) for name in QUANTIZED for form in FORMS}
    for name, model in tables.items():
        if options.only in name:
            yield name, model


def _in_form(model: Model, form: str) -> Model:
    load: Callable[[], onnx.ModelProto] = partial(quantized, model.prototype(), model.inputs(), form)
    return replace(model, load=load, tolerance=ONE_STEP)


def main() -> None:
    """Print the table while it grows, and keep the JSON up to date."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", metavar="PART", help="models whose name contains this")
    parser.add_argument("--quantized", action="store_true", help=f"every quantised form of {', '.join(QUANTIZED)}")
    parser.add_argument("--exported", type=Path, metavar="DIR", help="files of benchmarks.export_models instead")
    parser.add_argument("--target", default="sm_80")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where rows are kept")
    options = parser.parse_args()
    rows: dict[str, dict[str, object]] = {}
    if options.json and options.json.exists():
        rows = {row["model"]: row for row in json.loads(options.json.read_text())["models"]}
    for name, model in chosen_models(options):
        if name in rows:
            continue
        row = measure(name, model, options.target)
        rows[name] = {**asdict(row), "passed": row.passed}
        answer = row.error or ", ".join(f"{value:.1e}" for value in row.differences)
        print(
            f"{name:42} {'right' if row.passed else 'WRONG':6} {row.launches:4} launches  {answer}",
            flush=True,
        )
        if options.json:
            text = {"target": options.target, "models": sorted(rows.values(), key=lambda item: str(item["model"]))}
            options.json.write_text(json.dumps(text, indent=1) + "\n")


if __name__ == "__main__":
    main()
