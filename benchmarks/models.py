"""Every model, compiled and compared: those of the tests, larger ones, quantised forms and exported files.

In: the tables of tests/support/zoo.py, and files that `benchmarks.export_models` wrote. Out: a table of models and
shapes with the largest difference from onnxruntime, and launches, and JSON.

    python -m benchmarks.models [--only PART ...] [--quantized] [--json benchmarks/results/models.json]
    python -m benchmarks.models --exported DIR [--only PART ...] [--json benchmarks/results/models.json]
    python -m benchmarks.models --full DIR [--quantized FORM ...] [--json benchmarks/results/models.json]

Runs on the emulator. Rows of an earlier run that the file already holds are kept; delete a row to measure it again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime
from benchmarks.comparing import largest_difference
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument
from tests.support.quantizing import FORMS, quantized
from tests.support.zoo import LARGE, MODELS, Inputs, Model, exported, full

import tilewright
from tilewright.runtime.errors import Error

Answers = dict[str, NDArray[np.generic]]
QUANTIZED = ("resnet-small-dynamo", "mobilenet-small-dynamo", "bert-small-dynamo")
FAILURES = "not_exported.json"  # written by benchmarks.export_models beside its files
ONE_STEP = 1 / 255  # of quantised activations: a rounding that goes the other way
HALF = 5e-3  # of 11 bits, in models of two layers: onnxruntime rounds between operators, we do not


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
    peer: str = "onnxruntime"  # or onnx: its reference evaluator, for a file that onnxruntime refuses
    own: float = 0.0  # how far the peer is from itself (`own_difference`), where ours is above the tolerance

    @property
    def passed(self) -> bool:
        """It compiled, and every answer is within the tolerance, or twice what the peer is from itself."""
        return not self.error and all(value <= max(self.tolerance, 2 * self.own) for value in self.differences)


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
        peer, answers = expected(prototype, batches)
        with engine.session("emulator") as session:
            row = replace(row, peer=peer, differences=differences([session.run(batch) for batch in batches], answers))
        if not row.passed and peer == "onnxruntime":  # roundings that go the other way, or are we wrong?
            row = replace(row, own=own_difference(prototype, batches, answers))
        return row
    except Error as error:
        return replace(row, error=str(error).splitlines()[0])


def expected(prototype: onnx.ModelProto, batches: list[Inputs]) -> tuple[str, list[Answers]]:
    """Who answered, and the outputs for each of the inputs."""
    try:
        return "onnxruntime", _by_onnxruntime(prototype, batches)
    except InvalidArgument as error:
        print(f"onnxruntime refuses it: {error}")
        reference = ReferenceEvaluator(prototype)
        names = reference.output_names
        return "onnx", [dict(zip(names, reference.run(None, batch), strict=True)) for batch in batches]


def _by_onnxruntime(prototype: onnx.ModelProto, batches: list[Inputs], optimised: bool = True) -> list[Answers]:
    options = onnxruntime.SessionOptions()
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    # By default it multiplies int4 weights with activations that it rounds to 8 bits.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    reference = onnxruntime.InferenceSession(prototype.SerializeToString(), options)
    names = [output.name for output in reference.get_outputs()]
    return [dict(zip(names, reference.run(None, batch), strict=True)) for batch in batches]


def own_difference(prototype: onnx.ModelProto, batches: list[Inputs], answers: list[Answers]) -> float:
    """How far onnxruntime's answers move without graph optimisation, and when floats change by a millionth: weights,
    then inputs.
    """
    generator = np.random.default_rng(12)

    def changed(value: NDArray[Any]) -> NDArray[Any]:
        return value * (1 + 1e-6 * generator.standard_normal(value.shape)).astype(np.float32)

    nudged = onnx.ModelProto()
    nudged.CopyFrom(prototype)
    for tensor in nudged.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and np.prod(tensor.dims) > 1:
            tensor.CopyFrom(onnx.numpy_helper.from_array(changed(onnx.numpy_helper.to_array(tensor)), tensor.name))
    moved = [{k: changed(v) if v.dtype == np.float32 else v for k, v in batch.items()} for batch in batches]
    others = [
        _by_onnxruntime(prototype, batches, optimised=False),
        _by_onnxruntime(nudged, batches),
        _by_onnxruntime(prototype, moved),
    ]
    return max(max(differences(other, answers)) for other in others)


def differences(found: list[Answers], wanted: list[Answers]) -> list[float]:
    """The largest difference of any output, relative to the output's largest value, for each of the inputs."""
    pairs = zip(found, wanted, strict=True)
    return [float(f"{largest_difference(ours, theirs):.2g}") for ours, theirs in pairs]


def chosen_models(options: argparse.Namespace) -> Iterator[tuple[str, Model]]:
    """What the options ask for."""
    tables = {**MODELS, **LARGE}
    if options.exported:
        tables = {path.stem: exported(path) for path in sorted(options.exported.glob("*.onnx"))}
    elif options.full:
        tables = {path.stem: full(path) for path in sorted(options.full.glob("*.onnx"))}
    elif options.quantized is not None:
        tables = {name: MODELS[name] for name in QUANTIZED}
    for name, model in tables.items():
        for form in [""] if options.quantized is None else options.quantized or FORMS:
            title = f"{name} {form}" if form else name
            if all(part in title for part in options.only):
                yield title, _in_form(model, form) if form else model


def _in_form(model: Model, form: str) -> Model:
    load: Callable[[], onnx.ModelProto] = lambda: quantized(model.prototype(), model.inputs(), form)  # noqa: E731
    return replace(model, load=load, tolerance=HALF if form == "f16" else ONE_STEP)


def main() -> None:
    """Print the table while it grows, and keep the JSON up to date."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="PART", help="models whose name contains all of these")
    parser.add_argument(
        "--quantized", nargs="*", choices=FORMS, metavar="FORM",
        help=f"these quantised forms ({', '.join(FORMS)}; all) of {', '.join(QUANTIZED)}, or of what --full names",
    )  # fmt: skip
    parser.add_argument("--exported", type=Path, metavar="DIR", help="files of export_models --small instead")
    parser.add_argument("--full", type=Path, metavar="DIR", help="files of export_models --full instead")
    parser.add_argument("--target", default="sm_80")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where rows are kept")
    options = parser.parse_args()
    recorded: dict[str, Any] = {"target": options.target, "models": [], "not_exported": {}}
    if options.json and options.json.exists():
        recorded |= json.loads(options.json.read_text())
    rows = {row["model"]: row for row in recorded["models"]}
    if options.exported and (options.exported / FAILURES).exists():
        recorded["not_exported"] |= json.loads((options.exported / FAILURES).read_text())
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
            recorded["models"] = sorted(rows.values(), key=lambda item: str(item["model"]))
            options.json.write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    main()
