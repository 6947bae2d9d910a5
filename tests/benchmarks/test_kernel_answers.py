"""The answers of the benchmarks' kernels: references, what is wrong is told, what is known is not run again."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks import kernel_answers
from benchmarks.kernel_answers import Answer, compared, examine, poisoned
from benchmarks.quantised_workloads import EVERY
from benchmarks.references import lines, sample
from benchmarks.workloads import Workload
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

import tilewright

SMALL: list[tuple[str, tuple[Any, ...]]] = [  # families and parameters
    ("matmul", (40, 48, 64)),
    ("matmul + epilogue", (40, 48, 64)),
    ("matmul + norm", (72, 64, 64, 96)),
    ("gated matmul", (24, 32, 64)),
    ("typed matmul", ("f16", (2, 24, 32), (2, 40, 32), (False, True), False)),
    ("typed matmul", ("s8", (40, 64), (64, 48), (False, False), True)),
    ("convolution", (2, 16, 9, 24, 3, 2)),
    ("convolution", (2, 16, 9, 24, 3, 2, 4)),
    ("depthwise", (2, 16, 9, 3, 2)),
    ("attention", (1, 2, 24, 24, 32, True)),
    ("attention decode", (2, 2, 1, 40, 32, False)),
    ("grouped decode", (2, 4, 2, 40, 32)),
    ("memory", ("Softmax", 20, 64)),
    ("memory", ("LayerNormalization", 20, 64)),
    ("memory", ("RMSNormalization", 20, 64)),
    ("memory", (20, 64)),
    ("group norm", (2, 16, 6, 4)),
    ("transpose", ((6, 10, 16), (0, 2, 1))),
    ("sum", ((40, 16), (0,))),
    ("QDQ matmul", (40, 48, 64, "Gelu", True)),
    ("QDQ convolution", (1, 16, 9, 32, 3, 2)),
    ("int4 matmul", (4, 32, 64)),
    ("scaled e4m3 matmul", (40, 48, 64, False)),
    ("scaled e4m3 matmul", (40, 48, 64, True)),
]
FOR_ONNX = [case for case in SMALL if case[0] not in ("int4 matmul", "scaled e4m3 matmul")]  # it lacks them


def _small(family: str, parameters: tuple[Any, ...]) -> Workload:
    alike = (work for work in EVERY if work.family == family and len(work.parameters) == len(parameters))
    return replace(next(alike), parameters=parameters)


def test_every_family_has_a_small_form() -> None:
    assert {family for family, _ in SMALL} == {workload.family for workload in EVERY}
    assert len({workload.slug for workload in EVERY}) == len(EVERY)


@pytest.mark.parametrize(("family", "parameters"), FOR_ONNX)
def test_references_are_those_of_onnx(family: str, parameters: tuple[Any, ...]) -> None:
    workload = _small(family, parameters)
    model, random = workload.make(), np.random.default_rng(0)
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for given in model.graph.input:
        shape = [dimension.dim_value for dimension in given.type.tensor_type.shape.dim]
        is_byte = given.type.tensor_type.elem_type == 3
        values = random.integers(0, 100, shape) if is_byte else random.standard_normal(shape)
        tensors[given.name] = values.astype(np.int8 if is_byte else np.float16)
    (answer,) = ReferenceEvaluator(model).run(None, {given.name: tensors[given.name] for given in model.graph.input})
    wanted = sample(workload, tensors, seed=0)
    # The evaluator computes in f16, step by step: 2^-11 each. Bytes are compared with what is not rounded yet; a step
    # more where the evaluator's own roundings to bytes between operators differ.
    limit = 1.7 if family.startswith("QDQ") else 0.01
    np.testing.assert_allclose(answer[wanted.index].astype(np.float64), wanted.values, rtol=limit, atol=limit)


@pytest.mark.parametrize(("family", "parameters"), SMALL)
def test_small_forms_are_right_and_clean(family: str, parameters: tuple[Any, ...]) -> None:
    answer = examine(_small(family, parameters), "sm_90a", known="")
    assert answer is not None and not answer.problems and answer.watched == answer.blocks > 0
    assert answer.places > 0 and not answer.cut


def test_what_is_wrong_is_told() -> None:
    workload = _small(*SMALL[0])
    engine = tilewright.compile(workload.make(), target="sm_90a", precision="f16")
    inputs = {"a": np.ones((40, 64), np.float16), "b": np.ones((64, 48), np.float16)}
    answer = Answer(workload.family, workload.name, "sm_90a", "f16")
    assert not compared(answer, workload, engine, inputs, {}).problems
    spoiled = {"b": np.where(np.arange(48) == 47, 1.01, 1).astype(np.float16).repeat(64).reshape(48, 64).T}
    (problem,) = compared(answer, workload, engine, inputs, spoiled).problems  # one column differs by 1 %
    assert problem.startswith("an error of")
    result = np.zeros((3, 4), np.float16)
    result[2].view(np.uint16)[:2] = 0xFFFF
    assert poisoned(result) == 2 and poisoned(np.full(3, -1, np.int8)) == 0
    assert replace(answer, poisoned=2).problems == ["2 elements that nobody wrote"]
    assert replace(answer, error=float("nan")).problems
    assert replace(answer, findings=["race: a\nb"]).problems == ["race: a"]


def test_lines_are_of_every_part() -> None:
    chosen = lines(np.random.default_rng(0), 16384, 256)
    assert len(chosen) <= 256 and chosen[0] == 0 and chosen[-1] == 16383
    assert np.diff(chosen).max() < 2 * 16384 / 254 + 1
    assert lines(np.random.default_rng(0), 40, 256).tolist() == list(range(40))


def test_what_is_known_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, workload = tmp_path / "answers.json", _small("sum", ((40, 16), (0,)))
    monkeypatch.setattr(kernel_answers, "EVERY", [workload])

    def run(arguments: Sequence[str] = ()) -> list[dict[str, Any]]:
        monkeypatch.setattr(sys, "argv", ["kernel_answers", "--json", str(path), *arguments])
        with pytest.raises(SystemExit) as ended:
            kernel_answers.main()
        assert ended.value.code == 0
        return list(json.loads(path.read_text()))

    first = run()
    assert run() == first and first[0]["digest"]
    path.write_text(json.dumps([{**first[0], "digest": "another"}]))
    (again,) = run()
    assert again["digest"] == first[0]["digest"]
