"""Assembles PTX with NVIDIA's ptxas: every kernel is checked where it is compiled.

In: PTX text and a target. Out: registers, spills and shared memory as ptxas reports them, its warnings, and
the cubin when asked. The assembler is the one of the Python package nvidia-cuda-nvcc, whose version the
project pins; another one on PATH is never used.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ...passes.target import Target
from ...runtime.errors import InternalError, ModelError

TIME_LIMIT = 120  # seconds for one kernel; the slowest seen takes less than two

_REGISTERS = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_WARNING = re.compile(
    r"^ptxas (?:\S+, line \d+; )?(?:warning\s*:\s*|info\s*:\s*(?=\(C75\d\d\)))(.*)$", re.MULTILINE
)
_SERIALISED = re.compile(r"C75\d\d|wgmma.*serializ", re.IGNORECASE)


@dataclass(frozen=True)
class Assembly:
    """What ptxas says about one kernel. `spills` counts bytes stored and loaded; `shared_bytes` is static."""

    registers: int
    spills: int
    stack_bytes: int
    shared_bytes: int
    warnings: tuple[str, ...]
    cubin: bytes = b""


def serialises(warnings: Iterable[str]) -> bool:
    """True when ptxas had to serialise warpgroup matrix multiplications: a performance bug of ours."""
    return any(_SERIALISED.search(warning) for warning in warnings)


@lru_cache(maxsize=1)
def find_tools() -> dict[str, Path]:
    """`ptxas` and `nvdisasm` of the installed NVIDIA packages, by name; what is not installed is missing."""
    found: dict[str, Path] = {}
    package = importlib.util.find_spec("nvidia")
    for folder in package.submodule_search_locations or () if package else ():
        for tool in ("ptxas", "nvdisasm"):
            candidates = sorted(Path(folder).glob(f"*/bin/{tool}"), reverse=True)
            if candidates:
                found.setdefault(tool, candidates[0])
    return found


@lru_cache(maxsize=1)
def version() -> str:
    """The version line of ptxas, part of every cache key. Raises InternalError when it is not installed."""
    output = _run([str(_ptxas()), "--version"], "").stdout
    found = re.search(r"V\d+\.\d+\.\d+", output)
    return found.group(0) if found else output.strip()


def assemble(ptx: str, target: Target, keep_cubin: bool = False) -> Assembly:
    """Run ptxas on `ptx`. Raises InternalError with its message and the offending line, ModelError where there is no
    room for temporary files.
    """
    with _scratch() as folder:
        source, cubin = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(ptx)
        output = cubin if keep_cubin else Path("/dev/null")
        command = [str(_ptxas()), "-v", f"-arch={target.chip}", "-o", str(output), str(source)]
        result = _run(command, ptx)
        report = result.stdout + result.stderr
        if result.returncode:
            raise InternalError(f"ptxas rejects the kernel for {target.name}:\n{_explain(report, ptx)}")
        return _parse(report, cubin.read_bytes() if keep_cubin else b"")


def disassemble(cubin: bytes) -> str:
    """SASS text of a cubin, by nvdisasm. Raises InternalError when it is not installed."""
    tool = find_tools().get("nvdisasm")
    if tool is None:
        raise InternalError(
            "nvdisasm is not installed\n  install it with: pip install 'tilewright[disassembler]'"
        )
    with _scratch() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(cubin)
        return _run([str(tool), "-c", str(path)], "").stdout


@contextmanager
def _scratch() -> Iterator[str]:
    """A folder for the files of a tool, gone afterwards. Raises ModelError when the disk refuses."""
    try:
        with tempfile.TemporaryDirectory(prefix="tilewright-") as folder:
            yield folder
    except OSError as error:
        where = tempfile.gettempdir()
        raise ModelError(
            f"cannot write to {where}, the folder for temporary files: {error.strerror or error}"
            "\n  TMPDIR chooses another"
        ) from None


def _ptxas() -> Path:
    tool = find_tools().get("ptxas")
    if tool is None:
        raise InternalError("ptxas is not installed\n  install it with: pip install nvidia-cuda-nvcc")
    return tool


def _run(command: list[str], ptx: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
    except subprocess.TimeoutExpired:
        raise InternalError(
            f"{Path(command[0]).name} took longer than {TIME_LIMIT} s ({len(ptx)} characters)"
        ) from None
    except OSError as error:
        raise InternalError(f"{command[0]} cannot be run: {error}") from None


def _parse(report: str, cubin: bytes) -> Assembly:
    def total(pattern: re.Pattern[str], group: int = 1) -> int:
        return max((int(found.group(group)) for found in pattern.finditer(report)), default=0)

    warnings = tuple(dict.fromkeys(found.strip() for found in _WARNING.findall(report)))
    return Assembly(
        registers=total(_REGISTERS),
        spills=total(_STACK, 2) + total(_STACK, 3),
        stack_bytes=total(_STACK),
        shared_bytes=total(_SHARED),
        warnings=warnings,
        cubin=cubin,
    )


def _explain(report: str, ptx: str) -> str:
    """The first errors, each with the line of PTX it stands at."""
    lines, explained = ptx.splitlines(), []
    for message in [line for line in report.splitlines() if "error" in line or "fatal" in line][:5]:
        found = re.search(r"line (\d+); error\s*: (.*)", message)
        if not found:
            explained.append("  " + message)
            continue
        number = int(found.group(1))
        text = lines[number - 1].strip() if 0 < number <= len(lines) else ""
        explained.append(f"  line {number}: {text}\n    {found.group(2)}")
    return "\n".join(explained) or report.strip()
