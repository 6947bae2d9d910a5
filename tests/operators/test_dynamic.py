"""Every registered operator with all dimensions of its inputs free, on the first of onnx's node cases."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from tests.operators.conformance import run_case
from tests.operators.test_conformance import REASONS, cases_by_operator, is_numeric

import tilewright
from tilewright.compiler.frontend import registered_operators
from tilewright.runtime.errors import UnsupportedError

CASES_EACH = 3
DYNAMIC_REASONS = (
    *REASONS,
    "dynamic size",  # kernels and weights have static sizes
    "dynamic scales",
    "dynamic sizes",
    "computed from data",
    "static number",  # unrolled operators
    "static lengths",
    "Det of matrices",
    "steps",
)


@pytest.mark.parametrize("operator", [name for domain, name in registered_operators() if not domain])
def test_operator_with_free_dimensions(operator: str) -> None:
    failures = []
    for case in [case for case in cases_by_operator()[("", operator)] if is_numeric(case)][:CASES_EACH]:
        try:
            try:
                run_case(case, free=True)
            except UnsupportedError:
                run_case(case, freeze=True, free=True)
        except UnsupportedError as error:
            if not any(reason in str(error) for reason in DYNAMIC_REASONS):
                failures.append(f"{case.name}: {error}")
        except Exception as error:
            failures.append(f"{case.name}: {type(error).__name__}: {str(error)[:300]}")
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("rows", [0, 3])
def test_a_part_of_a_concatenation_may_be_empty(rows: int) -> None:
    """What a kernel leaves out it does not read, even where there is nothing of it."""
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 17]>
        join (float[n, 8] x, float[m, 8] y) => (float[k, 8] z) { z = Concat<axis = 0>(x, y) }""")
    x, y = np.ones((rows, 8), np.float32), np.full((2, 8), 2, np.float32)
    with tilewright.compile(model).session(device="emulator", checked=True) as session:
        np.testing.assert_array_equal(session.run({"x": x, "y": y})["z"], np.concatenate([x, y]))
