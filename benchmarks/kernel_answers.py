"""Are the kernels of the benchmarks right, and does the sanitizer find anything in them? The exact PTX, full size.

In: the workloads of benchmarks/kernels.py. Out: for each the error of a whole launch on the emulator's fast engine with
random inputs and poisoned outputs, at the elements of benchmarks/references.py; and what the sanitizer found in some
blocks of each launch (runtime/emulator/sanitizer_sample.py). The exit code is 1 when something is wrong. What the JSON
file holds already runs again only when the kernels have changed since: the run can be stopped, and goes on.

    python -m benchmarks.kernel_answers [--family NAME ...] [--only NAME] [--target sm_90a] [--processes 2]
[--json benchmarks/results/kernel-answers.json]

`python -m benchmarks.kernels` shows two columns of the file.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.quantised_workloads import EVERY
from benchmarks.references import Tensors, exact, sample
from benchmarks.sanitize import digest_of
from benchmarks.workloads import Workload
from onnx import numpy_helper
from rich.console import Console
from rich.table import Table

import tilewright
from tilewright.compiler.random_inputs import fill_inputs
from tilewright.runtime.emulator.device import EmulatorDevice
from tilewright.runtime.emulator.sanitizer_sample import SampledSanitizer
from tilewright.runtime.session import Session

RESULTS = Path("benchmarks/results/kernel-answers.json")
_PIECE = 1 << 24
Key = tuple[str, str, str, str]
"""Family, name, target and precision."""


@dataclass(frozen=True)
class Answer:
    """One workload. `digest` is that of the PTX of its kernels; `error` the largest at `places` elements, to be at most
    `limit` (see `limit_of`); `poisoned` counts floats of the whole result that are not finite. Of all blocks of its
    launches the sanitizer watched `watched`, `cut` of them not to their ends. `failure`: why there is no answer.
    """

    family: str
    name: str
    target: str
    precision: str
    digest: str = ""
    error: float = 0
    limit: float = 0
    places: int = 0
    poisoned: int = 0
    blocks: int = 0
    watched: int = 0
    cut: int = 0
    findings: list[str] = field(default_factory=list)
    answer_seconds: float = 0
    sanitizer_seconds: float = 0
    failure: str = ""

    @property
    def key(self) -> Key:
        """What was run."""
        return self.family, self.name, self.target, self.precision

    @property
    def problems(self) -> list[str]:
        """What is wrong with it, in words."""
        found = [self.failure] if self.failure else []
        if not self.error <= self.limit:
            found.append(f"an error of {self.error:.1e}, where {self.limit:.1e} is allowed")
        if self.poisoned:
            found.append(f"{self.poisoned} elements that nobody wrote")
        return [*found, *(finding.split("\n")[0] for finding in self.findings)]


def limit_of(workload: Workload) -> float:
    """The largest error that rounding explains, of the measure of `error_of`."""
    if workload.family == "typed matmul":
        # Integers are exact. f16: half a unit in the last place is 2^-11, and as much again for sums in f32. bf16: 2^-8
        # and again. tf32: operands lose up to 2^-11 each, which adds up like noise: five deviations of 2^-11.
        kind = str(workload.parameters[0])
        return {"s8": 0.0, "u8": 0.0, "bf16": 2.0**-7, "tf32": 5 * 2.0**-11}.get(kind, 2.0**-10)
    if workload.family == "transpose":
        return 0.0
    if workload.family.startswith("QDQ"):
        # Steps: half a one, and sums in f32. Where what is between is rounded too, sums in f32 may put a value that
        # lies half-way on the other step, which GELU makes at most 1.13.
        return 1.7 if workload.parameters[-1] is True else 0.51
    if workload.family == "scaled e4m3 matmul" and workload.parameters[-1]:
        return 2.0**-4 * 1.001  # half a unit in the last place of three bits
    # As f16 above; attention rounds its probabilities to f16, int4 its weights, and between two products the tensor is
    # rounded that is normalised: again 2^-11 of each product.
    return 2.0**-9 if workload.family in ("attention", "int4 matmul", "matmul + norm") else 2.0**-10


def error_of(workload: Workload, result: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference: in steps where the result is quantised to bytes; else relative to the value and the root
    of the mean square of all values together, since sums of large terms that cancel are as wrong as their terms.
    """
    difference = np.abs(exact(result) - expected)
    if workload.family.startswith("QDQ"):
        return float(difference.max())
    size = np.abs(expected) + np.sqrt((expected**2).mean())
    return float((difference / np.where(size == 0, 1, size)).max())


def examine(workload: Workload, target: str, known: str) -> Answer | None:
    """Run and watch one workload; None where the digest of its kernels is `known`."""
    answer = Answer(workload.family, workload.name, target, workload.precision or "f16")
    try:
        model = workload.make()
        engine = tilewright.compile(model, target=target, precision=answer.precision)
        answer = replace(answer, digest=digest_of(engine))
        if answer.digest == known:
            return None
        inputs = fill_inputs(engine, {}, {}, seed=0)
        weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        answer = compared(answer, workload, engine, inputs, weights)
        return watched(answer, engine, inputs)
    except tilewright.Error as error:
        return replace(answer, failure=str(error))
    except Exception as error:  # the others go on
        return replace(answer, failure=f"{type(error).__name__}: {error}")


