"""`tilewright compile`: an ONNX model to an engine file.

In: a model file and options. Out: the engine file, and one line about it.
"""

from __future__ import annotations

import time
from pathlib import Path

import click

from ...runtime.archive import ENGINE_FILE
from ...runtime.whole_file import check_place
from ..api import compile_with
from ..command_options import Choices, compile_options, progress_bar, size_text
from ..engine_cache import save_engine


@click.command(name="compile")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Engine file [default: MODEL.tw].")
@compile_options()
@click.option(
    "--dump", type=click.Path(path_type=Path, file_okay=False), help="Folder for the IR of every stage."
)
@click.option(
    "--override",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder with edited dumps that replace what a stage makes.",
)
@click.option("--timings", is_flag=True, help="Print how long each stage took.")
def command(
    model: Path,
    output: Path | None,
    choices: Choices,
    dump: Path | None,
    override: Path | None,
    timings: bool,
) -> None:
    """Compile MODEL.onnx to an engine of PTX kernels. No GPU is needed."""
    started = time.perf_counter()
    options = choices.options(dump=dump, override=override)
    path = output or model.with_suffix(".tw")
    if model.exists():  # else that is the news
        if path.exists() and path.samefile(model):
            raise click.UsageError(f"the engine would replace the model {model}: -o names another file")
        check_place(path, ENGINE_FILE)
    with progress_bar() as progress:
        engine, compilation = compile_with(model, options, progress)
    save_engine(engine, path)
    seconds = time.perf_counter() - started
    if timings and compilation:
        for report in compilation.reports:
            click.echo(f"{report.seconds * 1000:9.1f} ms  {report.stage}")
    spills = sum(kernel.spills > 0 for kernel in engine.kernels.values())
    parts = [
        f"{len(engine.kernels)} kernels",
        f"{len(engine.program.launches)} launches",
        f"{engine.target} {engine.precision}",
        size_text(path.stat().st_size),
        f"{seconds:.2f} s" + ("" if compilation else " (cached)"),
    ]
    if spills:
        parts.append(f"{spills} kernels spill registers")
    click.echo(f"{path}: {', '.join(parts)}")
    for note in engine.manifest.notes:
        click.echo(f"note: {note}")
    if dump:
        click.echo(f"IR of every stage: {dump}")
