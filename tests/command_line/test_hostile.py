"""Hostile surroundings: full disks, closed pipes, terminals without letters, interruptions. A clear message and an
exit status, never a traceback, and nothing half written."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner
from tests.command_line import models

import tilewright
from tilewright.compiler.backend import assemble
from tilewright.compiler.command_line import main
from tilewright.compiler.commands import inspect
from tilewright.compiler.frontend.loading import load
from tilewright.passes.target import find_target
from tilewright.runtime.engine import Engine
from tilewright.runtime.errors import ModelError
from tilewright.runtime.whole_file import whole_file


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engine") / "tiny.tw"
    tilewright.compile(models.softmax(), target="sm_80").save(path)
    return path


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError("Unable to allocate 7.28 TiB"), "error: out of memory: Unable to allocate 7.28 TiB\n"),
        (MemoryError(), "error: out of memory: this process may not have more\n"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "error: No space left on device\n"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "error: Permission denied: /x\n"),
        (ValueError("what"), "error: ValueError: what\n  at "),
    ],
)
def test_whatever_happens_there_is_a_message(
    error: Exception, message: str, engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> Engine:
        raise error

    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path))
    monkeypatch.setattr(inspect, "Engine", type("Failing", (), {"load": staticmethod(fail)}))
    result = CliRunner().invoke(main, ["inspect", str(engine)])
    assert result.exit_code == 1 and result.stderr.startswith(message), result.stderr
    traces = list((tmp_path / "failures").glob("traceback-*.txt")) if isinstance(error, ValueError) else []
    for trace in traces:
        assert f"  traceback: {trace}\n  this is a bug of tilewright" in result.stderr
        assert "ValueError: what" in trace.read_text()
    assert bool(traces) == isinstance(error, ValueError)


def test_a_reader_that_leaves_is_no_error_to_talk_about(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> Engine:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(inspect, "Engine", type("Failing", (), {"load": staticmethod(fail)}))
    result = CliRunner().invoke(main, ["inspect", str(engine)])
    assert (result.exit_code, result.output) == (1, "")


def test_a_terminal_without_letters(tmp_path: Path) -> None:
    model = models.softmax()
    model.graph.node[0].name = "Knoten_ä"
    path = tmp_path / "tiny.tw"
    tilewright.compile(model, target="sm_80").save(path)
    command = [sys.executable, "-m", "tilewright.compiler", "inspect", str(path)]
    plain = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    result = subprocess.run(command, env=plain, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and "Knoten_\\xe4" in result.stdout, result.stderr


def test_a_file_name_that_is_no_text(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/model\xff.onnx"
    with open(path, "wb") as stream:
        stream.write(models.softmax().SerializeToString())
    assert load(os.fsdecode(path)).name == "model?"


# Files that are there whole or not at all -----------------------------------------------------------------
def test_what_stood_there_stays_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(ModelError, match=r"cannot write the thing /.*: No space left"), whole_file(path, "the thing"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(KeyboardInterrupt), whole_file(path) as stream:
        stream.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    with whole_file(path) as stream:
        stream.write(b"new")
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


def test_what_is_no_file_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    with whole_file(pipe) as stream:
        stream.write(b"through")
    reader.join(timeout=30)
    assert read == [b"through"] and pipe.is_fifo()
    with pytest.raises(ModelError, match=r"cannot write .*: Is a directory"), whole_file(tmp_path):
        pass


def test_a_disk_that_is_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which says so of a file to be removed too, whether there is one or not."""

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "scratch")

    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    message = f"cannot write the thing {tmp_path}/file: Read-only file system"
    with pytest.raises(ModelError, match=message), whole_file(tmp_path / "file", "the thing"):
        pass


def test_no_room_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**options: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryDirectory", full)
    with pytest.raises(ModelError, match=r"(?s)cannot write to .*: No space left on device\n  TMPDIR chooses another"):
        assemble.assemble(".version 8.0", find_target("sm_80"))


# Interruption ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_compilation_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    onnx.save(models.perceptron(40), tmp_path / "model.onnx")
    (tmp_path / "temporary").mkdir()
    code = """
import os, signal, sys
from dataclasses import replace
from tilewright.compiler import kernels, pipeline
from tilewright.compiler.command_line import main

def interrupt(compilation):
    os.kill(os.getpid(), int(sys.argv[1]))  # while the workers are busy

print(*[worker.process for worker in kernels.shared_pool()._idle], flush=True)

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell has its background jobs ignore
pipeline.STAGES = tuple(replace(row, run=interrupt) if row.name == "lower" else row for row in pipeline.STAGES)
main(["compile", "model.onnx", "--no-cache", "--target", "sm_80"])
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    command = [sys.executable, "-c", code, str(int(number))]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    asked = number == signal.SIGINT  # the others end the process at once, as they should
    assert (result.returncode, result.stderr.strip()) == ((130, "interrupted") if asked else (-number, ""))
    processes = [int(text) for text in result.stdout.split()]
    assert processes and not any(_alive(process) for process in processes)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["model.onnx", "temporary"]


def test_an_interruption_while_bindings_load_is_no_crash() -> None:
    """An exception in the middle of loading MLIR's would be a segmentation fault: it comes when they are there."""
    code = """
import signal, sys
from tilewright.compiler import libraries
signal.signal(signal.SIGINT, signal.default_int_handler)

class Interrupter:
    def find_spec(self, name, path=None, target=None):
        if name == "mlir._mlir_libs._mlir":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupter())
try:
    libraries.load_libraries()
except KeyboardInterrupt:
    print(all(name in sys.modules for name in libraries.LIBRARIES), signal.getsignal(signal.SIGINT).__name__)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "True default_int_handler\n", "")


def _alive(process: int) -> bool:
    """Whether it runs still; it has ten seconds to notice that its compiler is gone."""
    for _ in range(100):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        threading.Event().wait(0.1)
    return True


def test_a_link_stays_and_leads_to_the_new_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with whole_file(tmp_path / "link") as stream:
        stream.write(b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


def test_an_open_file_by_its_number_is_written_to(tmp_path: Path) -> None:
    """As /dev/stdout is, when a shell has led it to a file: it must not become a file itself."""
    with (tmp_path / "file").open("wb") as target, whole_file(Path(f"/proc/self/fd/{target.fileno()}")) as stream:
        stream.write(b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
