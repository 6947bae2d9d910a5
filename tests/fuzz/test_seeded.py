"""A few seeds of both fuzzers: `python -m benchmarks.fuzz` runs ten thousand of each (docs/fuzzing.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from benchmarks.fuzz.damaged_files import judge_damaged
from benchmarks.fuzz.differences import compare
from benchmarks.fuzz.differential import judge, judge_seed
from benchmarks.fuzz.motifs import motifs
from benchmarks.fuzz.operators import entries
from benchmarks.fuzz.random_graphs import random_graph
from benchmarks.fuzz.random_motifs import random_trial
from benchmarks.fuzz.record import Section, load_section, save_section
from benchmarks.fuzz.reference import Arrays, NoisyReference, contradicted
from benchmarks.fuzz.sharpness import sharpness
from benchmarks.fuzz.shrinking import shrink

FIRST = 20_000  # beyond the seeds of the recorded run


@pytest.mark.parametrize("seed", range(FIRST + 1, FIRST + 13))
def test_random_graphs_agree_with_onnxruntime(seed: int) -> None:
    verdict = judge_seed(seed)
    assert not verdict.failed, verdict.message


@pytest.mark.parametrize("seed", range(FIRST + 1, FIRST + 4))
def test_motifs_agree_with_onnxruntime(seed: int) -> None:
    verdict = judge_seed(seed, "motif")
    assert not verdict.failed, verdict.message
    assert "fuse" in verdict.stages


def test_what_a_mask_hides_is_read_from_its_own_tensor() -> None:
    """Of a part behind another one of a concatenation in place: the other may not be written yet, which the sanitizer
    then found.
    """
    verdict = judge_seed(2, "motif")
    assert not verdict.failed and "concatenate-in-place" in verdict.stages, verdict.message


def test_motifs_are_valid_and_every_one_occurs() -> None:
    found = set()
    for seed in range(FIRST, FIRST + 150):
        trial = random_trial(seed)
        found |= set(trial.graph.operators)
        onnx.checker.check_model(trial.graph.model, full_check=seed < FIRST + 30)
    assert found == {entry.name for entry in motifs(23)}
    assert trial.graph.model.SerializeToString() == random_trial(FIRST + 149).graph.model.SerializeToString()


def test_damaged_files_are_refused_or_compiled() -> None:
    verdicts = {seed: judge_damaged(seed) for seed in range(FIRST + 1, FIRST + 70)}
    assert not {
        seed: verdict.message for seed, verdict in verdicts.items() if verdict.kind not in ("compiled", "refused")
    }


def test_a_seed_is_always_the_same_graph() -> None:
    one, two = random_graph(FIRST), random_graph(FIRST)
    assert one.model.SerializeToString() == two.model.SerializeToString()
    for left, right in zip(one.data, two.data, strict=True):
        assert all(np.array_equal(left[name], right[name]) for name in left)


def test_graphs_are_valid_and_every_operator_occurs() -> None:
    found = set()
    for seed in range(FIRST, FIRST + 900):
        graph = random_graph(seed)
        found |= set(graph.operators)
        onnx.checker.check_model(graph.model, full_check=seed < FIRST + 50)
    assert found == {entry.name for opset in (18, 23) for entry in entries(opset)}


def softmax_model() -> tuple[onnx.ModelProto, Arrays]:
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 18]> m (float[n,8] x, float[8,5] w) => (float[n,5] y) '
        "{ a = Neg(x) s = Softmax(a) t = Sin(s) u = MatMul(t, w) v = Abs(u) y = Add(v, v) }"
    )
    generator = np.random.default_rng(1)
    return model, {
        name: generator.normal(size=size).astype(np.float32) for name, size in (("x", (3, 8)), ("w", (8, 5)))
    }


@pytest.mark.parametrize(("factor", "kind"), [(1 + 2.0**-22, "equal"), (1 + 2.0**-12, "unexplained")])
def test_the_rule_tells_rounding_from_mistakes(factor: float, kind: str) -> None:
    model, data = softmax_model()
    noisy, generator = NoisyReference(model, data), np.random.default_rng(0)
    wanted = {"y": noisy.run(generator)["y"]}
    got = {"y": (wanted["y"] * factor).astype(np.float32)}
    assert [item.kind for item in compare(got, wanted, lambda: noisy.run(generator))] == [kind]


def test_empty_answers_that_the_model_contradicts_do_not_count() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 18]> m (float[n,8] x) => (float[n,1] y, float[n,8] z) '
        "{ y = ReduceMax <keepdims=1> (x) z = Neg(x) }"
    )
    empty, full = np.zeros((0, 8), np.float32), np.zeros((2, 8), np.float32)
    assert contradicted(model, {"y": empty, "z": empty}) == {"y"}
    assert not contradicted(model, {"y": full, "z": full})  # a mistake that counts


def test_the_rule_finds_planted_mistakes() -> None:
    """Of one wrong element in a thousandth of itself nearly all are found: graphs that amplify rounding are few."""
    counts = [count for (kind, size), count in sharpness(range(12)).items() if size == 2.0**-8 and kind != "float16"]
    assert sum(found for found, _ in counts) > 0.8 * sum(made for _, made in counts)


def test_failures_shrink_to_the_node_that_fails() -> None:
    model, data = softmax_model()
    smallest, left = shrink(model, data, lambda model, data: any(node.op_type == "Sin" for node in model.graph.node))
    assert [node.op_type for node in smallest.graph.node] == ["Sin"]
    assert [array.shape for array in left.values()] == [(1, 1)]
    assert judge(smallest, [left]).kind == "equal"


def test_a_record_is_continued(tmp_path: Path) -> None:
    section = Section(1)
    good, bad = {"kind": "equal", "failed": False}, {"kind": "internal", "failed": True, "message": "why"}
    for seed, verdict in ((0, good), (1, bad), (3, good)):
        section.add(seed, verdict)
    save_section(tmp_path / "f.json", "graphs", section)
    again = load_section(tmp_path / "f.json", "graphs", 1)
    assert again.ranges == [[0, 2], [3, 4]] and list(again.open_seeds(range(5))) == [2, 4]
    again.replace(1, good)
    assert again.kinds == {"equal": 3} and not again.failures
    assert load_section(tmp_path / "f.json", "graphs", 2).finished == 0
