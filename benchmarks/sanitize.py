"""Does the sanitizer find anything in the kernels of the test models? A table of models, targets and orders.

    python -m benchmarks.sanitize [--only NAME] [--target sm_80 ...] [--precision strict ...] [--order lockstep ...]
[--small | --large] [--plain] [--json FILE] [ENGINE.tw | MODEL.onnx ...]

In: the models of tests/support/zoo.py, or files. Out: for each the launches watched, the findings, the time (with
--plain beside that of a plain run, which compiles the kernels for the fast engine and so takes as long again), and
whether every order gave the bits of the first; the exit code is 1 when there is a finding or a difference. What the
JSON file holds already is run again only when the model's kernels have changed since (the digest of their PTX), so that
hours of this can be done in pieces, and a change of the compiler costs what it changed.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tests.support.zoo import LARGE, MODELS, Inputs, Model

import tilewright
from tilewright.compiler.random_inputs import fill_inputs
from tilewright.runtime.sanitizing import Arrays, parse_order, sanitize

SMALL_GIGAFLOP = 0.1
Key = tuple[str, str, str, str]
"""Model, target, precision and order."""


@dataclass(frozen=True)
class Outcome:
    """One engine in one order. `plain_seconds` is a run without the sanitizer, 0 where there was none; `error` says
    why there is no answer. `digest` is that of the PTX of all kernels.
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
    digest: str = ""

    @property
    def key(self) -> Key:
        """What was run."""
        return self.model, self.target, self.precision, self.order

    @property
    def is_clean(self) -> bool:
        """Nothing found, the same answer, and no failure."""
        return not self.findings and not self.error and self.same_bits


def watch(
    name: str, engine: tilewright.Engine, inputs: list[Inputs], orders: list[str], plainly: bool
) -> Iterator[Outcome]:
    """Run `engine` under the sanitizer in each order; before that without it where its time is wanted too."""
    plain = _plain_seconds(engine, inputs) if plainly else 0.0
    wanted: list[Arrays] | None = None
    for order in orders:
        began = time.perf_counter()
        outputs, report = sanitize(engine, inputs, parse_order(order))
        wanted = outputs if wanted is None else wanted
        same = [_bytes(run) for run in outputs] == [_bytes(run) for run in wanted]
        findings = [str(finding) for finding in report.findings]
        seconds = time.perf_counter() - began
        where = (name, engine.target, engine.precision, order)
        counts = (len(engine.kernels), report.launches)
        yield Outcome(*where, *counts, seconds, plain, same, findings, digest=digest_of(engine))


def digest_of(engine: tilewright.Engine) -> str:
    """The kernels of an engine, whatever their order."""
    digests = sorted(hashlib.sha256(engine.ptx(name).encode()).hexdigest() for name in engine.kernels)
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]


def _plain_seconds(engine: tilewright.Engine, inputs: list[Inputs]) -> float:
    began = time.perf_counter()
    with engine.session("emulator") as session:
        for arrays in inputs:
            session.run(arrays)
    return time.perf_counter() - began


def _bytes(outputs: Arrays) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in outputs.items()}


def chosen_models(chosen: argparse.Namespace) -> dict[str, Model]:
    """By name, the ones with the least work first."""
    models = LARGE if chosen.large else MODELS
    wanted = {
        name: model for name, model in models.items()
        if chosen.only in name and not (chosen.small and model.gigaflop > SMALL_GIGAFLOP)
    }  # fmt: skip
    return dict(sorted(wanted.items(), key=lambda item: item[1].gigaflop))


def outcomes_of(chosen: argparse.Namespace, known: dict[Key, str]) -> Iterator[Outcome]:
    """The outcome of everything asked for whose kernels are not those of `known`."""
    for path in chosen.models:
        engine = tilewright.Engine.load(path) if path.suffix == ".tw" else tilewright.compile(path)
        yield from watch(path.stem, engine, [fill_inputs(engine, {}, {}, 0)], chosen.order, chosen.plain)
    if chosen.models:
        return
    for name, model in chosen_models(chosen).items():
        for target, precision in itertools.product(chosen.target, chosen.precision):
            try:
                engine = tilewright.compile(model.load(), target=target, precision=precision)
            except tilewright.Error as error:
                yield Outcome(name, target, precision, chosen.order[0], error=str(error))
                continue
            digest = digest_of(engine)
            orders = [order for order in chosen.order if known.get((name, target, precision, order)) != digest]
            yield from watch(name, engine, model.inputs(), orders, chosen.plain)


def table_of(outcomes: list[Outcome]) -> Table:
    """One row each."""
    columns = ("model", "target", "precision", "order", "kernels", "launches", "findings", "same bits", "s", "plain s")
    table = Table(*columns, title="emulator sanitizer")
    for outcome in outcomes:
        table.add_row(*cells(outcome))
    return table


def cells(outcome: Outcome) -> list[str]:
    """A row of the table."""
    return [
        outcome.model, outcome.target, outcome.precision, outcome.order, str(outcome.kernels), str(outcome.launches),
        outcome.error or str(len(outcome.findings)), "yes" if outcome.same_bits else "NO",
        f"{outcome.seconds:.1f}", f"{outcome.plain_seconds:.1f}" if outcome.plain_seconds else "",
    ]  # fmt: skip


def main() -> None:
    """Sanitize everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--only", default="", help="only models whose name contains this")
    parser.add_argument("--small", action="store_true", help=f"only models up to {SMALL_GIGAFLOP} GFLOP")
    parser.add_argument("--large", action="store_true", help="the models that the test suite leaves out")
    parser.add_argument("--target", nargs="+", default=["sm_80", "sm_90a"])
    parser.add_argument("--precision", nargs="+", default=["strict", "tf32", "f16", "bf16"])
    parser.add_argument("--order", nargs="+", default=["lockstep"])
    parser.add_argument("--plain", action="store_true", help="time a run without the sanitizer too")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    outcomes: list[Outcome] = []
    if chosen.json and chosen.json.exists():
        outcomes = [Outcome(**values) for values in json.loads(chosen.json.read_text())]
    for outcome in outcomes_of(chosen, {outcome.key: outcome.digest for outcome in outcomes}):
        others = [other for other in outcomes if other.key != outcome.key]
        outcomes = sorted([*others, outcome], key=lambda one: one.key)
        print(*cells(outcome), flush=True)
        print(*outcome.findings, sep="\n", end="\n" if outcome.findings else "", flush=True)
        if chosen.json:
            chosen.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n")
    Console(width=150).print(table_of(outcomes))
    sys.exit(not all(outcome.is_clean for outcome in outcomes))


if __name__ == "__main__":
    main()
