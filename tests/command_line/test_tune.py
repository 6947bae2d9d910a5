"""Tuning: candidates are compiled here and timed elsewhere; here the clock is a table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

import tilewright
from tilewright.compiler.api import compile_fully
from tilewright.compiler.command_line import main
from tilewright.compiler.commands import tune as command
from tilewright.compiler.compilation import Options
from tilewright.runtime import tuner
from tilewright.runtime.device import open_device
from tilewright.runtime.errors import ModelError
from tilewright.runtime.tuning import Choice, Decision, Tuning, describe, merge, parse_tuning, read_tuning


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Two products of different sizes, so two problems."""
    random = np.random.default_rng(0)
    shapes = {"a": (64, 96), "b": (96, 128)}
    weights = [numpy_helper.from_array(random.random(shape, np.float32), name) for name, shape in shapes.items()]
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["first"]),
        helper.make_node("MatMul", ["first", "b"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [64, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [64, 128])],
        weights,
    )
    path = tmp_path / "products.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def invoke(*words: object) -> tuple[int, str]:
    """(exit status, output) of `tilewright WORDS`."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    return result.exit_code, result.output


def timed(kernels: dict[str, float], answer: float = 1.0) -> tuner.Timed:
    """What a GPU might say."""
    return tuner.Timed("a GPU", kernels, {"y": np.array([answer, np.nan, 4.0], np.float32)})


def test_from_candidates_to_a_faster_engine(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = tmp_path / "candidates", tmp_path / "tuning.json"
    status, output = invoke("tune", model, "--bundle", folder, "--candidates", 3, "--target", "sm_80")
    assert status == 0 and "3 variants" in output
    _, variants, inputs = tuner.read_folder(folder)
    assert inputs["x"].shape == (64, 64)
    kernels = sorted(decision.kernel for decision in variants[0].decisions)
    assert len(kernels) == 2 and [len(variant.decisions) for variant in variants] == [2, 2, 2]

    # The second candidate is faster for the first kernel, the third for neither, by less than the noise for the other.
    times = {"0.hollow": (4e-6, 4e-6), "1.hollow": (2e-6, 3.95e-6), "2.hollow": (5e-6, 5e-6)}
    monkeypatch.setattr(
        tuner, "_time_kernels", lambda path, *_: timed(dict(zip(kernels, times[path.name], strict=True)))
    )
    status, output = invoke("tune", folder, "--out", out)
    assert status == 0 and "1 problems with a faster schedule" in output, output
    second = {decision.kernel: decision for decision in variants[1].decisions}[kernels[0]]
    tuning = read_tuning(out, "sm_80")
    assert tuning.device == "a GPU" and tuning.choices == {second.problem: Choice(second.schedule, 2e-6, 4e-6)}

    compilation = compile_fully(model, Options("sm_80", tuning=tuning))
    decided = {decision.kernel: decision.schedule for decision in compilation.options.measured.decisions}
    first = {decision.kernel: decision.schedule for decision in variants[0].decisions}
    assert decided == {kernels[0]: second.schedule, kernels[1]: first[kernels[1]]}

    tuned, plain = (tilewright.compile(model, "sm_80", tuning=file) for file in (out, None))
    assert tuned.ptx(kernels[0]) != plain.ptx(kernels[0]) and tuned.ptx(kernels[1]) == plain.ptx(kernels[1])
    x = np.random.default_rng(1).random((64, 64), np.float32)
    exact = x.astype(np.float64)
    for tensor in onnx.load(model).graph.initializer:
        exact = exact @ numpy_helper.to_array(tensor)
    with tuned.session("emulator") as session:  # f32 sums of 64 and 96 positive terms: 1e-5 is ten times their rounding
        np.testing.assert_allclose(session.run({"x": x})["y"], exact, rtol=1e-5)


def test_out_of_time_ends_with_what_was_timed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "candidates"
    assert invoke("tune", model, "--bundle", folder, "--candidates", 2, "--target", "sm_80")[0] == 0
    monkeypatch.setattr(tuner, "_time_kernels", lambda *_: timed({}))
    status, output = invoke("tune", folder, "--out", tmp_path / "tuning.json", "--seconds", 0)
    assert status == 0 and "out of time: 1 of 2 variants not tried" in output
    assert read_tuning(tmp_path / "tuning.json", "sm_80").choices == {}


def test_a_fast_schedule_with_wrong_answers_is_left_out(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = tmp_path / "candidates", tmp_path / "tuning.json"
    assert invoke("tune", model, "--bundle", folder, "--candidates", 3, "--target", "sm_80")[0] == 0
    _, variants, _ = tuner.read_folder(folder)
    kernels = [decision.kernel for decision in variants[0].decisions]
    # The second is off by a quarter of the largest.
    found = {"0.hollow": (2e-6, 1.0), "1.hollow": (1e-7, 2.0), "2.hollow": (1e-6, 1.01)}

    def time_kernels(path: Path, *_: object) -> tuner.Timed:
        seconds, answer = found[path.name]
        return timed(dict.fromkeys(kernels, seconds), answer)

    monkeypatch.setattr(tuner, "_time_kernels", time_kernels)
    status, output = invoke("tune", folder, "--out", out)
    assert status == 0 and "variant 1: its answers are not those of the predicted schedules" in output
    choices = read_tuning(out, "sm_80").choices
    assert choices == {own.problem: Choice(own.schedule, 1e-6, 2e-6) for own in variants[2].decisions}


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit])  # Ctrl-C; what a signal's handler raises
def test_an_early_end_leaves_what_was_timed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: type[BaseException]
) -> None:
    folder, out = tmp_path / "candidates", tmp_path / "tuning.json"
    assert invoke("tune", model, "--bundle", folder, "--candidates", 3, "--target", "sm_80")[0] == 0
    _, variants, _ = tuner.read_folder(folder)
    kernels = [decision.kernel for decision in variants[0].decisions]

    def time_kernels(path: Path, *_: object) -> tuner.Timed:
        if path.name == "2.hollow":
            raise ending
        return timed(dict.fromkeys(kernels, 1e-6 if path.name == "1.hollow" else 2e-6))

    monkeypatch.setattr(tuner, "_time_kernels", time_kernels)
    status, output = invoke("tune", folder, "--out", out)
    tuning = read_tuning(out, "sm_80")
    assert tuning.choices == {
        decision.problem: Choice(decision.schedule, 1e-6, 2e-6) for decision in variants[1].decisions
    }
    assert [path.name for path in tmp_path.iterdir() if "tuning" in path.name] == ["tuning.json"]
    if ending is KeyboardInterrupt:
        assert status == 0 and "interrupted: 1 of 3 variants not tried" in output
    engines = [tilewright.compile(model, "sm_80", tuning=out) for _ in range(2)]
    for number, engine in enumerate(engines):
        engine.save(tmp_path / f"{number}.tw")
    first, again = ((tmp_path / f"{number}.tw").read_bytes() for number in range(2))
    assert first == again, "a tuning file makes a build reproducible"


def test_the_emulator_is_no_clock(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "candidates"
    assert invoke("tune", model, "--bundle", folder, "--candidates", 2, "--target", "sm_80")[0] == 0
    with pytest.raises(tilewright.DeviceError, match="timed on a GPU only"):
        tuner.measure_folder(folder, device="emulator")


def test_no_gpu_is_told_before_candidates_are_compiled(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("candidates are compiled")

    monkeypatch.setattr(command, "compile_variants", refuse)
    monkeypatch.setattr(tuner, "open_device", lambda name: open_device("emulator"))
    status, output = invoke("tune", model, "--out", model.with_name("tuning.json"))
    assert status == 1 and output.startswith("error: there is no GPU to time schedules on: schedules are timed on")
    assert output.endswith("\n  --bundle FOLDER compiles the candidates here, for a machine that has one\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no tuning file"),
        ("[]", "is no tuning file"),
        ('{"format": 2}', "format 2 of tuning files; supported: 1"),
        ('{"format": 1, "target": "sm_80", "device": "", "choices": {"p": {}}}', "is no tuning file: KeyError"),
        ('{"format": 1, "target": "sm_80", "device": "", "choices": {}}', "measured for sm_80, and the model"),
    ],
)
def test_bad_files(model: Path, tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "tuning.json"
    path.write_text(content)
    status, output = invoke("compile", model, "--tuning", path, "--target", "sm_90a", "-o", tmp_path / "out.tw")
    assert status == 1 and message in output, output
    assert not (tmp_path / "out.tw").exists()


def test_files_merge(tmp_path: Path) -> None:
    one = Tuning("sm_80", "A", {"p": Choice("fast", 1e-6, 3e-6), "q": Choice("only", 1e-6, 2e-6)})
    other = Tuning("sm_80", "B", {"p": Choice("slow", 2e-6, 3e-6)})
    for name, tuning in (("one", one), ("other", other)):
        tuner.write_tuning(tuning, tmp_path / f"{name}.json")
    out = tmp_path / "all.json"
    status, output = invoke("tune", "--merge", tmp_path / "one.json", tmp_path / "other.json", "--out", out)
    assert status == 0, output
    found = read_tuning(out, "sm_80")
    assert found.choices == dict(one.choices) and found.device == "A; B"
    assert parse_tuning(json.loads(out.read_text()), "text") == found
    with pytest.raises(ModelError, match="different targets"):
        merge([one, Tuning("sm_90a")])


def test_a_schedule_that_is_no_longer_a_candidate_is_not_taken() -> None:
    candidates = [Decision("k", "p", "a", 1), Decision("k", "p", "b", 1)]
    tuning = Tuning("sm_80", choices={"p": Choice("gone", 1.0, 2.0), "q": Choice(describe(candidates[1]), 1.0, 2.0)})
    assert tuning.choose("kernel", "p", candidates) is candidates[0]
    assert tuning.choose("kernel", "q", candidates) is candidates[1]
    assert tuning.decisions[0] == Decision("kernel", "p", "kernel=k problem=p schedule=a candidates=1", 2)
