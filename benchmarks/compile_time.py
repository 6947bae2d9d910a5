"""How long compiling takes: cold, warm, kernels, memory, engine size; IREE beside it when installed.

In: the models of tests/support/zoo.py and any ONNX files given. Out: a table, and JSON with --json FILE.

    python -m benchmarks.compile_time [--json FILE] [--only NAME] [--precision f16] [MODEL.onnx ...]

Each measurement is a process of its own with an empty kernel cache (cold), then the same again (warm).
Time is that of `tilewright.compile` alone, and beside it that of processors, imports and workers included, which says
more where other work runs; memory is the peak of that process and of its largest worker. Python's byte code is kept as
on a user's machine, whatever this one's environment says, and made by a run that does not count.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
MEGABYTE = 1_000_000
LIMIT_SECONDS = 600


@dataclass(frozen=True)
class Measurement:
    """One model. Seconds, megabytes (10^6 bytes); IREE's are None where it is not installed or fails."""

    model: str
    cold: float
    warm: float
    kernels: int
    launches: int
    peak_megabytes: float
    worker_megabytes: float
    model_megabytes: float
    engine_megabytes: float
    processor: float = 0.0  # seconds of all processors, cold
    iree_import: float | None = None
    iree_compile: float | None = None
    iree_megabytes: float | None = None


def _own_peak() -> int:
    """Peak memory of this process in KiB. Not ru_maxrss, which a process inherits from the one that started it."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))


def _processor_seconds() -> float:
    """Of this process and all that it started and that still run, with the children that those have waited for."""
    fields = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            fields[int(path.parent.name)] = path.read_text().rpartition(")")[2].split()
    family, ticks = {os.getpid()}, 0
    while found := {process for process, own in fields.items() if int(own[1]) in family} - family:
        family |= found
    for process in family:
        ticks += sum(map(int, fields[process][11:15]))  # utime, stime, cutime, cstime
    return ticks / os.sysconf("SC_CLK_TCK")


def compile_here(path: Path, target: str, precision: str) -> dict[str, Any]:
    """Compile one file in this process and measure. Runs in a process of its own."""
    from tilewright.compiler.api import compile
    from tilewright.compiler.backend.workers import close_shared_pool

    started = time.perf_counter()
    engine = compile(path, target=target, precision=precision)
    seconds = time.perf_counter() - started
    processor = _processor_seconds()
    with tempfile.TemporaryDirectory() as folder:
        engine.save(Path(folder) / "engine.tw")
        size = (Path(folder) / "engine.tw").stat().st_size
    close_shared_pool()  # the system counts a worker's memory when it has ended
    peaks = [_own_peak(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]
    return {
        "seconds": seconds,
        "processor": processor,
        "kernels": len(engine.kernels),
        "launches": len(engine.program.launches),
        "peaks": [kilobytes * 1024 / MEGABYTE for kilobytes in peaks],
        "engine_megabytes": size / MEGABYTE,
    }


def in_a_process(path: Path, options: list[str], cache: str, bytecode: str) -> dict[str, Any]:
    """What `compile_here` returns, from a fresh process with that kernel cache and folder of byte code."""
    command = [sys.executable, "-m", "benchmarks.compile_time", "--here", str(path), *options]
    environment = os.environ | {"TILEWRIGHT_CACHE": cache, "PYTHONPYCACHEPREFIX": bytecode}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    finished = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT_SECONDS
    )
    if finished.returncode != 0:
        raise RuntimeError(finished.stderr.strip().splitlines()[-1])
    result: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return result


def timed(command: list[str]) -> tuple[float, float]:
    """Seconds and peak megabytes of a command, from the system's accounting of that child. May raise."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{command[0]} failed")
    return time.perf_counter() - started, usage.ru_maxrss * 1024 / MEGABYTE


