"""Every registered operator against onnx's own node test cases, through the importer and the graph
interpreter.

A case may be unsupported only for a reason listed here; anything else that does not agree fails.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from tests.conformance.backend import expected_failures
from tests.operators.conformance import as_array, cases, operator_of, run_case

from tilewright.compiler.frontend import registered_operators
from tilewright.runtime.errors import UnsupportedError

REASONS = (
    "training mode",
    "sequence_lens",
    "operator ",  # in function bodies: an operator that has no importer
    "several axes",
    "MelWeightMatrix with computed inputs",  # they decide its size: the backend makes constants of them
)


@lru_cache(maxsize=1)
def cases_by_operator() -> dict[tuple[str, str], list[Any]]:
    """Cases grouped by the operator of their first node, without those that are expected to fail."""
    grouped: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for case in cases().values():
        if case.name not in expected_failures():
            grouped[operator_of(case)].append(case)
    return grouped


def is_numeric(case: Any) -> bool:
    """False for cases that pass sequences, optionals or strings."""
    types = [value.type for value in (*case.model.graph.input, *case.model.graph.output)]
    if any(kind.WhichOneof("value") != "tensor_type" for kind in types):
        return False
    for inputs, outputs in case.data_sets:
        for item in (*inputs, *outputs):
            array = as_array(item)
            if not isinstance(array, (np.ndarray, np.generic)) or array.dtype.kind in "OSU":
                return False
    return True


@pytest.mark.parametrize("operator", [name for domain, name in registered_operators() if not domain])
def test_operator(operator: str) -> None:
    failures = []
    for case in cases_by_operator()[("", operator)]:
        if not is_numeric(case):
            continue
        try:
            try:
                run_case(case)
            except UnsupportedError:
                run_case(case, freeze=True)
        except UnsupportedError as error:
            if not any(reason in str(error) for reason in REASONS):
                failures.append(f"{case.name}: {error}")
        except Exception as error:
            failures.append(f"{case.name}: {type(error).__name__}: {str(error)[:300]}")
    assert not failures, "\n".join(failures)
