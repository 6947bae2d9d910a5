"""`tilewright profile` on the emulator."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner, Result
from tests.command_line import models

from tilewright.compiler.command_line import main


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    onnx.save(models.softmax(), path)
    return path


def _profile(*words: object) -> Result:
    return CliRunner().invoke(main, ["profile", *map(str, words), "--device", "emulator", "--target", "sm_80"])


def test_counts_and_roofline(model: Path) -> None:
    result = _profile(model, "--shape", "x=8x10", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    assert report["note"] == "a model, not a measurement" and report["gpu"]["name"] == "a100"
    (kernel,) = report["kernels"]
    assert kernel["requested"]["write"] == 8 * 10 * 4 and kernel["launches"] == 1
    assert kernel["seconds"] > 0 and kernel["bound"] in kernel["times"]


def test_the_table(model: Path) -> None:
    result = _profile(model, "--gpu", "h200")
    assert result.exit_code == 0, result.output
    assert "H200 SXM at its data sheet's rates: a model, not a measurement" in result.output


def test_an_unknown_gpu(model: Path) -> None:
    result = _profile(model, "--gpu", "voodoo")
    assert result.exit_code == 1 and "known: a100" in result.output
