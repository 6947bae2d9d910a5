"""One of onnx's node cases through `tilewright.onnx_backend` on the emulator: compile, then run.

In: a case by name. Out: an `Outcome`: passed or why not, which inputs were made constants, and where the work was
done. The list of expected failures stands in expected_failures.tsv, each with its reason.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from tests.operators.conformance import as_array, cases, compare, operator_of

from tilewright.compiler import onnx_backend
from tilewright.runtime.errors import Error

LIST = Path(__file__).parent / "expected_failures.tsv"
LONGEST_REASON = 400  # characters of an error that a table has room for


@dataclass(frozen=True)
class Outcome:
    """What one case gave. `why` is empty when it passed; `specialised` names inputs whose value or structure was
    compiled in; `launches` and `calls` count kernels and host functions of the program.
    """

    case: str
    domain: str
    operator: str
    opset: int
    types: tuple[str, ...]
    why: str
    seconds: float
    specialised: tuple[str, ...] = ()
    launches: int = 0
    calls: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """True when every output of every data set agreed."""
        return not self.why


@lru_cache(maxsize=1)
def expected_failures() -> dict[str, str]:
    """Reasons by case name."""
    lines = [line.split("\t") for line in LIST.read_text().splitlines() if line and not line.startswith("#")]
    return {line[0]: line[1] for line in lines}


def run_case(name: str) -> Outcome:
    """Compile and run every data set of a case; any error becomes the reason why it failed."""
    case = cases()[name]
    domain, operator = operator_of(case)
    opset = next(item.version for item in case.model.opset_import if item.domain == domain)
    start, why = time.perf_counter(), ""
    facts: dict[str, Any] = {}
    try:
        for inputs, outputs in case.data_sets:
            facts = _run(case, inputs, outputs)
    except (AssertionError, Error) as error:
        why = f"{type(error).__name__}: {str(error).strip()[:LONGEST_REASON]}"
    except Exception as error:
        why = f"a bug, {type(error).__name__}: {str(error).strip()[:LONGEST_REASON]}"
    seconds = round(time.perf_counter() - start, 3)
    return Outcome(name, domain, operator, opset, _types(case), why, seconds, **facts)


def _run(case: Any, inputs: Any, outputs: Any) -> dict[str, Any]:
    representation = onnx_backend.prepare(case.model, jobs=1)
    try:
        results = representation.run([as_array(item) for item in inputs])
        for given, wanted in zip(results, map(as_array, outputs), strict=True):
            plain = wanted is None or isinstance(wanted, (list, tuple))
            compare(given, wanted if plain else np.asarray(wanted), case.rtol, case.atol)
        program = representation.engine.program
        return {
            "specialised": representation.specialised,
            "launches": len(program.launches),
            "calls": tuple(call.function for call in program.calls),
        }
    finally:
        representation.close()


def _types(case: Any) -> tuple[str, ...]:
    """Element types of the model's inputs and outputs."""
    found: set[str] = set()
    for value in (*case.model.graph.input, *case.model.graph.output):
        kind = value.type
        while kind.WhichOneof("value") in ("sequence_type", "optional_type"):
            kind = getattr(kind, kind.WhichOneof("value")).elem_type
        found.add(onnx.TensorProto.DataType.Name(kind.tensor_type.elem_type).lower())
    return tuple(sorted(found - {"undefined"}))
