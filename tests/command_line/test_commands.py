"""Every command of `tilewright`, in this process through click's runner, and once as a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import helper
from tests.backend.kernels import FATAL, job
from tests.command_line import models

from tilewright.compiler.backend.repro import write_repro
from tilewright.compiler.command_line import COMMANDS, main
from tilewright.compiler.commands import doctor as doctor_module

Invoke = Callable[..., Result]


@pytest.fixture
def invoke() -> Invoke:
    return lambda *words: CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    onnx.save(models.softmax(), path)
    return path


@pytest.fixture(scope="module")
def engine(model: Path) -> Path:
    path = model.with_suffix(".tw")
    result = CliRunner().invoke(main, ["compile", str(model), "--target", "sm_80", "-o", str(path)])
    assert result.exit_code == 0, result.output
    assert re.fullmatch(
        rf"{path}: 1 kernels, 1 launches, sm_80 model, .* KB, .* s( \(cached\))?\n", result.output
    )
    return path


@pytest.fixture(scope="module")
def dumps(model: Path) -> Path:
    folder = model.parent / "dumps"
    result = CliRunner().invoke(
        main, ["compile", str(model), "--target", "sm_80", "-o", os.devnull, "--dump", str(folder)]
    )
    assert result.exit_code == 0, result.output
    return folder


def test_commands_are_those_of_the_folder(invoke: Invoke) -> None:
    there = {"compile", "run", "inspect", "opt", "replay", "verify", "doctor", "sanitize", "profile", "tune"}
    assert set(COMMANDS) == there
    for name in COMMANDS:
        result = invoke(name, "--help")
        assert result.exit_code == 0 and result.output.startswith(f"Usage: main {name}")
    assert invoke("nothing").exit_code == 2


def test_help_loads_no_compiler() -> None:
    code = (
        "import sys; from tilewright.compiler.command_line import main; "
        "main(['run', '--help'], standalone_mode=False); "
        "print({name.split('.')[0] for name in sys.modules} & {'mlir', 'onnx'})"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True
    )
    assert result.stdout.endswith("set()\n")


def test_run_an_engine(invoke: Invoke, engine: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(5).standard_normal((4, 10)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    result = invoke(
        "run",
        engine,
        "--input",
        f"x={tmp_path}/x.npy",
        "--save",
        tmp_path / "out.npz",
        "--device",
        "emulator",
        "--profile",
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("y: float32[4, 10] min ")
    assert "row_0" in result.stdout and "Softmax_3" in result.stdout
    y = np.load(tmp_path / "out.npz")["y"]
    assert np.abs(y.sum(-1) - 1).max() < 1e-6  # a softmax in float32


def test_run_a_model_with_random_inputs(invoke: Invoke, model: Path) -> None:
    words = ("run", model, "--target", "sm_80", "--random", 3, "--shape", "x=2x10", "--device", "emulator")
    first, second = invoke(*words), invoke(*words)
    assert first.exit_code == 0, first.output
    assert first.stdout == second.stdout
    assert "y: float32[2, 10]" in first.stdout


def test_run_without_inputs_says_what_is_wanted(invoke: Invoke, engine: Path) -> None:
    result = invoke("run", engine, "--device", "emulator")
    assert result.exit_code == 1
    assert result.stderr == (
        "error: no array for input x: f32[n, 10]\n  give --input NAME=FILE.npy, or --random SEED\n"
    )


def test_inspect(invoke: Invoke, engine: Path) -> None:
    result = invoke("inspect", engine)
    assert result.exit_code == 0, result.output
    for text in ("symbol n = dimension 0 of x", "Add_1, Relu_2, Softmax_3", "host program", "launch row_0 <"):
        assert text in result.output
    assert ".visible .entry row_0(" in invoke("inspect", engine, "--ptx", "row_0").output
    assert "MUFU.EX2" in invoke("inspect", engine, "--sass", "row_0").output
    assert 'loc("Softmax_3")' in invoke("inspect", engine, "--ir", "import").output
    assert "graph.fuse" in invoke("inspect", engine, "--ir", "list").output
    assert json.loads(invoke("inspect", engine, "--json").output)["target"] == "sm_80"
    assert invoke("inspect", engine, "--ptx", "nothing").exit_code == 1
    assert invoke("inspect", engine, "--ir", "nothing").exit_code == 1
    assert "weight" in invoke("inspect", engine, "--all").output


def test_compile_dumps_and_opt_reads_them(invoke: Invoke, model: Path, tmp_path: Path) -> None:
    result = invoke(
        "compile", model, "-o", tmp_path / "m.tw", "--target", "sm_80", "--dump", tmp_path / "d", "--timings"
    )
    assert result.exit_code == 0, result.output
    assert "ms  import" in result.output and f"IR of every stage: {tmp_path}/d" in result.output
    (file,) = (tmp_path / "d").glob("*-graph.simplify-planned.mlir")
    result = invoke("opt", file, "--from", "fuse")
    assert result.exit_code == 0, result.output
    assert "func.func private @row_0" in result.output
    result = invoke("opt", file, "--from", "fuse", "--to", "emit", "-o", tmp_path / "k.ptx")
    assert result.exit_code == 0, result.output
    assert ".target sm_80" in (tmp_path / "k.ptx").read_text()


def test_names_that_look_like_operations_of_another_level(invoke: Invoke, tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "tile.w"], ["y"], name="tile.mm")
    weight = {"tile.w": np.ones((16, 8), np.float32)}
    onnx.save(models.make([node], {"x": ["n", 16]}, {"y": ["n", 8]}, weight), tmp_path / "m.onnx")
    words = ("compile", tmp_path / "m.onnx", "-o", tmp_path / "m.tw", "--target", "sm_80", "--dump", tmp_path / "d")
    assert invoke(*words).exit_code == 0
    (file,) = (tmp_path / "d").glob("*-graph.fuse.mlir")
    result = invoke("opt", file, "--from", "tile", "--to", "tile")
    assert result.exit_code == 0, result.output


def test_products_without_tensor_cores_are_noted(invoke: Invoke, tmp_path: Path) -> None:
    path, engine = tmp_path / "products.onnx", tmp_path / "m.tw"
    onnx.save(models.products(), path)
    note = (
        "note: 1 of 2 products and convolutions multiply in f32, as the model does, without tensor cores "
        "(first: MatMul_2); --precision tf32, f16 or bf16 uses them"
    )
    for _ in range(2):  # a cached engine says the same
        assert note in invoke("compile", path, "-o", engine, "--target", "sm_80").output.splitlines()
    assert "  " + note in " ".join(invoke("inspect", engine).output.splitlines())
    assert "note" not in invoke("compile", path, "-o", engine, "--target", "sm_80", "--precision", "f16").output
    assert "note" not in invoke("compile", path, "-o", engine, "--target", "sm_80", "--precision", "strict").output


def test_opt_errors(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "bad.mlir").write_text("this is not IR")
    assert "there is no stage 'fuze'" in invoke("opt", tmp_path / "bad.mlir", "--from", "fuze").stderr
    assert "is not IR of ours" in invoke("opt", tmp_path / "bad.mlir", "--from", "fuse").stderr
    assert "import reads an ONNX model" in invoke("opt", tmp_path / "bad.mlir", "--from", "import").stderr
    missing = invoke("opt", tmp_path / "none.mlir", "--from", "fuse").stderr
    assert missing == f"error: cannot read {tmp_path}/none.mlir: No such file or directory\n"
    (tmp_path / "bad.mlir").write_bytes(b"\xff\xfe")
    assert "is not IR of ours: it is not text" in invoke("opt", tmp_path / "bad.mlir", "--from", "fuse").stderr


@pytest.mark.parametrize(
    ("dump", "words", "message"),
    [
        ("share-numbers", ("pipeline",), "stage 'pipeline' takes one kernel, as dumps of the level tile are; "),
        ("pipeline.row_0", ("fuse",), "stage 'fuse' takes a whole model, as dumps of the level graph are; "),
        ("share-numbers", ("plan-host",), "'plan-host' needs a model and all of its kernels"),
        ("pipeline.row_0", ("lower", "--to", "plan-host"), "'plan-host' needs a model and all of its kernels"),
    ],
)
def test_a_dump_of_another_level(
    invoke: Invoke, dumps: Path, dump: str, words: tuple[str, ...], message: str
) -> None:
    result = invoke("opt", next(dumps.glob(f"*.{dump}.mlir")), "--from", *words)
    assert (result.exit_code, result.stdout) == (1, "") and result.stderr.startswith(f"error: {message}")


def test_verify(invoke: Invoke, model: Path) -> None:
    words = ("verify", model, "--target", "sm_80", "--device", "emulator", "--shape", "x=3x10")
    result = invoke(*words, "--layers")
    assert result.exit_code == 0, result.output
    assert "outputs, emulator against onnxruntime" in result.output
    assert "kernels, emulator against numpy (1)" in result.output
    assert "ONNX nodes as imported, numpy against onnxruntime" in result.output
    assert "passed" in result.output
    result = invoke(*words, "--tolerance", "-1")
    assert result.exit_code == 1 and "1 FAILED" in result.output


def test_replay(invoke: Invoke, tmp_path: Path) -> None:
    good = write_repro(job(), "it failed", "", tmp_path)
    result = invoke("replay", good)
    assert result.exit_code == 0
    assert re.fullmatch(
        r"kernel 'double' compiles for sm_80: \d+ registers, 0 bytes of spills \(Add_1\)\n", result.output
    )
    assert ".visible .entry double(" in invoke("replay", good, "--ptx").stdout
    bad = write_repro(job(FATAL), "it failed", "", tmp_path)
    result = invoke("replay", bad)
    assert result.exit_code == 1
    assert "no libcall available for fexp" in result.stderr and f"tilewright replay {bad}" in result.stderr
    (tmp_path / "empty").mkdir()
    assert "is not a repro folder" in invoke("replay", tmp_path / "empty").stderr


def test_doctor(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    result = invoke("doctor")
    assert result.exit_code == 0, result.output
    assert "models can be compiled\nengines can be run\n" in result.output

    def missing() -> str:
        raise ImportError("no module named mlir\nit is not installed")

    checks = (doctor_module.Check("MLIR and LLVM", missing, "compile"),)
    monkeypatch.setattr(doctor_module, "CHECKS", checks)
    result = invoke("doctor")
    assert result.exit_code == 1
    assert result.output == (
        "FAIL MLIR and LLVM          no module named mlir\n                            it is not installed\n\n"
        "models cannot be compiled: MLIR and LLVM\nengines cannot be run: no device works\n"
    )


def test_doctor_on_a_cache_that_cannot_be_written(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path / "file" / "cache"))
    checks = tuple(check for check in doctor_module.CHECKS if check.name == "cache")
    monkeypatch.setattr(doctor_module, "CHECKS", checks)
    result = invoke("doctor")
    assert result.output.startswith(
        f"no   cache                  {tmp_path}/file/cache: Not a directory; everything is compiled anew\n"
        "                            TILEWRIGHT_CACHE chooses another folder\n"
    )


def test_golden_errors(invoke: Invoke, model: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"\x08\x08garbage")
    (tmp_path / "bad.npy").write_bytes(b"garbage")
    cases = [
        (("compile", tmp_path / "none.onnx"), f"cannot read {tmp_path}/none.onnx: No such file or directory"),
        (("compile", tmp_path / "bad.onnx"), f"{tmp_path}/bad.onnx is not an ONNX model"),
        (
            ("compile", model, "--target", "sm_12"),
            "unknown target 'sm_12'\n  known: sm_80, sm_86, sm_87, sm_89",
        ),
        (
            ("compile", model, "-o", tmp_path / "none" / "m.tw"),
            f"cannot write the engine file {tmp_path}/none/m.tw: ",
        ),
        (("run", tmp_path / "none.tw"), f"cannot read {tmp_path}/none.tw: No such file or directory"),
        (
            ("run", model, "--input", f"x={tmp_path}/bad.npy"),
            f"cannot read the array {tmp_path}/bad.npy for input 'x'",
        ),
        (("inspect", model), "not an engine file"),
        (("verify", tmp_path / "none.onnx"), f"cannot read {tmp_path}/none.onnx"),
    ]
    for words, message in cases:
        result = invoke(*words)
        assert result.exit_code == 1, (words, result.output, result.exception)
        assert result.stderr.startswith("error: " + message), result.stderr
        assert "Traceback" not in result.output
    for words in (
        ("compile",),
        ("compile", model, "--shape", "x"),
        ("compile", model, "--precision", "f8"),
        ("run", model, "--input", "x"),
    ):
        assert invoke(*words).exit_code == 2


def test_a_full_disk_is_a_clear_error(engine: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    result = CliRunner().invoke(
        main, ["run", str(engine), "--random", "0", "--device", "emulator", "--save", "/dev/full"]
    )
    assert result.exit_code == 1
    assert result.stderr.endswith("error: cannot write /dev/full: No space left on device\n")
    assert os.path.exists("/dev/full")


def test_as_a_process(model: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tilewright.compiler",
        "compile",
        str(model),
        "-o",
        str(tmp_path / "m.tw"),
    ]
    result = subprocess.run([*command, "--target", "sm_80"], capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{tmp_path}/m.tw: 1 kernels, 1 launches, sm_80 model")
    result = subprocess.run(
        [*command[:3], "compile", "none.onnx"], capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stderr) == (
        1,
        "error: cannot read none.onnx: No such file or directory\n",
    )
