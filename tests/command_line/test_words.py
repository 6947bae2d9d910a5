"""What users type first: inputs as files, sizes, options in the wrong place. A wrong word is told before the work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from tests.command_line import models

import tilewright
from tilewright.compiler.command_line import main
from tilewright.compiler.pipeline import STAGES

Invoke = Callable[..., Result]


@pytest.fixture
def invoke() -> Invoke:
    return lambda *words: CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model.onnx and model.tw, softmax(relu(x + w)) of x[n, 10]; x.npy, x.npz, two.npz; broken.npz."""
    path = tmp_path_factory.mktemp("words")
    onnx.save(models.softmax(), path / "model.onnx")
    tilewright.compile(path / "model.onnx", target="sm_80").save(path / "model.tw")
    x = np.random.default_rng(0).standard_normal((3, 10)).astype(np.float32)
    np.save(path / "x.npy", x)
    np.savez(path / "x.npz", x=x)
    np.savez(path / "two.npz", x=x, z=x)
    (path / "broken.npz").write_bytes((path / "x.npz").read_bytes()[:-30])
    return path


# Arrays ---------------------------------------------------------------------------------------------------
def test_arrays_of_an_npz_file_are_inputs_by_name(invoke: Invoke, folder: Path, tmp_path: Path) -> None:
    """So that what `--save` writes, and what numpy.savez does, can be given as it is."""
    for number, words in enumerate((f"x={folder}/x.npy", f"{folder}/x.npz")):
        result = invoke(
            "run", folder / "model.tw", "--device", "emulator", "--input", words, "--save", tmp_path / f"{number}.npz"
        )
        assert result.exit_code == 0, result.output
    first, second = np.load(tmp_path / "0.npz")["y"], np.load(tmp_path / "1.npz")["y"]
    assert first.shape == (3, 10) and (first == second).all()


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["x={}/x.npz"], 1, "error: {}/x.npz holds arrays with names: x\n  give --input {}/x.npz\n"),
        (["{}/two.npz"], 1, "error: the model has no input 'z'\n  inputs: x: f32[n, 10]\n"),
        (["{}/broken.npz"], 1, "error: cannot read the arrays of {}/broken.npz: File is not a zip file\n"),
        (["{}/none.npz"], 1, "error: cannot read the arrays of {}/none.npz: No such file or directory\n"),
        (["x={}/none.npy"], 1, "error: cannot read the array {}/none.npy for input 'x': No such file or directory\n"),
        (["{}/x.npz", "x={}/x.npy"], 2, "'x' is given twice"),
        (["{}/x.npy"], 2, "is not NAME=FILE.npy, nor a FILE.npz"),
    ],
)
def test_arrays_that_are_none(invoke: Invoke, folder: Path, words: list[str], status: int, message: str) -> None:
    given = [part for word in words for part in ("--input", word.format(folder))]
    result = invoke("run", folder / "model.tw", "--device", "emulator", *given)
    assert result.exit_code == status and message.format(folder, folder) in result.stderr, result.stderr


# Options --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--shape", "z=2x10"], 1, "error: the model has no input 'z'\n  inputs: x\n"),
        (["--shape", "x=2x11"], 1, "error: input 'x' cannot have the shape [2, 11]\n  wanted: [n, 10]\n"),
        (["--shape", "x=2"], 1, "error: input 'x' cannot have the shape [2]\n  wanted: [n, 10]\n"),
        (["--hint", "m=2"], 1, "error: hint for 'm', which is no dynamic dimension of the model\n  dynamic: n\n"),
        (["--hint", "n=2,n=3"], 2, "--hint: 'n' is given twice"),
        (["--shape", "x=2x10", "--shape", "x=3x10"], 2, "--shape: 'x' is given twice"),
        (["--precision", "f16"], 2, "model.tw is compiled already: --precision is for models"),
        (["--target", "sm_80"], 2, "model.tw is compiled already: --target is for models"),
        (["--random", "-1"], 2, "-1 is not in the range x>=0"),
    ],
)
@pytest.mark.parametrize("name", ["run", "sanitize", "profile"])
def test_what_does_not_fit_an_engine(
    invoke: Invoke, folder: Path, name: str, words: list[str], status: int, message: str
) -> None:
    seed = [] if "--random" in words else ["--random", 0]
    result = invoke(name, folder / "model.tw", *seed, *words)
    assert result.exit_code == status and message in result.stderr, result.stderr


def test_sizes_of_an_engine_in_part(invoke: Invoke, folder: Path) -> None:
    for words in (("--shape", "x=5x10"), ("--hint", "n=5"), ("--shape", "x=rowsx10", "--hint", "n=5")):
        result = invoke("run", folder / "model.tw", "--device", "emulator", "--random", 0, *words)
        assert result.exit_code == 0 and result.stdout.startswith("y: float32[5, 10]"), result.output


def test_help_of_opt_lists_the_stages(invoke: Invoke) -> None:
    words = invoke("opt", "--help").output.split("Stages, and the level that each leaves:")[1].split()
    assert words[1::3] == [stage.name for stage in STAGES] and words[2::3] == [stage.level for stage in STAGES]


# Places ---------------------------------------------------------------------------------------------------
def test_a_model_is_not_replaced_by_its_engine(invoke: Invoke, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link.tw").symlink_to(folder / "model.onnx")
    before = (folder / "model.onnx").read_bytes()
    for output in (folder / "model.onnx", tmp_path / "link.tw"):
        result = invoke("compile", folder / "model.onnx", "-o", output)
        assert result.exit_code == 2 and "the engine would replace the model" in result.stderr
    assert (folder / "model.onnx").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("compile", "{}/model.onnx", "-o"), "the engine file "),
        (("run", "{}/model.tw", "--random", "0", "--save"), ""),
        (("tune", "{}/model.onnx", "--out"), ""),
    ],
)
def test_a_place_is_looked_at_before_the_work(
    invoke: Invoke, folder: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], what: str
) -> None:
    from tilewright.compiler import api
    from tilewright.compiler.commands import compile, run

    def worked(*arguments: object, **options: object) -> None:
        raise AssertionError("the work has begun")

    monkeypatch.setattr(compile, "compile_with", worked)
    monkeypatch.setattr(api, "compile_fully", worked)
    monkeypatch.setattr(run, "choose_device", worked)
    for place, reason in (("none/file", "No such file or directory"), ("x.npy/file", "Not a directory")):
        result = invoke(*(word.format(folder) for word in words), folder / place)
        assert result.exit_code == 1
        assert result.stderr == f"error: cannot write {what}{folder}/{place}: {reason}\n"


def test_models_that_are_something_else(invoke: Invoke, folder: Path) -> None:
    for words in (("compile", "-o", folder / "other.tw"), ("verify",), ("tune", "--bundle", folder / "bundle")):
        result = invoke(*words, folder / "model.tw")
        assert result.exit_code == 1
        reason = "is not an ONNX model but a zip file, such as an engine or a checkpoint of PyTorch"
        assert result.stderr == f"error: {folder}/model.tw {reason}\n"
