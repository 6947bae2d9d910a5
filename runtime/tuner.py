"""Times the candidates of a tuning folder on a GPU; needs no compiler.

In: a folder of `tilewright tune --bundle`: variants of one model's engine, which differ in schedules, and what each of
their kernels decided. Out: a `Tuning` with the fastest schedule of each problem. Every kernel of a variant is timed in
the same run, so that a few engines try as many schedules of all kernels at once.

    python3 -m tilewright.runtime.tuner FOLDER [--seconds 300] [--out tuning.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .device import Device, open_device
from .engine import Engine
from .errors import DeviceError, Error, ModelError
from .hollow import load_hollow, save_hollow
from .session import Session
from .tuning import Choice, Decision, Tuning
from .whole_file import whole_file

PLAN = "variants.json"
INPUTS = "inputs.npz"
LAUNCHES = 20  # in a row
REPETITIONS = 5
MARGIN = 0.97  # of the predicted schedule's time: gains within the noise change nothing
# Of the largest answer of the predicted schedules: sums in another order in bf16, a model deep. A wrong kernel is off
# by the size of the answers.
ALIKE = 0.1


@dataclass(frozen=True)
class Timed:
    """What a variant showed: seconds of all launches of each kernel in a run, and its answers."""

    device: str
    kernels: dict[str, float]
    answers: dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Variant:
    """One engine and what its kernels decided."""

    file: str
    decisions: tuple[Decision, ...]


def write_folder(
    folder: Path, target: str, variants: Sequence[tuple[Engine, Sequence[Decision]]], inputs: Mapping[str, Any]
) -> None:
    """What `measure_folder` reads. Raises ModelError when it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        records = []
        for number, (engine, decisions) in enumerate(variants):
            save_hollow(engine, folder / f"{number}.hollow")
            records.append({"file": f"{number}.hollow", "decisions": [asdict(decision) for decision in decisions]})
        with open(folder / INPUTS, "wb") as stream:
            arrays: Any = inputs
            np.savez(stream, **arrays)
        (folder / PLAN).write_text(json.dumps({"target": target, "variants": records}, indent=1) + "\n")
    except OSError as error:
        raise ModelError(f"cannot write the tuning folder {folder}: {error.strerror or error}") from None


def read_folder(folder: Path) -> tuple[str, list[Variant], dict[str, Any]]:
    """(target, variants, inputs) of a folder. Raises ModelError."""
    try:
        plan = json.loads((folder / PLAN).read_text())
        variants = [
            Variant(str(item["file"]), tuple(Decision(**decision) for decision in item["decisions"]))
            for item in plan["variants"]
        ]
        return str(plan["target"]), variants, dict(np.load(folder / INPUTS))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder} is no folder of `tilewright tune --bundle`: {error}") from None


def measure_folder(
    folder: Path,
    device: str = "cuda",
    seconds: float = 300.0,
    tell: Callable[[str], None] = print,
    save: Callable[[Tuning], None] = lambda tuning: None,
) -> Tuning:
    """The fastest schedule of each problem among the variants that were timed within `seconds`; the first, what the
    model predicts, is always timed. A variant that fails, or answers otherwise than the first, is left out. What is
    known so far is given to `save` after each variant, so that whoever ends this early has it; Ctrl-C ends it with
    that. Raises DeviceError without a GPU.
    """
    target, variants, inputs = read_folder(folder)
    deadline = time.monotonic() + seconds
    times: dict[str, dict[str, float]] = defaultdict(dict)  # problem -> schedule -> seconds of all its kernels
    found, expected = Tuning(target), None
    for number, variant in enumerate(variants):
        if number and time.monotonic() > deadline:
            tell(f"out of time: {len(variants) - number} of {len(variants)} variants not tried")
            break
        try:
            timed = _time_kernels(folder / variant.file, device, inputs)
        except Error as error:
            if not number:
                raise
            tell(f"variant {number}: {str(error).splitlines()[0]}")
            continue
        except KeyboardInterrupt:
            if not number:
                raise
            tell(f"interrupted: {len(variants) - number} of {len(variants)} variants not tried")
            break
        expected = expected or timed
        if not _alike(timed.answers, expected.answers):
            tell(f"variant {number}: its answers are not those of the predicted schedules; left out")
            continue
        kernels = timed.kernels
        spent: dict[tuple[str, str], float] = defaultdict(float)
        for decision in variant.decisions:
            spent[decision.problem, decision.schedule] += kernels.get(decision.kernel, 0.0)
        for (problem, schedule), total in spent.items():
            times[problem].setdefault(schedule, total)
        tell(f"variant {number}: {sum(kernels.values()) * 1e6:.1f} us in {len(kernels)} kernels")
        found = Tuning(target, timed.device, _fastest(variants[0], times))
        save(found)
    return found


def _fastest(first: Variant, times: Mapping[str, Mapping[str, float]]) -> dict[str, Choice]:
    predicted = {decision.problem: decision.schedule for decision in first.decisions}
    choices = {}
    for problem, measured in times.items():
        before = measured.get(predicted.get(problem, ""), 0.0)
        schedule = min(measured, key=lambda text: measured[text])
        if before and measured[schedule] < MARGIN * before:
            choices[problem] = Choice(schedule, measured[schedule], before)
    return choices


def _alike(answers: Mapping[str, np.ndarray[Any, Any]], expected: Mapping[str, np.ndarray[Any, Any]]) -> bool:
    """Whether answers are the expected ones but for rounding; what is not finite there, weights being random, may be
    anything.
    """
    for name, wanted in expected.items():
        if answers[name].shape != wanted.shape:
            return False
        if wanted.dtype.kind != "f":  # an integer may be the place of the largest of equals
            continue
        wide = wanted.astype(np.float64)
        finite = np.isfinite(wide)
        gaps = np.abs(answers[name].astype(np.float64) - wide)[finite]
        if not (gaps <= ALIKE * np.abs(wide[finite]).max(initial=0)).all():
            return False
    return True


def open_clock(device: str = "cuda") -> Device:
    """The device that times. Raises DeviceError where that is no GPU."""
    opened = open_device(device)
    if opened.name != "cuda":
        opened.close()
        raise DeviceError("schedules are timed on a GPU only; the emulator's time says nothing about one")
    return opened


def _time_kernels(path: Path, device: str, inputs: Mapping[str, Any]) -> Timed:
    opened = open_clock(device)
    with Session(load_hollow(path), opened) as session:
        answers = session.run(inputs)
        rounds = [session.time_launches(inputs, LAUNCHES) for _ in range(REPETITIONS)]
        totals: dict[str, float] = defaultdict(float)
        for launch in zip(*rounds, strict=True):
            totals[launch[0].kernel] += statistics.median(timing.seconds for timing in launch)
        return Timed(opened.description, dict(totals), answers)


def write_tuning(tuning: Tuning, path: Path) -> None:
    """Write a tuning file, or replace one as a whole. Raises ModelError."""
    with whole_file(path) as stream:
        stream.write((json.dumps(tuning.to_json(), indent=1) + "\n").encode())


def main() -> None:
    """Time a folder where only the runtime is installed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=300.0, help="start no variant after this time")
    parser.add_argument("--out", type=Path, default=Path("tuning.json"))
    options = parser.parse_args()
    try:
        save = partial(write_tuning, path=options.out)
        tuning = measure_folder(options.folder, seconds=options.seconds, save=save)
    except Error as error:
        sys.exit(f"error: {error}")
    print(f"{options.out}: {len(tuning.choices)} problems with a faster schedule than the predicted one")


if __name__ == "__main__":
    main()
