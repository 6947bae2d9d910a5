"""A part of onnx's node cases through `tilewright.onnx_backend` on the emulator; `make conformance` runs all.

One case of every operator, chosen by a hash of its name, and the list of expected failures.
"""

from __future__ import annotations

import zlib
from collections import defaultdict

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.conformance.backend import expected_failures, run_case
from tests.operators.conformance import cases, operator_of

from tilewright.compiler import onnx_backend

PARTS = 8  # tests that share the work, so that workers can


def sample() -> list[str]:
    """A case of every operator, in alphabetical order."""
    grouped: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, case in cases().items():
        if name not in expected_failures():
            grouped[operator_of(case)].append(name)
    return sorted(min(names, key=lambda name: zlib.crc32(name.encode())) for names in grouped.values())


@pytest.mark.parametrize("part", range(PARTS))
def test_a_case_of_every_operator(part: int) -> None:
    failed = [outcome for outcome in map(run_case, sample()[part::PARTS]) if not outcome.passed]
    assert not failed, "\n".join(f"{outcome.case}: {outcome.why}" for outcome in failed)


def test_expected_failures_are_few_and_exist() -> None:
    assert set(expected_failures()) <= set(cases())
    assert len(expected_failures()) <= len(cases()) // 100
    assert all(expected_failures().values())


def test_inputs_that_decide_a_rank_are_compiled_in() -> None:
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)
    given = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3]),
        helper.make_tensor_value_info("axes", TensorProto.INT64, [1]),
    ]
    wanted = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["k"])]
    graph = helper.make_graph([node], "reduce", given, wanted)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    representation = onnx_backend.prepare(model)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    for axis in (0, 1, 1, 0):
        (result,) = representation.run([x, np.array([axis], np.int64)])
        np.testing.assert_array_equal(result, x.sum(axis))
        assert representation.specialised == ("axes",)
    representation.close()


def test_sequences_go_in_and_out() -> None:
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    result = helper.make_tensor_sequence_value_info("r", TensorProto.FLOAT, None)
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    nodes = [helper.make_node("Neg", ["x"], ["y"]), helper.make_node("SequenceInsert", ["s", "y"], ["r"])]
    graph = helper.make_graph(nodes, "insert", [sequence, value], [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    onnx.checker.check_model(model)
    representation = onnx_backend.prepare(model)
    x = np.array([1, 2], np.float32)
    for length in (0, 2, 1):
        given = [np.full(number + 1, number, np.float32) for number in range(length)]
        (result,) = representation.run([given, x])
        assert len(result) == length + 1
        for actual, expected in zip(result, [*given, -x], strict=True):
            np.testing.assert_array_equal(actual, expected)
    representation.close()
