"""Does every kernel of every model assemble, without spills, for every target? A table of models and targets.

    python -m benchmarks.targets [--only NAME] [--precision strict] [--json FILE] [MODEL.onnx ...]

In: the models of tests/support/zoo.py or ONNX files. Out: for each model and target the number of kernels, the most
registers of a kernel, and the kernels that spill; the exit code is 1 when one does or when compiling fails.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx
from rich.console import Console
from rich.table import Table
from tests.support.zoo import MODELS

import tilewright

TARGETS = ("sm_80", "sm_89", "sm_90a", "sm_100")


@dataclass(frozen=True)
class Outcome:
    """One model for one target; `spilling` maps kernel names to bytes, `error` is empty when it compiled."""

    model: str
    target: str
    kernels: int
    registers: int
    spilling: dict[str, int]
    error: str = ""

    def __str__(self) -> str:
        if self.error:
            return "failed"
        return f"{self.kernels} kernels, {self.registers} registers" + (
            f", {len(self.spilling)} spill" if self.spilling else ""
        )


def attempt(name: str, model: Path | onnx.ModelProto, target: str, precision: str) -> Outcome:
    """Compile one model for one target."""
    try:
        engine = tilewright.compile(model, target=target, precision=precision)
    except tilewright.Error as error:
        return Outcome(name, target, 0, 0, {}, str(error))
    kernels = engine.kernels.values()
    spilling = {kernel.name: kernel.spills for kernel in kernels if kernel.spills}
    most = max((kernel.registers for kernel in kernels), default=0)
    return Outcome(name, target, len(kernels), most, spilling)


def main() -> None:
    """Compile everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--only", default="", help="only models whose name contains this")
    parser.add_argument("--precision", default="strict")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    console = Console(width=150)
    zoo = {name: model.load for name, model in MODELS.items() if chosen.only in name}
    given = {path.stem: (lambda path=path: path) for path in chosen.models}
    table = Table("model", *TARGETS, title=f"kernels by ptxas, precision {chosen.precision}")
    outcomes: list[Outcome] = []
    for name, load in (given or zoo).items():
        model = load()
        row = [attempt(name, model, target, chosen.precision) for target in TARGETS]
        outcomes += row
        table.add_row(name, *map(str, row))
        for outcome in row:
            if outcome.error or outcome.spilling:
                print(f"{name} {outcome.target}: {outcome.error or outcome.spilling}", flush=True)
    console.print(table)
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n")
    sys.exit(any(outcome.error or outcome.spilling for outcome in outcomes))


if __name__ == "__main__":
    main()
