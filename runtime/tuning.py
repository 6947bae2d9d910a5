"""Schedules that were measured on a GPU, which replace those that cost models predict.

In: a tuning file, or the table of the target in `runtime/tunings`. Out: a `Tuning`, which a tile program asks to choose
among its candidates. Problems and schedules are text made of the fields of their classes, so that a file can be read,
merged and compared, and so that a new kind of program needs nothing here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from .errors import ModelError

FOLDER = Path(__file__).parent / "tunings"
FORMAT = 1
T = TypeVar("T")


@dataclass(frozen=True)
class Choice:
    """One measured problem: `seconds` with `schedule`, `predicted` with the schedule that the model would take."""

    schedule: str
    seconds: float
    predicted: float


@dataclass(frozen=True)
class Decision:
    """What a tile program decided: for `kernel`, which solves `problem`, one of `candidates` schedules, which a cost
    model gives so many `cycles` (0: it does not say).
    """

    kernel: str
    problem: str
    schedule: str
    candidates: int
    cycles: float = 0.0


@dataclass(frozen=True)
class Tuning:
    """`choices` by problem. Where there is none, a program takes the candidate number `variant` of its predictions.

    `decisions` collects what was asked and answered; it is not part of what two tunings are compared by. With `apart`
    no two problems share a kernel, so that each can be timed.
    """

    target: str = ""
    device: str = ""
    choices: Mapping[str, Choice] = field(default_factory=dict)
    variant: int = 0
    apart: bool = False
    decisions: list[Decision] = field(default_factory=list, compare=False, repr=False)

    def choose(self, kernel: str, problem: str, candidates: Sequence[T]) -> T:
        """One of `candidates`, best prediction first: the measured one, if it is still among them."""
        chosen = candidates[min(self.variant, len(candidates) - 1)]
        measured = self.choices.get(problem)
        if measured is not None:
            chosen = next((other for other in candidates if describe(other) == measured.schedule), chosen)
        cycles = getattr(chosen, "cycles", 0.0)
        self.decisions.append(Decision(kernel, problem, describe(chosen), len(candidates), cycles))
        return chosen

    def key(self) -> str:
        """Text that is equal where the tuning makes equal engines."""
        schedules = {name: choice.schedule for name, choice in sorted(self.choices.items())}
        return json.dumps([self.variant, self.apart, schedules])

    def to_json(self) -> dict[str, Any]:
        """The object of a tuning file."""
        choices = {problem: asdict(choice) for problem, choice in sorted(self.choices.items())}
        return {"format": FORMAT, "target": self.target, "device": self.device, "choices": choices}


def describe(value: Any) -> str:
    """A dataclass as text: ``rows=64 columns=256``; floats are opinions of a model and stay out."""
    parts = []
    for item in fields(value):
        content = getattr(value, item.name)
        if isinstance(content, tuple):
            content = "x".join(map(str, content))
        if not isinstance(content, float):
            parts.append(f"{item.name}={str(content).replace(' ', '')}")
    return " ".join(parts)


def read_tuning(path: Path, target: str) -> Tuning:
    """The tuning in the file `path`, made for `target`. Raises ModelError for anything else."""
    try:
        record = json.loads(path.read_text())
    except OSError as error:
        raise ModelError(f"cannot read the tuning file {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise ModelError(f"{path} is no tuning file: {error}") from None
    return parse_tuning(record, str(path), target)


def parse_tuning(record: Any, place: str, target: str = "") -> Tuning:
    """The tuning that `to_json` gave. Raises ModelError."""
    try:
        if record["format"] != FORMAT:
            raise ModelError(f"{place}: format {record['format']} of tuning files; supported: {FORMAT}")
        choices = {
            str(problem): Choice(str(given["schedule"]), float(given["seconds"]), float(given["predicted"]))
            for problem, given in record["choices"].items()
        }
        found = Tuning(str(record["target"]), str(record["device"]), choices)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{place} is no tuning file: {type(error).__name__} {error}") from None
    if target and found.target != target:
        raise ModelError(f"{place} was measured for {found.target}, and the model is compiled for {target}")
    return found


def built_in(target: str) -> Tuning:
    """What was measured for `target` and committed; nothing where there is no file."""
    path = FOLDER / f"{target}.json"
    return read_tuning(path, target) if path.exists() else Tuning(target)


def merge(tunings: Sequence[Tuning]) -> Tuning:
    """Everything that any of them measured; of two choices for one problem the faster. Raises ModelError."""
    targets = sorted({tuning.target for tuning in tunings})
    if len(targets) != 1:
        raise ModelError(f"tunings of different targets cannot be merged: {', '.join(targets)}")
    choices: dict[str, Choice] = {}
    for tuning in tunings:
        for problem, choice in tuning.choices.items():
            known = choices.get(problem)
            if known is None or choice.seconds < known.seconds:
                choices[problem] = choice
    devices = dict.fromkeys(tuning.device for tuning in tunings if tuning.device)
    return Tuning(targets[0], "; ".join(devices), choices)
