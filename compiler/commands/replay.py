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
    """Compile the kernel in a repro FOLDER again, in a process of its own."""
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
