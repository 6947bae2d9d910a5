"""Hints: typical sizes of dynamic dimensions steer schedules, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import helper
from tests.command_line import models

import tilewright
from tilewright.compiler.api import compile_with
from tilewright.compiler.command_line import main
from tilewright.compiler.compilation import Compilation, Options
from tilewright.compiler.dumps import parse_unit
from tilewright.compiler.pipeline import run_pipeline, stage_texts

WEIGHT = np.random.default_rng(1).standard_normal((64, 48)).astype(np.float32)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="MatMul_1")
    path = tmp_path / "matmul.onnx"
    onnx.save(models.make([node], {"x": ["n", 64]}, {"y": ["n", 48]}, {"w": WEIGHT}), path)
    return path


def schedule(model: Path, **hints: int) -> str:
    compilation = Compilation(Options(target="sm_80", hints=hints), model)
    run_pipeline(compilation, last="tile")
    found = re.search(r"tile\.schedule = (\{.*?\})", next(iter(compilation.unit.kernels.values())).text)
    assert found
    return found.group(1)


def test_a_hint_chooses_the_schedule(model: Path) -> None:
    one, few, many = (re.findall(r"block = array<i64: (\d+)", schedule(model, n=n))[0] for n in (1, 16, 100_000))
    assert (one, few, many) == ("4", "16", "128")  # rows of a block's tile
    assert schedule(model) == schedule(model, n=64)  # what a symbol counts as without a hint


def test_every_size_runs_whatever_was_hinted(model: Path) -> None:
    engine = tilewright.compile(model, target="sm_80", hints={"n": 1})
    with engine.session("emulator") as session:
        for rows in (1, 3, 70):
            x = np.random.default_rng(rows).standard_normal((rows, 64)).astype(np.float32)
            want = x.astype(np.float64) @ WEIGHT
            # 64 products: f32 sums differ from the exact ones by some 64 * 2^-24 of the terms' size.
            np.testing.assert_allclose(session.run({"x": x})["y"], want, rtol=1e-5, atol=1e-4)


def test_engines_for_other_hints_are_other_engines(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path / "cache"))
    assert compile_with(model, Options(target="sm_80", hints={"n": 1}))[1] is not None
    assert compile_with(model, Options(target="sm_80", hints={"n": 9}))[1] is not None
    assert compile_with(model, Options(target="sm_80", hints={"n": 1}))[1] is None


def test_a_dump_keeps_the_hints(model: Path) -> None:
    compilation = Compilation(Options(target="sm_80", hints={"n": 7}), model)
    run_pipeline(compilation, last="import")
    (text,) = stage_texts(compilation, 0).values()
    assert parse_unit(text).hints == {"n": 7}


@pytest.mark.parametrize(
    ("word", "status", "message"),
    [
        ("m=3", 1, "error: hint for 'm', which is no dynamic dimension of the model\n  dynamic: n\n"),
        ("n=0", 2, "'n=0' is not batch=1"),
        ("n", 2, "'n' is not batch=1"),
        ("n=2,", 2, "'' is not batch=1"),
    ],
)
def test_hints_that_are_none(model: Path, word: str, status: int, message: str) -> None:
    result = CliRunner().invoke(main, ["compile", str(model), "--target", "sm_80", "--hint", word])
    assert result.exit_code == status and message in result.stderr


def test_random_inputs_have_the_sizes_of_hints(model: Path) -> None:
    words = ["run", str(model), "--target", "sm_80", "--random", "0", "--device", "emulator", "--hint", "n=5"]
    result = CliRunner().invoke(main, words)
    assert result.output.startswith("y: float32[5, 48]"), result.output


def test_python_refuses_sizes_below_one(model: Path) -> None:
    with pytest.raises(tilewright.ModelError, match="hint n=0: a typical size is at least 1"):
        tilewright.compile(model, hints={"n": 0})


def test_a_hint_for_a_dimension_that_equals_another(tmp_path: Path) -> None:
    """Its engine has one name for both; a model that is compiled on the way takes hints for either."""
    text = '<ir_version: 8, opset_import: ["": 17]> two (float[n,9] x, float[m,9] y) => (float[n,9] z) {z = Add(x,y)}'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "two.onnx")
    words = ["run", str(tmp_path / "two.onnx"), "--device", "emulator", "--random", "0", "--hint", "n=5,m=5"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0 and result.output.startswith("z: float32[5, 9]"), result.output