def compared(
    answer: Answer, workload: Workload, engine: tilewright.Engine, inputs: dict[str, Any], weights: Tensors
) -> Answer:
    """Run the workload and look at its result."""
    began = time.perf_counter()
    with engine.session("emulator", checked=True) as session:
        result = session.run(inputs)["y"]
    wanted = sample(workload, {**inputs, **weights}, seed=1)
    error = error_of(workload, result[wanted.index], wanted.values)
    return replace(
        answer, error=error, limit=limit_of(workload), places=wanted.values.size, poisoned=poisoned(result),
        answer_seconds=time.perf_counter() - began,
    )  # fmt: skip


def poisoned(result: np.ndarray) -> int:
    """How many elements are not finite, as memory that nobody wrote is (0xFF); integers have no such value."""
    if np.issubdtype(result.dtype, np.integer):
        return 0
    flat = result.reshape(-1)
    pieces = (flat[first : first + _PIECE] for first in range(0, flat.size, _PIECE))
    return sum(int(np.count_nonzero(~np.isfinite(piece.astype(np.float32)))) for piece in pieces)


def watched(answer: Answer, engine: tilewright.Engine, inputs: dict[str, Any]) -> Answer:
    """Run blocks of each launch under the sanitizer."""
    began = time.perf_counter()
    sanitizer = SampledSanitizer()
    try:
        with Session(engine, EmulatorDevice(instrument=sanitizer), "sanitizer", checked=True) as session:
            session.run(inputs)
    except tilewright.DeviceError:
        if not len(sanitizer.findings):
            raise
    seen = sanitizer.watched
    return replace(
        answer, blocks=sum(one.of for one in seen), watched=sum(one.blocks for one in seen),
        cut=sum(one.cut for one in seen), findings=[str(finding) for finding in sanitizer.findings.list()],
        sanitizer_seconds=time.perf_counter() - began,
    )  # fmt: skip


def load(path: Path) -> list[Answer]:
    """The answers of a file, none where there is none."""
    return [Answer(**values) for values in json.loads(path.read_text())] if path.exists() else []


def answers_of(
    chosen: list[int], target: str, known: dict[Key, str], processes: int
) -> Iterator[tuple[Workload, Answer | None]]:
    """Those of the workloads of these numbers in `EVERY`, as they come."""
    tasks = []
    for number in chosen:
        workload = EVERY[number]
        key = (workload.family, workload.name, target, workload.precision or "f16")
        tasks.append((number, target, known.get(key, "")))
    if processes == 1:
        yield from map(_examined, tasks)
        return
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(_examined, task) for task in tasks]):
            yield done.result()


def _examined(task: tuple[int, str, str]) -> tuple[Workload, Answer | None]:
    number, target, known = task
    return EVERY[number], examine(EVERY[number], target, known)


def cells(answer: Answer) -> list[str]:
    """A row of the table."""
    return [
        f"{answer.family} {answer.name}", f"{answer.error:.1e}", f"{answer.limit:.1e}", str(answer.places),
        f"{answer.watched - answer.cut} + {answer.cut} of {answer.blocks}", str(len(answer.findings)),
        f"{answer.answer_seconds:.1f}", f"{answer.sanitizer_seconds:.1f}",
    ]  # fmt: skip


def main() -> None:
    """Examine everything and print a row each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--family", nargs="*", choices=sorted({workload.family for workload in EVERY}))
    parser.add_argument("--only", default="", help="workloads whose name contains this")
    parser.add_argument("--target", default="sm_90a")
    parser.add_argument("--gigaflop", type=float, default=float("inf"), help="leave larger ones out")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    answers = {answer.key: answer for answer in load(options.json)} if options.json else {}
    chosen = [
        number for number, workload in enumerate(EVERY)
        if (not options.family or workload.family in options.family) and options.only in workload.name
        and workload.flops <= options.gigaflop * 1e9
    ]  # fmt: skip
    chosen.sort(key=lambda number: EVERY[number].flops, reverse=options.processes > 1)  # no long one at the end
    known = {key: answer.digest for key, answer in answers.items() if not answer.failure}
    table = Table("work", "error", "limit", "places", "whole + cut of blocks", "findings", "s", "sanitizer s")
    for workload, answer in answers_of(chosen, options.target, known, options.processes):
        if answer is None:
            key = (workload.family, workload.name, options.target, workload.precision or "f16")
            table.add_row(*cells(answers[key]))
            continue
        answers[answer.key] = answer
        table.add_row(*cells(answer))
        print("  ".join([*cells(answer), *answer.problems]), flush=True)
        if options.json:
            listed = [asdict(answers[key]) for key in sorted(answers)]
            options.json.write_text(json.dumps(listed, indent=1) + "\n")
    Console(width=170).print(table)
    sys.exit(any(answer.problems for answer in answers.values()))


if __name__ == "__main__":
    main()
