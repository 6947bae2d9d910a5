"""The record of a long run as JSON: which ranges of seeds are done, what they gave, every failure.

In: verdicts. Out: benchmarks/results/fuzz.json. A run that is cut off goes on where it stopped, and runs of several
ranges add up.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Section:
    """One kind of run: `ranges` of finished seeds (end excluded), counts of verdicts, of operators or motifs, and of
    stages that changed the IR; and failures.
    """

    version: int
    ranges: list[list[int]] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    operators: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)
    failures: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, seed: int, verdict: dict[str, Any]) -> None:
        """Count a finished seed."""
        self._finish(seed)
        self.kinds[verdict["kind"]] += 1
        self.operators.update(verdict.get("operators", ()))
        self.stages.update(verdict.get("stages", ()))
        self.seconds = round(self.seconds + verdict.get("seconds", 0.0), 3)
        if verdict["failed"]:
            self.failures[str(seed)] = {"kind": verdict["kind"], "message": verdict["message"]}

    def replace(self, seed: int, verdict: dict[str, Any]) -> None:
        """A seed that failed once and was run again."""
        old = self.failures.pop(str(seed))
        self.kinds[old["kind"]] -= 1
        self.kinds = +self.kinds
        self.kinds[verdict["kind"]] += 1
        if verdict["failed"]:
            self.failures[str(seed)] = {"kind": verdict["kind"], "message": verdict["message"]}

    def open_seeds(self, seeds: Iterable[int]) -> Iterator[int]:
        """Those that are not done."""
        for seed in seeds:
            if not any(begin <= seed < end for begin, end in self.ranges):
                yield seed

    def _finish(self, seed: int) -> None:
        merged: list[list[int]] = []
        for begin, end in sorted([*self.ranges, [seed, seed + 1]]):
            if merged and begin <= merged[-1][1]:
                merged[-1][1] = max(end, merged[-1][1])
            else:
                merged.append([begin, end])
        self.ranges = merged

    @property
    def finished(self) -> int:
        """How many seeds are done."""
        return sum(end - begin for begin, end in self.ranges)

    def to_json(self) -> dict[str, Any]:
        """As it stands in the file."""
        return {
            "version": self.version,
            "finished": self.finished,
            "ranges": self.ranges,
            "kinds": dict(sorted(self.kinds.items())),
            "seconds": self.seconds,
            "operators": dict(sorted(self.operators.items())),
            **({"stages": dict(sorted(self.stages.items()))} if self.stages else {}),
            "failures": dict(sorted(self.failures.items(), key=lambda item: int(item[0]))),
        }


def load_section(path: Path | None, name: str, version: int) -> Section:
    """The section of a file; an empty one where there is none, or one of another version of the generator."""
    found = json.loads(path.read_text()).get(_key(name, version)) if path and path.exists() else None
    if not found:
        return Section(version)
    return Section(
        version,
        found["ranges"],
        Counter(found["kinds"]),
        Counter(found["operators"]),
        Counter(found.get("stages", ())),
        found["failures"],
        found["seconds"],
    )


def _key(name: str, version: int) -> str:
    """Seeds of another version of the generator mean other graphs: a section of its own."""
    return f"{name}, generator {version}"


def save_section(path: Path, name: str, section: Section) -> None:
    """Write one section; others stay."""
    whole = json.loads(path.read_text()) if path.exists() else {}
    whole[_key(name, section.version)] = section.to_json()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(whole, indent=1) + "\n")
    temporary.replace(path)
