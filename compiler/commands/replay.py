"""`tilewright replay`: compile again what failed before.

In: a repro folder that an InternalError named. Out: the same error, or the word that it compiles now.
"""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="replay")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--ptx", is_flag=True, help="Print the PTX when it compiles.")
def command(folder: Path, ptx: bool) -> None:
    """Compile the kernel or the model in a repro FOLDER again, a kernel in a process of its own."""
    from ..model_repro import is_model_repro

    if is_model_repro(folder):
        _replay_model(folder)
    else:
        _replay_kernel(folder, ptx)


def _replay_model(folder: Path) -> None:
    from ..api import compile_fully
    from ..model_repro import read_model_repro

    model, options = read_model_repro(folder)
    compilation = compile_fully(model, options)
    click.echo(f"{model} compiles for {options.target}: {len(compilation.kernels)} kernels")


def _replay_kernel(folder: Path, ptx: bool) -> None:
    from ..backend.repro import read_repro
    from ..backend.workers import WorkerPool

    job = read_repro(folder)
    pool = WorkerPool(1)
    try:
        kernel = pool.submit(job, folder.parent).result()
    finally:
        pool.close()
    if ptx:
        click.echo(kernel.ptx)
    nodes = ", ".join(job.nodes) or "no node named"
    registers = f"{kernel.registers} registers, {kernel.spills} bytes of spills"
    click.echo(f"kernel '{kernel.name}' compiles for {job.target}: {registers} ({nodes})", err=ptx)
