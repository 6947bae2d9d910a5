"""Does the sanitizer find anything in the kernels of the test models? A table of models, targets and orders.

    python -m benchmarks.sanitize [--only NAME] [--target sm_80 ...] [--precision strict ...] [--order lockstep ...]
[--small] [--json FILE] [ENGINE.tw | MODEL.onnx ...]

In: the models of tests/support/zoo.py, or files. Out: for each the launches watched, the findings, the time beside
a plain run, and whether every order gave the bits of the first; the exit code is 1 when there is a finding or a
difference.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tests.support.zoo import MODELS, Inputs

import tilewright
from tilewright.compiler.random_inputs import fill_inputs
from tilewright.runtime.sanitizing import Arrays, parse_order, sanitize

SMALL_GIGAFLOP = 0.1


@dataclass(frozen=True)
class Outcome:
    """One engine in one order. `plain_seconds` is a run without the sanitizer; `error` says why there is no answer.
    """

    model: str
    target: str
    precision: str
    order: str
    kernels: int = 0
    launches: int = 0
    seconds: float = 0
    plain_seconds: float = 0
    same_bits: bool = True
    findings: list[str] = field(default_factory=list)
    error: str = ""

    @property
    def is_clean(self) -> bool:
        """Nothing found, the same answer, and no failure."""
        return not self.findings and not self.error and self.same_bits


def watch(
    name: str, engine: tilewright.Engine, inputs: list[Inputs], orders: list[str]
) -> Iterator[Outcome]:
    """Run `engine` plainly (for the time), then under the sanitizer in each order."""
    began = time.perf_counter()
    with engine.session("emulator") as session:
        for arrays in inputs:
            session.run(arrays)
    plain = time.perf_counter() - began
    wanted: list[Arrays] | None = None
    for order in orders:
        began = time.perf_counter()
        outputs, report = sanitize(engine, inputs, parse_order(order))
        wanted = outputs if wanted is None else wanted
        same = [_bytes(run) for run in outputs] == [_bytes(run) for run in wanted]
        findings = [str(finding) for finding in report.findings]
        seconds = time.perf_counter() - began
        where = (name, engine.target, engine.precision, order)
        yield Outcome(*where, len(engine.kernels), report.launches, seconds, plain, same, findings)


def _bytes(outputs: Arrays) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in outputs.items()}


def engines(chosen: argparse.Namespace) -> Iterator[tuple[str, str, str, tilewright.Engine | str, list[Inputs]]]:
    """(name, target, precision, the engine or why there is none, inputs) of everything asked for."""
    for path in chosen.models:
        engine = tilewright.Engine.load(path) if path.suffix == ".tw" else tilewright.compile(path)
        yield path.stem, engine.target, engine.precision, engine, [fill_inputs(engine, {}, {}, 0)]
    if chosen.models:
        return
    for name, model in MODELS.items():
        if chosen.only not in name or (chosen.small and model.gigaflop > SMALL_GIGAFLOP):
            continue
        for target, precision in itertools.product(chosen.target, chosen.precision):
            try:
                made: tilewright.Engine | str = tilewright.compile(
                    model.load(), target=target, precision=precision
                )
            except tilewright.Error as error:
                made = str(error)
            yield name, target, precision, made, model.inputs()


def main() -> None:
    """Sanitize everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--only", default="", help="only models whose name contains this")
    parser.add_argument("--small", action="store_true", help=f"only models up to {SMALL_GIGAFLOP} GFLOP")
    parser.add_argument("--target", nargs="+", default=["sm_80", "sm_90a"])
    parser.add_argument("--precision", nargs="+", default=["strict", "tf32", "f16", "bf16"])
    parser.add_argument("--order", nargs="+", default=["lockstep"])
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    columns = ("model", "target", "precision", "order", "kernels", "launches", "findings", "same bits", "s", "plain s")
    table = Table(*columns, title="emulator sanitizer")
    outcomes: list[Outcome] = []
    for name, target, precision, engine, inputs in engines(chosen):
        if isinstance(engine, str):
            found = iter([Outcome(name, target, precision, "", error=engine)])
        else:
            found = watch(name, engine, inputs, chosen.order)
        for outcome in found:
            outcomes.append(outcome)
            count = outcome.error or str(len(outcome.findings))
            row = (str(outcome.kernels), str(outcome.launches), count, "yes" if outcome.same_bits else "NO")
            times = (f"{outcome.seconds:.1f}", f"{outcome.plain_seconds:.1f}")
            table.add_row(outcome.model, outcome.target, outcome.precision, outcome.order, *row, *times)
            print(outcome.model, outcome.target, outcome.precision, outcome.order, *row, *times, flush=True)
            for finding in outcome.findings:
                print(finding, flush=True)
    Console(width=150).print(table)
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n")
    sys.exit(not all(outcome.is_clean for outcome in outcomes))


if __name__ == "__main__":
    main()
