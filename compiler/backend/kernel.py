"""One kernel all the way: tile program -> gpu module -> PTX -> checked by ptxas.

In: a `KernelJob`, plain data that travels to a worker process as JSON. Out: a `CompiledKernel`, plain data
too, which is what the cache keeps. This function is the whole work of a worker, and of `tilewright replay`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from ...passes.target import Target, find_target
from ...runtime.errors import InternalError, ModelError

if TYPE_CHECKING:
    from .assemble import Assembly

LEVELS = ("tile", "gpu", "ptx")

_ENTRY = re.compile(r"\.visible \.entry\s+([\w$]+)\(([^)]*)\)", re.DOTALL)
_PARAMETER = re.compile(r"\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)")
_BLOCK_SIZE = re.compile(r"^\.reqntid [^\n]*\n", re.MULTILINE)
_PARAMETER_TYPES = {
    "u64": "pointer",
    "b64": "pointer",
    "u32": "i32",
    "b32": "i32",
    "s32": "i32",
    "s64": "i64",
    "b8": "tensor_map",  # 128 bytes by value: nothing else of ours is an array
}


@dataclass(frozen=True)
class KernelJob:
    """What a worker needs. `text` is a tile module, with level `gpu` a module that is lowered already, or `ptx`."""

    name: str
    text: str
    target: str
    nodes: tuple[str, ...] = ()
    level: str = "tile"
    block: int = 0  # threads; like what follows only where no lowering tells
    shared_bytes: int = 0
    parameters: tuple[str, ...] = ()  # of PTX, in which addresses and long integers look the same

    @staticmethod
    def from_json(value: dict[str, Any]) -> KernelJob:
        """The inverse of `dataclasses.asdict` through JSON."""
        lists = {key: tuple(value[key]) for key in ("nodes", "parameters")}
        return KernelJob(**{**value, **lists})


@dataclass(frozen=True)
class CompiledKernel:
    """A kernel that ptxas accepted. `shared_bytes` are dynamic, `parameters` as in the manifest."""

    name: str
    ptx: str
    block: int
    shared_bytes: int
    registers: int
    spills: int
    parameters: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data; see `from_json`."""
        return asdict(self)

    @staticmethod
    def from_json(value: dict[str, Any]) -> CompiledKernel:
        """Raises TypeError or KeyError when keys do not fit."""
        lists = {key: tuple(value[key]) for key in ("parameters", "warnings")}
        known = {field.name for field in fields(CompiledKernel)}
        if set(value) != known:
            raise KeyError("not a compiled kernel")
        return CompiledKernel(**{**value, **lists})


def compile_kernel(job: KernelJob) -> CompiledKernel:
    """Lower, emit and assemble. Raises InternalError or UnsupportedError; may abort the process (see
    workers.py).
    """
    from .assemble import assemble
    from .emit import emit_ptx

    target = find_target(job.target)
    if job.level == "ptx":
        return _assemble_given(job, target)
    block, shared_bytes = job.block, job.shared_bytes
    if job.level == "tile":
        from ...passes.lower import lower_kernel

        lowered = lower_kernel(job.text, target)
        block, shared_bytes = lowered.block, lowered.shared_bytes
        ptx = emit_ptx(lowered.module, target, job.text)
    else:
        ptx = emit_ptx(job.text, target)
    ptx, assembly = _without_spills(ptx, assemble(ptx, target), lambda text: assemble(text, target))
    entry, parameters = read_signature(ptx)
    if entry != job.name:
        raise InternalError(f"the PTX defines {entry!r}, not {job.name!r}")
    return CompiledKernel(
        name=job.name,
        ptx=ptx,
        block=block,
        shared_bytes=shared_bytes,
        registers=assembly.registers,
        spills=assembly.spills,
        parameters=parameters,
        warnings=assembly.warnings,
    )


def _assemble_given(job: KernelJob, target: Target) -> CompiledKernel:
    """PTX that somebody wrote: what ptxas says against it is no bug of ours."""
    from .assemble import assemble

    try:
        assembly = assemble(job.text, target)
    except InternalError as error:
        raise ModelError(str(error)) from None
    return CompiledKernel(
        name=job.name,
        ptx=job.text,
        block=job.block,
        shared_bytes=job.shared_bytes,
        registers=assembly.registers,
        spills=assembly.spills,
        parameters=job.parameters,
    )


def _without_spills(
    ptx: str, assembly: Assembly, assemble_again: Callable[[str], Assembly]
) -> tuple[str, Assembly]:
    """The kernel with leave to use more registers, where that ends spilling.

    For a kernel with a fixed block size ptxas guesses an occupancy, and sometimes spills a little to reach it.
    """
    if not assembly.spills or ".minnctapersm" in ptx:
        return ptx, assembly
    relaxed = _BLOCK_SIZE.sub(r"\g<0>.minnctapersm 1\n", ptx, count=1)
    again = assemble_again(relaxed)
    return (relaxed, again) if again.spills < assembly.spills else (ptx, assembly)


def read_signature(ptx: str) -> tuple[str, tuple[str, ...]]:
    """The entry's name and the manifest's type of each parameter. Raises InternalError when there is not one
    entry.
    """
    entries = _ENTRY.findall(ptx)
    if len(entries) != 1:
        raise InternalError(f"the PTX has {len(entries)} entries, not one")
    name, text = entries[0]
    types = _PARAMETER.findall(text)
    unknown = [kind for kind in types if kind not in _PARAMETER_TYPES]
    if unknown:
        raise InternalError(f"kernel {name!r} has a parameter of PTX type .{unknown[0]}")
    return name, tuple(_PARAMETER_TYPES[kind] for kind in types)
