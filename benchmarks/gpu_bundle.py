"""Everything that a GPU must confirm, made on a machine without one: engines, inputs and expected outputs in one
folder.

In: models of the tests, workloads of the benchmarks and, where there are any, full-size exports. Out: a folder for
benchmarks/gpu_check.py, which needs Python, numpy, ml_dtypes and cuda-bindings on the machine with a GPU, and torch for
the comparisons: no compiler, no network. Four parts:

- the rungs of benchmarks/gpu_ladder.py, the first of the cases that are checked;
- `workloads/`: an engine for every row of benchmarks/kernels.py;
- `models/`: full-size models without their weights (runtime/hollow.py), of the ONNX files that
  `python -m benchmarks.export_models --full DIR --half` wrote to `--exports DIR`: f16 as torch beside them;
- engines of test models in every precision, with what onnxruntime answers, those of few weights first, while there is
  room; of a model with many weights only the first precisions.

    python -m benchmarks.gpu_bundle --out build/gpu-bundle --target sm_90a --megabytes 48 [--exports DIR]
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from benchmarks.gpu_ladder import RUNGS, features
from benchmarks.gpu_models import CASES
from benchmarks.quantised_workloads import EVERY
from tests.support.zoo import MODELS, Model

import tilewright
from tilewright.runtime.hollow import save_hollow

PRECISIONS = ("f16", "strict", "bf16", "tf32")  # what matters most first
# Of the largest output. strict: float32 sums in another order (tests/support/zoo.py). The others: operands keep 10
# (tf32, f16) or 7 (bf16) bits of mantissa; a factor of ten to twenty for the depth of the models.
TOLERANCES = {"strict": 1e-4, "tf32": 1e-2, "f16": 1e-2, "bf16": 8e-2}


MODEL_MEGABYTES = 8  # of the engines of one test model


def megabytes(folder: Path, pattern: str = "*") -> int:
    """The size of every such file in `folder`."""
    return sum(path.stat().st_size for path in folder.rglob(pattern) if path.is_file()) >> 20


def weight_bytes(name: str) -> int:
    """The weights of a test model in its file, among them those that are nodes of their own."""
    graph = MODELS[name].prototype().graph
    constants = (node.ByteSize() for node in graph.node if node.op_type == "Constant")
    return sum(tensor.ByteSize() for tensor in graph.initializer) + sum(constants)


def commit() -> str:
    """What the bundle is made of."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True)
    return done.stdout.strip()


def save_packed(engine: tilewright.Engine, path: Path) -> None:
    """With all its weights: a tenth to a half of the engine's own file, which is made to be mapped."""
    save_hollow(engine, path, kept_bytes=math.inf)


def add_workloads(folder: Path, target: str) -> list[str]:
    """Compile every workload; returns those that failed."""
    folder.mkdir(exist_ok=True)
    failures = []
    for workload in EVERY:
        try:
            engine = tilewright.compile(workload.make(), target=target, precision=workload.precision or "f16")
            save_packed(engine, folder / f"{workload.slug}.packed")
        except tilewright.Error as error:
            failures.append(workload.slug)
            print(f"{workload.family} {workload.name}: {error}", flush=True)
    print(f"{len(EVERY) - len(failures)} workloads, {megabytes(folder)} MB", flush=True)
    return failures


def add_full_models(folder: Path, exports: Path, target: str) -> None:
    """Compile every exported full-size model in f16 for the shapes of benchmarks/gpu_models.py, without weights."""
    folder.mkdir(exist_ok=True)
    for case in CASES:
        path = exports / f"{case.model}.onnx"
        if not path.exists():
            print(f"{case.slug}: left out, there is no {path}", flush=True)
            continue
        engine = tilewright.compile(path, target=target, precision="f16", shapes=case.shapes(path))
        save_hollow(engine, folder / f"{case.slug}.hollow")
        print(f"{case.slug}: {len(engine.kernels)} kernels, {megabytes(folder)} MB in all", flush=True)


