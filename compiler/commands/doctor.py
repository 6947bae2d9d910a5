"""`tilewright doctor`: what works on this machine, and why something does not.

In: nothing. Out: a line for every part that compiling and running need, each tried out rather than looked up.
Exit status 1 when models cannot be compiled or cannot be run anywhere.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import click

from ...passes.target import DEFAULT_TARGET, find_target
from ...runtime.errors import Error, ModelError
from ..command_options import console, size_text

# y[i] = x[i] + x[i] for one block: small, and through every stage of the back end.
KERNEL = """
module attributes {gpu.container_module} {
  gpu.module @kernels {
    llvm.func @double(%x: !llvm.ptr<1>, %y: !llvm.ptr<1>)
        attributes {nvvm.kernel, nvvm.reqntid = array<i32: 32, 1, 1>} {
      %thread = nvvm.read.ptx.sreg.tid.x : i32
      %from = llvm.getelementptr %x[%thread] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, f32
      %to = llvm.getelementptr %y[%thread] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, f32
      %value = llvm.load %from : !llvm.ptr<1> -> f32
      %sum = llvm.fadd %value, %value : f32
      llvm.store %sum, %to : f32, !llvm.ptr<1>
      llvm.return
    }
  }
}
"""


@dataclass(frozen=True)
class Check:
    """One line: `run` returns what was found or raises; `needed` are the jobs that fail without it."""

    name: str
    run: Callable[[], str]
    needed: str = ""  # "compile" or "run"; an empty text is optional


@click.command(name="doctor")
def command() -> None:
    """Try out everything that compiling and running need, and say what does not work and why."""
    broken: set[str] = set()
    runs = False
    out = console()
    for check in CHECKS:
        try:
            found, good = check.run(), True
        except (Error, ImportError, OSError, PackageNotFoundError) as error:
            found, good = str(error) or type(error).__name__, False
        mark = "ok  " if good else ("FAIL" if check.needed == "compile" else "no  ")
        first, *rest = found.splitlines() or [""]
        out.print(f"{mark} {check.name:<22} {first}", markup=False, soft_wrap=True)
        for line in rest:
            out.print(f"{'':28}{line.strip()}", markup=False, soft_wrap=True)
        if not good and check.needed == "compile":
            broken.add(check.name)
        runs = runs or (good and check.needed == "run")
    out.print("")
    out.print(
        "models can be compiled" if not broken else f"models cannot be compiled: {', '.join(sorted(broken))}"
    )
    out.print("engines can be run" if runs else "engines cannot be run: no device works")
    if broken or not runs:
        raise click.exceptions.Exit(1)


def _python() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{platform.python_version()} at {sys.executable}, {cores} cores, {platform.system()} {platform.machine()}"


def _packages(*names: str) -> Callable[[], str]:
    return lambda: ", ".join(f"{name} {version(name)}" for name in names)


def _mlir() -> str:
    from ..backend.emit import emit_ptx

    ptx = emit_ptx(KERNEL, find_target(DEFAULT_TARGET))
    found = version("xtc-mlir-python-bindings")
    return f"{found}; a kernel became {len(ptx.splitlines())} lines of PTX for {DEFAULT_TARGET}"


def _ptxas() -> str:
    from ..backend.assemble import assemble, find_tools
    from ..backend.assemble import version as ptxas_version
    from ..backend.emit import emit_ptx

    target = find_target(DEFAULT_TARGET)
    registers = assemble(emit_ptx(KERNEL, target), target).registers
    return f"{ptxas_version()} at {find_tools()['ptxas']}; {registers} registers"


def _nvdisasm() -> str:
    from ..backend.assemble import find_tools

    tool = find_tools().get("nvdisasm")
    if tool is None:
        raise ImportError("not installed: inspect --sass needs it\npip install 'tilewright[disassembler]'")
    return str(tool)


def _workers() -> str:
    from ..backend.kernel import KernelJob
    from ..backend.workers import WorkerPool, available_cores

    pool = WorkerPool(1)
    try:
        pool.submit(KernelJob("double", KERNEL, DEFAULT_TARGET, level="gpu", block=32)).result()
    finally:
        pool.close()
    return f"a kernel was compiled in a process of its own; {available_cores()} are used"


def _cache() -> str:
    from ...runtime.cache import Cache

    cache = Cache()
    try:
        cache.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache.folder):
            pass
    except OSError as error:
        raise ModelError(
            f"{cache.folder}: {error.strerror or error}; everything is compiled anew\n"
            "TILEWRIGHT_CACHE chooses another folder"
        ) from None
    free = shutil.disk_usage(cache.folder).free
    return f"{cache.folder}, {size_text(cache.size())} of at most {size_text(cache.limit)}, {size_text(free)} free"


def _device(name: str) -> Callable[[], str]:
    def run() -> str:
        import numpy as np

        from ...runtime.device import open_device
        from ..backend.emit import emit_ptx

        device = open_device(name)
        try:
            capability = getattr(device, "capability", None)
            target = "sm_80" if capability is None or capability >= (8, 0) else DEFAULT_TARGET
            kernel = device.load("double", emit_ptx(KERNEL, find_target(target)))
            source, result = device.allocate(128), device.allocate(128)
            device.upload(source, np.arange(32, dtype=np.float32))
            device.launch(kernel, (1, 1, 1), (32, 1, 1), 0, [("pointer", source), ("pointer", result)])
            device.synchronize()
            values = np.zeros(32, np.float32)
            device.download(result, values)
            if not np.array_equal(values, 2 * np.arange(32, dtype=np.float32)):
                raise OSError("a kernel ran and gave a wrong answer")
            return f"{device.description}; a kernel ran and gave the right answer"
        finally:
            device.close()

    return run


CHECKS = (
    Check("python", _python, "compile"),
    Check("numpy", _packages("numpy", "ml_dtypes"), "compile"),
    Check("onnx", _packages("onnx"), "compile"),
    Check("MLIR and LLVM", _mlir, "compile"),
    Check("ptxas", _ptxas, "compile"),
    Check("worker processes", _workers, "compile"),
    Check("cache", _cache),
    Check("device emulator", _device("emulator"), "run"),
    Check("device cuda", _device("cuda"), "run"),
    Check("nvdisasm", _nvdisasm),
    Check("onnxruntime", _packages("onnxruntime")),
)
