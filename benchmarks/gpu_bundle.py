"""Everything that a GPU must confirm, made on a machine without one: engines, inputs and expected outputs in one
folder.

In: the model table of the tests. Out: a folder that benchmarks/gpu_check.py runs on a machine with a GPU, which needs
Python, numpy, ml_dtypes and cuda-bindings only: no compiler, no network. Models are taken from the smallest on until
the folder is full.

    python -m benchmarks.gpu_bundle --out build/gpu-bundle --target sm_90a --megabytes 48
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from tests.support.zoo import MODELS, Model

import tilewright

PRECISIONS = ("strict", "tf32", "f16", "bf16")
# Of the largest output. strict: float32 sums in another order (tests/support/zoo.py). The others: operands keep 10
# (tf32, f16) or 7 (bf16) bits of mantissa; a factor of ten to twenty for the depth of the models.
TOLERANCES = {"strict": 1e-4, "tf32": 1e-2, "f16": 1e-2, "bf16": 8e-2}


def expected(model: Model) -> list[dict[str, np.ndarray]]:
    """What onnxruntime answers on this machine's CPU, for each of the model's inputs."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.prototype().SerializeToString(), options)
    names = [output.name for output in session.get_outputs()]
    return [dict(zip(names, session.run(None, inputs), strict=True)) for inputs in model.inputs()]


def add_model(folder: Path, name: str, target: str) -> list[dict[str, object]]:
    """Compile one model in every precision into `folder`; returns its cases."""
    model = MODELS[name]
    answers = expected(model)
    for number, (inputs, outputs) in enumerate(zip(model.inputs(), answers, strict=True)):
        np.savez(folder / f"{name}.{number}.inputs.npz", **inputs)
        np.savez(folder / f"{name}.{number}.outputs.npz", **outputs)
    cases: list[dict[str, object]] = []
    for precision in PRECISIONS:
        engine = tilewright.compile(model.load(), target=target, precision=precision)
        engine.save(folder / f"{name}.{precision}.tw")
        tolerance = max(TOLERANCES[precision], model.tolerance)
        cases.append({"model": name, "precision": precision, "shapes": len(answers), "tolerance": tolerance})
    return cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/gpu-bundle"))
    parser.add_argument("--target", default="sm_90a")
    parser.add_argument("--megabytes", type=int, default=48, help="stop before the folder is larger than this")
    parser.add_argument("--models", nargs="*", default=sorted(MODELS, key=lambda name: MODELS[name].gigaflop))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    cases: list[dict[str, object]] = []
    for name in arguments.models:
        before = {path: path.stat().st_size for path in arguments.out.iterdir()}
        made = add_model(arguments.out, name, arguments.target)
        total = sum(path.stat().st_size for path in arguments.out.iterdir())
        if total > arguments.megabytes << 20:
            for path in set(arguments.out.iterdir()) - before.keys():
                path.unlink()
            print(f"{name}: left out, the bundle would have {total >> 20} MB")
            continue
        cases += made
        print(f"{name}: {len(made)} engines, {total >> 20} MB in all")
    (arguments.out / "cases.json").write_text(json.dumps({"target": arguments.target, "cases": cases}, indent=1))


if __name__ == "__main__":
    main()
