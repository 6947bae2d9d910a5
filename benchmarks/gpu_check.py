"""Run a bundle on a GPU: is every answer right, launched one by one, in a row, and as a CUDA graph, and how long does
it take?

In: the folder of benchmarks/gpu_bundle.py. Out: a table and a JSON file with the device, the driver and the versions,
one record per model, precision and shape; `--resume` goes on where a run was cut off. First comes the ladder, engines
that need one thing more of the GPU each. A kernel that faults or hangs ends its own case only (gpu_worker.py), and is
told with its launch. Needs Python, numpy, ml_dtypes and cuda-bindings; from a checkout:
``PYTHONPATH=.pkg:. python benchmarks/gpu_check.py BUNDLE [--seconds 240]``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.comparing import largest_difference
from benchmarks.gpu_results import Results, environment
from benchmarks.gpu_worker import Broken, Notes, Worker, open_announcing

from tilewright.runtime.dtypes import dtype
from tilewright.runtime.errors import Error
from tilewright.runtime.hollow import load_hollow
from tilewright.runtime.manifest import TensorBinding
from tilewright.runtime.session import Session

SAMPLE = 0.1  # seconds of measuring each engine
SHARING = "sharing memory"  # as users run it: buffers whose contents are not needed at the same time overlap
# How an engine is run, each after the other: what is wrong in one of them only is not the kernels' arithmetic. Launches
# one by one wait for each other; in a row, a kernel may begin before the one in front has ended.
ONE_BY_ONE, LATER = "one by one", ("in a row", "captured", "replayed", SHARING)
Arrays = dict[str, np.ndarray]


def arrays_of(path: Path, bindings: Sequence[TensorBinding]) -> Arrays:
    """What numpy has written; the types that it does not know come back as bytes, and get theirs again."""
    types = {binding.name: dtype(binding.dtype).numpy for binding in bindings}
    found = dict(np.load(path))
    return {name: array.view(types[name]) if array.dtype.kind == "V" else array for name, array in found.items()}


def check_case(task: tuple[Path, dict[str, Any], str], notes: Notes) -> Iterator[dict[str, Any]]:
    """Every shape of one engine: bundle, case, device."""
    bundle, case, device = task
    stem = f"{case['model']}.{case['precision']}"
    engine = load_hollow(bundle / f"{stem}.packed")
    with contextlib.ExitStack() as opened:
        checked = opened.enter_context(engine.session(open_announcing(device, notes), checked=True))
        plain = opened.enter_context(engine.session(open_announcing(device, notes)))
        for number in range(case["shapes"]):
            inputs = arrays_of(bundle / f"{case['model']}.{number}.inputs.npz", engine.inputs)
            expected = arrays_of(bundle / f"{case['model']}.{number}.outputs.npz", engine.outputs)
            yield {**case, "number": number} | check_shape(checked, plain, inputs, expected, case["tolerance"], notes)


def check_shape(
    checked: Session, plain: Session, inputs: Arrays, expected: Arrays, tolerance: float, notes: Notes
) -> dict[str, Any]:
    """The answers for one set of inputs in every stage, and times where they are right.

    They come from the `checked` session, whose buffers are full of NaN before each run: in memory that has the right
    answer from the stage before, kernels that do nothing are right too. The `plain` one, in which buffers share memory,
    answers once and is timed.
    """
    notes.stage = ONE_BY_ONE
    outputs, timings = checked.profile(inputs)
    differences = {ONE_BY_ONE: largest_difference(outputs, expected)}
    on_gpu = checked.device.name == "cuda"
    for stage in LATER if on_gpu else ():
        notes.stage = stage
        session = plain if stage == SHARING else checked
        differences[stage] = largest_difference(session.run(inputs), expected)
    worst = max(differences.values())
    record = {
        "shape": {name: list(array.shape) for name, array in inputs.items()},
        "difference": worst,
        "right": worst <= tolerance,
        "wrong": [stage for stage, own in differences.items() if own > tolerance],
        "launches": len(timings),
        "kernel_seconds": sum(timing.seconds for timing in timings),
    }
    if record["right"] and on_gpu:
        notes.stage = "timed"
        record["seconds"] = plain.measure(inputs, SAMPLE).median
    return record


def told(record: dict[str, Any]) -> str:
    """A record for people."""
    state = "right" if record["right"] else "WRONG"
    time_text = f"{record['seconds'] * 1e6:9.1f} us" if "seconds" in record else ""
    note = record.get("error", f"{record.get('difference', 0):.2e} of {record['tolerance']:.0e}")
    if not record["right"]:
        stages = ", ".join(record.get("wrong", ()))
        needs = ", ".join(record.get("features", ()))
        note += f"\n  wrong: {stages}" * bool(stages) + f"\n  needs: {needs}" * bool(needs)
    return f"{record['model']:26} {record['precision']:7} {state:6} {time_text} {note}"


def check(worker: Worker, task: tuple[Path, dict[str, Any], str], results: Results) -> None:
    """One engine; its records come into the results as they are found."""
    case, done = task[1], 0
    try:
        for record in worker.do(task):
            print(told(record), flush=True)
            results.add(record)
            done += 1
    except Broken as problem:
        record = {**case, "number": done, "right": False, "error": str(problem)}
        print(told(record), flush=True)
        results.add(record)


def main() -> None:
    """Every case of the bundle, until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu-check.json"))
    parser.add_argument("--only", default="", help="models whose name contains this")
    parser.add_argument("--seconds", type=float, default=500, help="start nothing after this time")
    parser.add_argument("--resume", action="store_true", help="keep what --out has already")
    parser.add_argument("--device", default="cuda", help="emulator tries this script where there is no GPU")
    parser.add_argument("--together", action="store_true", help="all in this process: for ncu and compute-sanitizer")
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    try:
        plan = json.loads((options.bundle / "cases.json").read_text())
    except FileNotFoundError:
        raise SystemExit(f"{options.bundle} holds no bundle: `make gpu-bundle` writes one") from None
    try:
        head = {"environment": environment(options.device, options.bundle), "target": plan["target"]}
    except Error as error:
        raise SystemExit(f"no GPU to check on: {error}") from None
    results = Results(options.out, "cases", ("model", "precision", "number"), head, options.resume)
    with Worker(check_case, apart=not options.together) as worker:
        for case in plan["cases"]:
            if options.only not in case["model"]:
                continue
            numbers = [{**case, "number": number} for number in range(case["shapes"])]
            if all(results.find(record) for record in numbers):
                continue
            if time.monotonic() > deadline:
                results.leave_out(f"{case['model']} {case['precision']}")
                continue
            check(worker, (options.bundle, case, options.device), results)
    wrong = sum(not record["right"] for record in results.records)
    print(f"{len(results.records) - wrong} passed, {wrong} failed; {options.out}")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
