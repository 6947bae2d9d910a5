"""One random graph through tilewright and the reference: the verdict.

In: a model and data sets. Out: a `Verdict`: passed, rounding, or a failure of a kind with a message. Runs in a worker
process, which may die of it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

import tilewright
from tilewright.runtime.errors import Error, InternalError, UnsupportedError

from .differences import compare
from .random_graphs import random_graph
from .reference import KEPT, Arrays, NoisyReference, Reference, Rejected, undecided, without_outputs

GOOD = ("equal", "rounding", "rejected", "compiled", "refused")
"""Verdicts of graphs (rounding explains the difference; no reference runs the graph) and of damaged files."""
LONGEST = 1500  # characters of a message
TARGETS = ("sm_80", "sm_80", "sm_80", "sm_90a")  # by seed
PRECISIONS = ("strict", "strict", "strict", "strict", "strict", "strict", "tf32", "bf16", "strict")  # by seed


@dataclass(frozen=True)
class Verdict:
    """What one job gave. `kind` is one of `GOOD` or a failure: difference, unsupported, error, internal; without an
    answer hang, crash or memory.
    """

    kind: str
    message: str = ""
    seconds: float = 0.0
    operators: tuple[str, ...] = ()
    reference: str = "onnxruntime"

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


def judge_seed(seed: int) -> Verdict:
    """Make the graph of a seed and judge it."""
    started = time.process_time()
    graph = random_graph(seed)
    verdict = judge(graph.model, graph.data, target_of(seed), precision_of(seed))
    seconds = round(time.process_time() - started, 3)
    operators = tuple(sorted(set(graph.operators)))
    return Verdict(verdict.kind, verdict.message, seconds, operators, verdict.reference)


def judge(model: onnx.ModelProto, data: Sequence[Arrays], target: str = "sm_80", precision: str = "strict") -> Verdict:
    """Compile once, run every data set, compare with the reference."""
    try:
        reference = Reference(model)
        wanted = [reference.run(arrays) for arrays in data]
    except Rejected as error:
        return Verdict("rejected", str(error)[:LONGEST])
    name = reference.name
    try:
        engine = tilewright.compile(model, target=target, precision=precision, jobs=1)
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
        open_names = undecided(model, precision in KEPT)
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
        self._reference: NoisyReference | None = None
        self._generator = np.random.default_rng(0)

    def __call__(self) -> Arrays:
        if self._reference is None:
            self._reference = NoisyReference(*self._arguments)
        return self._reference.run(self._generator)


def _compared(model: onnx.ModelProto, inputs: Arrays, got: Arrays, wanted: Arrays, noisy: _Noise) -> tuple[str, str]:
    try:
        found = compare(got, wanted, noisy)
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
        agrees = same_shapes and all(item.kind != "unexplained" for item in compare(got, other, noisy))
    except (Rejected, KeyError, ValueError):
        return "; onnx's evaluator does not run it"
    return "; onnx's evaluator agrees with " + ("tilewright" if agrees else "none or onnxruntime")
