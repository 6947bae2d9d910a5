"""`tilewright sanitize` and `tilewright run --sanitize`, on a sound engine and on one with a broken kernel."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from tests.command_line import models

from tilewright.compiler.command_line import main
from tilewright.runtime.engine import Engine

Invoke = Callable[..., Result]


@pytest.fixture
def invoke() -> Invoke:
    return lambda *words: CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engine") / "tiny.tw"
    onnx.save(models.softmax(), path.with_suffix(".onnx"))
    words = ["compile", str(path.with_suffix(".onnx")), "--target", "sm_80", "-o", str(path)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture(scope="module")
def broken(engine: Path) -> Path:
    """The same engine, whose kernel lost its last store."""
    sound = Engine.load(engine)
    kernels = {}
    for name in sound.kernels:
        text = sound.ptx(name)
        store = list(re.finditer(r"^.*\bst\.global.*$", text, re.MULTILINE))[-1]
        kernels[name] = text[: store.start()] + text[store.end() :]
    path = engine.with_name("broken.tw")
    Engine.build(sound.manifest, kernels, {}, [array for _, array in sound.weights()]).save(path)
    return path


def test_a_sound_engine(invoke: Invoke, engine: Path) -> None:
    result = invoke("sanitize", engine, "--order", "lockstep", "--order", "random:7")
    assert result.exit_code == 0, result.output
    assert "nothing found in 1 launches of 1 kernels, order lockstep" in result.output
    assert "order random:7" in result.output and "races in shared memory" in result.output


def test_a_broken_engine(invoke: Invoke, broken: Path) -> None:
    result = invoke("sanitize", broken, "--json")
    assert result.exit_code == 1
    (report,) = json.loads(result.output)
    assert report["launches"] == 1 and report["order"] == "lockstep"
    assert "unwritten" in [finding["kind"] for finding in report["findings"]]
    result = invoke("sanitize", broken)
    assert result.exit_code == 1
    assert "were never written, the first one" in result.output and "buffer " in result.output


def test_a_finding_names_the_operation(invoke: Invoke, engine: Path) -> None:
    sound = Engine.load(engine)
    kernels = {}
    for name in sound.kernels:
        before, found, after = sound.ptx(name).rpartition("\tst.global")
        kernels[name] = before + found + after.replace("]", "+16777216]", 1)
    path = engine.with_name("beyond.tw")
    Engine.build(sound.manifest, kernels, {}, [array for _, array in sound.weights()]).save(path)
    result = invoke("sanitize", path)
    assert result.exit_code == 1
    assert re.search(r"PTX line \d+: st\.global.*\(line \d+ of the tile program: tile\.\w+\)", result.output)


def test_an_onnx_model(invoke: Invoke, engine: Path) -> None:
    result = invoke("sanitize", engine.with_suffix(".onnx"), "--target", "sm_80", "--shape", "x=3x10")
    assert result.exit_code == 0, result.output


def test_run_with_the_sanitizer(invoke: Invoke, engine: Path, broken: Path, tmp_path: Path) -> None:
    words = ("--random", 1, "--sanitize", "--order", "reversed", "--save", tmp_path / "out.npz")
    result = invoke("run", engine, *words)
    assert result.exit_code == 0, result.output
    assert "order reversed" in result.output
    with np.load(tmp_path / "out.npz") as saved:
        assert all(np.isfinite(saved[name]).all() for name in saved.files)
    assert invoke("run", broken, "--random", 1, "--sanitize").exit_code == 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--sanitize", "--order", "sideways"), 1, "supported: lockstep, reversed, random:SEED"),
        (("--order", "reversed"), 2, "--order needs --sanitize"),
        (("--sanitize", "--device", "cuda"), 2, "--sanitize runs once, on the emulator"),
    ],
)
def test_wrong_words(
    invoke: Invoke, engine: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    result = invoke("run", engine, "--random", 1, *words)
    assert result.exit_code == code and message in result.output
