"""One random graph through tilewright and the reference: the verdict.

In: a model and data sets. Out: a `Verdict`: passed, rounding, or a failure of a kind with a message. Runs in a worker
process, which may die of it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import tilewright
from tilewright.runtime.errors import Error, InternalError, UnsupportedError
from tilewright.runtime.sanitizing import sanitize

from .differences import compare
from .fired_stages import fired_stages
from .random_graphs import random_graph
from .random_motifs import Trial, random_trial
from .reference import (
    KEPT,
    LEAST,
    Arrays,
    NoisyReference,
    Reference,
    Rejected,
    contradicted,
    undecided,
    without_outputs,
)

GOOD = ("equal", "rounding", "rejected", "compiled", "refused")
"""Verdicts of graphs (rounding explains the difference; no reference runs the graph) and of damaged files."""
LONGEST = 1500  # characters of a message
TARGETS = ("sm_80", "sm_80", "sm_80", "sm_90a")  # by seed
PRECISIONS = ("strict", "strict", "strict", "strict", "strict", "strict", "tf32", "bf16", "strict")  # by seed


@dataclass(frozen=True)
class Verdict:
    """What one job gave. `kind` is one of `GOOD` or a failure: difference, finding (of the sanitizer), unsupported,
    error, internal; without an answer hang, crash or memory. `stages` are those that changed the IR, where it was seen.
    """

    kind: str
    message: str = ""
    seconds: float = 0.0
    operators: tuple[str, ...] = ()
    reference: str = "onnxruntime"
    stages: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """True for what must not happen."""
        return self.kind not in GOOD


def target_of(seed: int) -> str:
    """The GPU that a seed's graph is compiled for."""
    return TARGETS[seed % len(TARGETS)]


def precision_of(seed: int) -> str:
    """How a seed's contractions compute."""
    return PRECISIONS[seed % len(PRECISIONS)]


def trial_of(seed: int, kind: str = "graph") -> Trial:
    """What a seed means: a random `graph` or a `motif`, with its options."""
    return random_trial(seed) if kind == "motif" else Trial(random_graph(seed), target_of(seed), precision_of(seed))


def judge_seed(seed: int, kind: str = "graph") -> Verdict:
    """Make the graph or the motif of a seed and judge it; of a motif it is told which stages changed the IR."""
    started = time.process_time()
    trial = trial_of(seed, kind)
    graph = trial.graph
    with tempfile.TemporaryDirectory() as folder:
        dump = Path(folder) if kind == "motif" else None
        verdict = judge(graph.model, graph.data, trial.target, trial.precision, trial.is_watched, dump)
        stages = fired_stages(Path(folder))
    seconds = round(time.process_time() - started, 3)
    return replace(verdict, seconds=seconds, operators=tuple(sorted(set(graph.operators))), stages=stages)


def judge(
    model: onnx.ModelProto,
    data: Sequence[Arrays],
    target: str = "sm_80",
    precision: str = "strict",
    is_watched: bool = False,
    dump: Path | None = None,
) -> Verdict:
    """Compile once, run every data set, under the sanitizer if it `is_watched`, compare with the reference."""
    try:
        reference = Reference(model)
        wanted = [reference.run(arrays) for arrays in data]
    except Rejected as error:
        return Verdict("rejected", str(error)[:LONGEST])
    name = reference.name
    try:
        engine = tilewright.compile(model, target=target, precision=precision, jobs=1, dump=dump)
        if is_watched:
            got, report = sanitize(engine, data)
            if report.findings:
                return Verdict("finding", "; ".join(map(str, report.findings))[:LONGEST], reference=name)
        else:
            with engine.session("emulator") as session:
                got = [session.run(arrays) for arrays in data]
    except UnsupportedError as error:
        return Verdict("unsupported", str(error)[:LONGEST], reference=name)
    except InternalError as error:
        return Verdict("internal", str(error)[:LONGEST], reference=name)
    except Error as error:
        return Verdict("error", f"{type(error).__name__}: {error}"[:LONGEST], reference=name)
    except Exception as error:  # every other exception is a bug of ours
        return Verdict("internal", f"{type(error).__name__}: {error}"[:LONGEST], reference=name)
    kinds = set()
    for place, arrays in enumerate(data):
        open_names = undecided(model, precision in KEPT) | contradicted(model, wanted[place])
        decided = without_outputs(model, open_names) if open_names else model
        noise = _Noise(decided, arrays, name != "onnxruntime", precision)
        answer = {name: array for name, array in wanted[place].items() if name not in open_names}
        kind, message = _compared(model, arrays, got[place], answer, noise)
        if kind == "difference":
            return Verdict(kind, f"data set {place}: {message}"[:LONGEST], reference=name)
        kinds.add(kind)
    return Verdict("rounding" if "rounding" in kinds else "equal", reference=name)


class _Noise:
    """Draws of the reference under noise; made when the first is asked for."""

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments
        self.least = LEAST.get(arguments[-1], 0.0)
        self._reference: NoisyReference | None = None
        self._generator = np.random.default_rng(0)

    def __call__(self) -> Arrays:
        if self._reference is None:
            self._reference = NoisyReference(*self._arguments)
        return self._reference.run(self._generator)


def _compared(model: onnx.ModelProto, inputs: Arrays, got: Arrays, wanted: Arrays, noisy: _Noise) -> tuple[str, str]:
    try:
        found = compare(got, wanted, noisy, noisy.least)
    except Rejected as error:
        return "difference", f"and the reference with noise does not run: {error}"
    bad = [f"{item.output}: {item.message}" for item in found if item.kind == "unexplained"]
    if bad:
        return "difference", "; ".join(bad) + _second_opinion(model, inputs, got, noisy)
    return ("rounding" if any(item.kind == "rounding" for item in found) else "equal"), ""


def _second_opinion(model: onnx.ModelProto, inputs: Arrays, got: Arrays, noisy: _Noise) -> str:
    """Whom onnx's evaluator agrees with."""
    try:
        other = Reference(model, evaluator=True).run(inputs)
        same_shapes = all(got[name].shape == other[name].shape for name in got)
        agrees = same_shapes and all(item.kind != "unexplained" for item in compare(got, other, noisy, noisy.least))
    except (Rejected, KeyError, ValueError):
        return "; onnx's evaluator does not run it"
    return "; onnx's evaluator agrees with " + ("tilewright" if agrees else "none or onnxruntime")
