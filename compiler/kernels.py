"""The stages between tile programs and PTX: kernels are handed to the workers, and collected.

In: a unit with its tile programs. Out: a `CompiledKernel` for each, from the cache or from a worker. Between
the two stages this process plans the host program while the workers are busy.
"""

from __future__ import annotations

import json
from concurrent.futures import Future, as_completed
from dataclasses import asdict, replace

from ..passes.target import find_target
from ..passes.unit import KernelProgram
from ..runtime.cache import Cache, make_key
from ..runtime.errors import Error, InternalError, UnsupportedError
from .backend.assemble import serialises
from .backend.kernel import CompiledKernel, KernelJob
from .backend.versions import KERNEL_SOURCES, source_digest, tool_versions
from .backend.workers import shared_pool
from .compilation import Compilation, Pending
from .dumps import without_locations
from .package import weight_handles

SECTION = "kernels"


def start_kernels(compilation: Compilation) -> None:
    """Take every kernel from the cache or start it in a worker, unless that was done early with the same text."""
    for program in _programs(compilation):
        early = compilation.pending.get(program.name)
        if early is None or early.text != program.text:
            _start(compilation, program)


def start_early(compilation: Compilation, program: KernelProgram) -> None:
    """Start one kernel as the pass `pipeline` will leave it: the workers have nothing to do while others are tiled."""
    from ..passes.tile.pipeline import pipelined

    text = None if program.given else pipelined(program.text)
    _start(compilation, replace(program, text=text) if text else program)


def give_up(compilation: Compilation) -> None:
    """Kernels that no worker has begun are not compiled: something else failed."""
    for pending in compilation.pending.values():
        if isinstance(pending.result, Future):
            pending.result.cancel()


def _start(compilation: Compilation, program: KernelProgram) -> None:
    unit, options = compilation.unit, compilation.options
    result: Future[CompiledKernel] | CompiledKernel | None = _lookup(compilation.cache, program, unit.target)
    if result is None:
        folder = options.dump / "failures" if options.dump else None
        result = shared_pool(options.jobs).submit(_job(program, unit.target), folder)
    compilation.pending[program.name] = Pending(program.text, result)


def finish_kernels(compilation: Compilation) -> None:
    """Wait for all kernels. Raises InternalError or UnsupportedError with every kernel that failed, the
    unsupported first.
    """
    done, failures = 0, []
    names: dict[Future[CompiledKernel], str] = {}
    for name, pending in compilation.pending.items():
        if isinstance(pending.result, Future):
            names[pending.result] = name
        else:
            compilation.kernels[name] = pending.result
            done += 1
    _tell(compilation, done)
    programs = {program.name: program for program in _programs(compilation)}
    if names and compilation.unit.host is not None:  # the workers are busy and this process is not
        compilation.unit.weights.prepare(weight_handles(compilation.unit.host))
    for future in as_completed(names):
        name = names[future]
        try:
            kernel = future.result()
        except Error as error:
            failures.append((name, error))
            continue
        compilation.kernels[name] = kernel
        _keep(compilation.cache, programs[name], compilation.unit.target, kernel)
        done += 1
        _tell(compilation, done)
    compilation.pending.clear()
    if compilation.cache:
        compilation.cache.trim()
    if failures:
        _raise(failures)
    _check_workmanship(compilation)


def lowered_texts(compilation: Compilation) -> dict[str, str]:
    """The gpu module of every kernel by name, for people: made again here, since workers give PTX only."""
    from ..passes.lower import lower_kernel

    facts = find_target(compilation.unit.target)
    programs = [program for program in _programs(compilation) if not program.given]
    return {program.name: lower_kernel(program.text, facts).module_text for program in programs}


def _programs(compilation: Compilation) -> list[KernelProgram]:
    """Every tile program once, by name."""
    return list({program.name: program for program in compilation.unit.kernels.values()}.values())


def _job(program: KernelProgram, target: str) -> KernelJob:
    job = KernelJob(program.name, program.text, target, tuple(program.nodes), program.level)
    given = program.given
    if given is None:
        return job
    return replace(job, block=program.block, shared_bytes=given.shared_bytes, parameters=given.parameters)


def _key(program: KernelProgram, target: str) -> str:
    given = program.given
    text = str((program.text, given.shared_bytes, given.parameters)) if given else without_locations(program.text)
    return make_key("kernel", text, target, source_digest(KERNEL_SOURCES), tool_versions())


def _lookup(cache: Cache | None, program: KernelProgram, target: str) -> CompiledKernel | None:
    content = cache.get(SECTION, _key(program, target)) if cache else None
    if content is None:
        return None
    try:
        return CompiledKernel.from_json(json.loads(content))
    except (ValueError, KeyError, TypeError):
        return None  # written by another version under the same key: compile again


def _keep(cache: Cache | None, program: KernelProgram, target: str, kernel: CompiledKernel) -> None:
    if cache:
        cache.put(SECTION, _key(program, target), json.dumps(asdict(kernel)).encode())


def _tell(compilation: Compilation, done: int) -> None:
    compilation.tell(replace(compilation.progress, done=done, kernels=len(compilation.pending)))


def _raise(failures: list[tuple[str, Error]]) -> None:
    """One error for all failed kernels."""
    failures.sort(key=lambda failure: (not isinstance(failure[1], UnsupportedError), failure[0]))
    first = failures[0][1]
    if len(failures) == 1:
        raise first
    text = "\n".join(str(error) for _, error in failures[:5])
    if len(failures) > 5:
        text += f"\nand {len(failures) - 5} more kernels: {', '.join(name for name, _ in failures[5:15])}"
    raise type(first)(text)


def _check_workmanship(compilation: Compilation) -> None:
    """Serialised wgmma makes a kernel many times slower than it was meant to be: our bug."""
    for name, kernel in sorted(compilation.kernels.items()):
        if serialises(kernel.warnings):
            nodes = next(program.nodes for program in _programs(compilation) if program.name == name)
            lines = [f"ptxas serialises the matrix multiplications of kernel '{name}'"]
            lines += [f"ONNX nodes: {', '.join(nodes)}", *kernel.warnings]
            raise InternalError("\n  ".join(lines))
