"""Run a bundle on a GPU: is every answer right, through plain launches and through CUDA graphs, and how long does it
take?

In: the folder of benchmarks/gpu_bundle.py. Out: a table and a JSON file with the device, the driver and the versions,
one record per model, precision and shape; `--resume` goes on where a run was cut off. Needs Python, numpy, ml_dtypes
and cuda-bindings; from a checkout: ``PYTHONPATH=.pkg:. python benchmarks/gpu_check.py BUNDLE [--seconds 240]``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.gpu_results import Results, environment

from tilewright.runtime.errors import Error
from tilewright.runtime.hollow import load_hollow

SAMPLE = 0.1  # seconds of measuring each engine
RUNS = {"cuda": 4, "emulator": 1}  # plain launches, capture, replays
Arrays = dict[str, np.ndarray]


def difference(actual: Arrays, expected: Arrays) -> float:
    """The largest difference of any output, relative to that output's largest expected value."""
    worst = 0.0
    for name, wanted in expected.items():
        if actual[name].shape != wanted.shape or actual[name].dtype != wanted.dtype:
            return float("inf")
        if wanted.size:
            gap = np.abs(actual[name].astype(np.float64) - wanted.astype(np.float64)).max()
            worst = max(worst, float(gap) / max(float(np.abs(wanted).max()), 1e-30))
    return worst if np.isfinite(worst) else float("inf")


def check_case(bundle: Path, case: dict[str, Any], device: str) -> list[dict[str, Any]]:
    """Every shape of one engine: the first run launches directly, later ones replay a graph."""
    stem = f"{case['model']}.{case['precision']}"
    records = []
    with load_hollow(bundle / f"{stem}.packed").session(device) as session:
        for number in range(case["shapes"]):
            inputs = dict(np.load(bundle / f"{case['model']}.{number}.inputs.npz"))
            expected = dict(np.load(bundle / f"{case['model']}.{number}.outputs.npz"))
            differences = [difference(session.run(inputs), expected) for _ in range(RUNS[device])]
            record: dict[str, Any] = {
                "model": case["model"],
                "precision": case["precision"],
                "number": number,
                "shape": {name: list(array.shape) for name, array in inputs.items()},
                "difference": max(differences),
                "tolerance": case["tolerance"],
                "right": max(differences) <= case["tolerance"],
            }
            if record["right"] and device == "cuda":
                record["runs"] = len(differences)
                record["seconds"] = session.measure(inputs, SAMPLE).median
                _, timings = session.profile(inputs)
                record["kernel_seconds"] = sum(timing.seconds for timing in timings)
                record["launches"] = len(timings)
            records.append(record)
    return records


def told(record: dict[str, Any]) -> str:
    """A record for people."""
    state = "right" if record["right"] else "WRONG"
    time_text = f"{record['seconds'] * 1e6:9.1f} us" if "seconds" in record else ""
    note = record.get("error", f"{record.get('difference', 0):.2e} of {record['tolerance']:.0e}")
    return f"{record['model']:22} {record['precision']:7} {state:6} {time_text} {note}"


def main() -> None:
    """Every case of the bundle, until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu-check.json"))
    parser.add_argument("--only", default="", help="models whose name contains this")
    parser.add_argument("--seconds", type=float, default=500, help="start nothing after this time")
    parser.add_argument("--resume", action="store_true", help="keep what --out has already")
    parser.add_argument("--device", default="cuda", help="emulator tries this script where there is no GPU")
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    plan = json.loads((options.bundle / "cases.json").read_text())
    try:
        head = {"environment": environment(options.device, options.bundle), "target": plan["target"]}
    except Error as error:
        raise SystemExit(f"no GPU to check on: {error}") from None
    results = Results(options.out, "cases", ("model", "precision", "number"), head, options.resume)
    for case in plan["cases"]:
        if options.only not in case["model"]:
            continue
        numbers = [{**case, "number": number} for number in range(case["shapes"])]
        if all(results.find(record) for record in numbers):
            continue
        if time.monotonic() > deadline:
            results.leave_out(f"{case['model']} {case['precision']}")
            continue
        try:
            records = check_case(options.bundle, case, options.device)
        except (Error, OSError) as error:
            records = [{**case, "right": False, "error": str(error)}]
        for record in records:
            print(told(record), flush=True)
            results.add(record)
    wrong = sum(not record["right"] for record in results.records)
    print(f"{len(results.records) - wrong} passed, {wrong} failed; {options.out}")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