def expected(model: Model) -> list[dict[str, np.ndarray]]:
    """What onnxruntime answers on this machine's CPU, for each of the model's inputs."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.prototype().SerializeToString(), options)
    names = [output.name for output in session.get_outputs()]
    return [dict(zip(names, session.run(None, inputs), strict=True)) for inputs in model.inputs()]


def add_ladder(folder: Path, target: str) -> list[dict[str, object]]:
    """Compile every rung of the ladder into `folder`; returns their cases."""
    cases: list[dict[str, object]] = []
    for number, rung in enumerate(RUNGS):
        name = f"ladder-{number:02}-{rung.name}"
        inputs, outputs = rung.case()
        np.savez_compressed(folder / f"{name}.0.inputs.npz", **inputs)
        np.savez_compressed(folder / f"{name}.0.outputs.npz", **outputs)
        engine = tilewright.compile(rung.model(), target=rung.target or target, precision=rung.precision)
        save_packed(engine, folder / f"{name}.{rung.precision}.packed")
        about = {"shapes": 1, "tolerance": rung.tolerance, "features": features(map(engine.ptx, engine.kernels))}
        cases.append({"model": name, "precision": rung.precision, **about})
    print(f"{len(cases)} rungs of the ladder, {megabytes(folder, 'ladder-*')} MB", flush=True)
    return cases


def add_model(folder: Path, name: str, target: str) -> list[dict[str, object]]:
    """Compile one test model in every precision into `folder`, while its share lasts; returns its cases."""
    model = MODELS[name]
    answers = expected(model)
    for number, (inputs, outputs) in enumerate(zip(model.inputs(), answers, strict=True)):
        np.savez(folder / f"{name}.{number}.inputs.npz", **inputs)
        np.savez(folder / f"{name}.{number}.outputs.npz", **outputs)
    cases: list[dict[str, object]] = []
    for precision in PRECISIONS:
        if megabytes(folder, f"{name}.*") >= MODEL_MEGABYTES:
            print(f"{name}: no {precision} engine, its weights are large", flush=True)
            continue
        engine = tilewright.compile(model.load(), target=target, precision=precision)
        save_packed(engine, folder / f"{name}.{precision}.packed")
        tolerance = max(TOLERANCES[precision], model.tolerance)
        cases.append({"model": name, "precision": precision, "shapes": len(answers), "tolerance": tolerance})
    return cases


def add_models(folder: Path, names: list[str], target: str, limit: int) -> list[dict[str, object]]:
    """Test models while the folder has room; returns their cases."""
    cases: list[dict[str, object]] = []
    for name in names:
        if megabytes(folder) + (weight_bytes(name) >> 21) > limit:  # half of it, in the best case
            print(f"{name}: left out, {weight_bytes(name) >> 20} MB of weights", flush=True)
            continue
        before = set(folder.iterdir())
        made = add_model(folder, name, target)
        total = megabytes(folder)
        if total > limit:
            for path in set(folder.iterdir()) - before:
                path.unlink()
            print(f"{name}: left out, the bundle would have {total} MB", flush=True)
            continue
        cases += made
        print(f"{name}: {len(made)} engines, {total} MB in all", flush=True)
    return cases


def main() -> None:
    """Make the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/gpu-bundle"))
    parser.add_argument("--target", default="sm_90a")
    parser.add_argument("--megabytes", type=int, default=48, help="add no test model that makes the folder larger")
    parser.add_argument("--models", nargs="*", help="test models; by default all")
    parser.add_argument("--exports", type=Path, default=Path("build/exports"), help="full-size ONNX models")
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    failures = add_workloads(out / "workloads", arguments.target)
    add_full_models(out / "models", arguments.exports, arguments.target)
    names = arguments.models if arguments.models is not None else sorted(MODELS, key=weight_bytes)
    cases = add_ladder(out, arguments.target) + add_models(out, names, arguments.target, arguments.megabytes)
    plan = {"target": arguments.target, "commit": commit(), "onnx": onnx.__version__, "cases": cases}
    (out / "cases.json").write_text(json.dumps(plan, indent=1))
    raise SystemExit(1 if failures else 0)


if __name__ == "__main__":
    main()