def iree(path: Path) -> dict[str, float]:
    """IREE's import and compile time of the same file for CUDA; nothing when it is not installed or fails."""
    if importlib.util.find_spec("iree") is None:
        return {}
    programs = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as folder:
        imported, compiled = f"{folder}/model.mlir", f"{folder}/model.vmfb"
        try:
            first, _ = timed([str(programs / "iree-import-onnx"), str(path), "-o", imported])
            options = ["--iree-hal-target-device=cuda", "--iree-cuda-target=sm_80"]  # 3.13 has no sm_90
            second, peak = timed([str(programs / "iree-compile"), imported, *options, "-o", compiled])
        except RuntimeError:
            return {}
    return {"iree_import": first, "iree_compile": second, "iree_megabytes": peak}


def measure(name: str, path: Path, options: list[str], bytecode: str) -> Measurement:
    """Cold and warm compile of one file with these options of the command."""
    with tempfile.TemporaryDirectory() as cache:
        cold = in_a_process(path, options, cache, bytecode)
        warm = in_a_process(path, options, cache, bytecode)
    return Measurement(
        model=name,
        cold=cold["seconds"],
        processor=cold["processor"],
        warm=warm["seconds"],
        kernels=cold["kernels"],
        launches=cold["launches"],
        peak_megabytes=cold["peaks"][0],
        worker_megabytes=cold["peaks"][1],
        model_megabytes=path.stat().st_size / MEGABYTE,
        engine_megabytes=cold["engine_megabytes"],
        **iree(path),
    )


def table(rows: list[Measurement]) -> Table:
    """The measurements for people."""
    times = ("cold s", "processor s", "warm s")
    headings = ("model", "MB", *times, "kernels", "launches", "peak MB", "engine MB", "IREE s")
    shown = Table(title="compile time", caption="peak: of the compiler, of its largest worker")
    for heading in headings:
        shown.add_column(heading, justify="left" if heading == "model" else "right")
    for row in rows:
        other = f"{row.iree_import:.1f} + {row.iree_compile:.1f}" if row.iree_import is not None else "-"
        shown.add_row(
            row.model, f"{row.model_megabytes:.1f}", f"{row.cold:.2f}", f"{row.processor:.2f}", f"{row.warm:.2f}",
            str(row.kernels), str(row.launches), f"{row.peak_megabytes:.0f}, {row.worker_megabytes:.0f}",
            f"{row.engine_megabytes:.1f}", other,
        )  # fmt: skip
    return shown


def files(folder: Path, only: str) -> list[tuple[str, Path]]:
    """Every model of the zoo as a file; those made here are written into `folder`."""
    from tests.support.zoo import MODELS

    found: list[tuple[str, Path]] = []
    for name, model in MODELS.items():
        if only not in name:
            continue
        loaded = model.load()
        if isinstance(loaded, onnx.ModelProto):
            path = folder / f"{name}.onnx"
            onnx.save(loaded, path)
        else:
            path = loaded
        found.append((name, path))
    return found


def main() -> None:
    """Measure and print; a model that fails is reported and the rest go on."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", type=Path, help="ONNX files; default: the models of the tests")
    parser.add_argument("--json", type=Path, help="also write the measurements here")
    parser.add_argument("--target", default="sm_90a")
    parser.add_argument("--precision", default="strict")
    parser.add_argument("--only", default="", help="only models whose name contains this")
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.here:
        print(json.dumps(compile_here(chosen.here, chosen.target, chosen.precision)))
        return
    console, options = Console(width=120), ["--target", chosen.target, "--precision", chosen.precision]
    rows: list[Measurement] = []
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as bytecode:
        given = [(path.stem, path.resolve()) for path in chosen.models]
        for name, path in given or files(Path(folder), chosen.only):
            try:
                if not any(Path(bytecode).iterdir()):
                    measure(name, path, options, bytecode)
                rows.append(measure(name, path, options, bytecode))
            except RuntimeError as failure:
                console.print(f"{name}: {failure}", style="red", markup=False)
    console.print(table(rows))
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
