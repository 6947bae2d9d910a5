"""Worker processes: results, errors, and a process that dies in the middle of a kernel."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.backend.kernels import FATAL, job

from tilewright import InternalError, UnsupportedError
from tilewright.compiler.backend import workers as workers_module
from tilewright.compiler.backend.repro import read_repro
from tilewright.compiler.backend.workers import WorkerPool, kernel_error, shared_pool


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool(1)
    yield pool
    pool.close()


def test_compiles_and_reports_what_ptxas_says(pool: WorkerPool, tmp_path: Path) -> None:
    kernel = pool.submit(job(), tmp_path).result()
    assert kernel.name == "double"
    assert kernel.parameters == ("pointer", "pointer", "i32")
    assert (kernel.block, kernel.shared_bytes, kernel.spills) == (32, 0, 0)
    assert 4 <= kernel.registers <= 32
    assert ".target sm_80" in kernel.ptx
    assert not list(tmp_path.iterdir())


def test_same_kernel_same_bytes(pool: WorkerPool) -> None:
    first, second = pool.submit(job()).result(), WorkerPool(1)
    try:
        assert second.submit(job()).result() == first
    finally:
        second.close()


def test_rejected_kernel_names_nodes_and_leaves_a_repro(pool: WorkerPool, tmp_path: Path) -> None:
    bad = job("llvm.intr.exp(%value) : (f64) -> f64", nodes=("Exp_7", "Add_8"))
    with pytest.raises(InternalError) as caught:
        pool.submit(bad, tmp_path).result()
    (folder,) = tmp_path.iterdir()
    message = re.sub(r"\n  error: .*\n .*", "\n  <diagnostic>", str(caught.value)).replace(
        str(folder), "<repro>"
    )
    assert message == (
        "kernel 'double' for sm_80 does not compile\n"
        "  ONNX nodes: 'Exp_7', 'Add_8'\n"
        "  MLIR rejects the lowered kernel:\n"
        "  Failure while executing pass pipeline:\n"
        "  <diagnostic>\n"
        "  repro: tilewright replay <repro>"
    )
    assert "failed to legalize operation 'llvm.intr.exp'" in str(caught.value)
    assert read_repro(folder) == bad
    assert sorted(path.name for path in folder.iterdir()) == ["job.json", "kernel.gpu.mlir", "message.txt"]


def test_a_crash_takes_down_one_kernel_only(tmp_path: Path) -> None:
    pool = WorkerPool(2)
    try:
        futures = [pool.submit(job(name=f"good_{number}"), tmp_path) for number in range(4)]
        guilty = pool.submit(job(FATAL, nodes=("Exp_3",)), tmp_path)
        futures += [pool.submit(job(name=f"good_{number}"), tmp_path) for number in range(4, 8)]
        with pytest.raises(InternalError) as caught:
            guilty.result()
        assert [future.result().name for future in futures] == [f"good_{number}" for number in range(8)]
    finally:
        pool.close()
    (folder,) = tmp_path.iterdir()
    assert str(caught.value).replace(str(folder), "<repro>") == (
        "kernel 'double' for sm_80 does not compile\n"
        "  ONNX nodes: 'Exp_3'\n"
        "  the compiler process ended with exit status 1\n"
        "  error: no libcall available for fexp\n"
        "  repro: tilewright replay <repro>"
    )


def test_killed_worker_is_named_by_its_signal(tmp_path: Path) -> None:
    pool = WorkerPool(1)
    try:
        os.kill(pool._idle[0].process, signal.SIGKILL)
        with pytest.raises(InternalError, match="ended with SIGKILL"):
            pool.submit(job(), tmp_path).result()
        assert pool.submit(job(), tmp_path).result().name == "double"
    finally:
        pool.close()


def test_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "TIME_LIMIT", 0.0)
    pool = WorkerPool(1)
    try:
        with pytest.raises(InternalError, match="ended with SIGKILL"):
            pool.submit(job(), tmp_path).result()
    finally:
        pool.close()


def test_unsupported_has_no_repro(tmp_path: Path) -> None:
    error = kernel_error(job(), "UnsupportedError", "no fp8 on sm_80", "", tmp_path)
    assert isinstance(error, UnsupportedError)
    assert (
        str(error) == "kernel 'double' for sm_80 does not compile\n  ONNX nodes: 'Add_1'\n  no fp8 on sm_80"
    )
    assert not list(tmp_path.iterdir())


def test_repro_on_a_full_disk_still_gives_the_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = kernel_error(job(), "InternalError", "broken", "", tmp_path / "file")
    assert "broken" in str(error) and "replay" not in str(error)


def test_the_shared_pool_is_kept() -> None:
    assert shared_pool(1) is shared_pool(1)
    other = shared_pool(2)
    assert other.jobs == 2 and other is shared_pool(2)
    workers_module.close_shared_pool()
