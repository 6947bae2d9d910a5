"""`tilewright opt`: run part of the pipeline on IR from a file.

In: a module, usually a dump. Out: what the last stage leaves, on standard output. For trying a pass, and for
tests of passes.
"""

from __future__ import annotations

from pathlib import Path

import click

from ...runtime.whole_file import whole_file
from ..command_options import target_option
from ..libraries import load_libraries


class WithStages(click.Command):
    """A command whose help ends with the names of the pipeline's stages, looked up when help is asked for."""

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        from ..pipeline import STAGES

        with formatter.section("Stages, and the level that each leaves"):
            formatter.write_dl([(f"{number} {stage.name}", stage.level) for number, stage in enumerate(STAGES, 1)])


@click.command(name="opt", cls=WithStages)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--from", "first", required=True, metavar="STAGE", help="First stage to run, by name or number."
)
@click.option("--to", "last", metavar="STAGE", help="Last stage to run [default: the stage of --from].")
@target_option(default=None)
@click.option("--precision", help="Instead of the one in the dump.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File instead of standard output.")
@click.option(
    "--dump", type=click.Path(path_type=Path, file_okay=False), help="Folder for the IR of every stage."
)
def command(
    file: Path,
    first: str,
    last: str | None,
    target: str | None,
    precision: str | None,
    output: Path | None,
    dump: Path | None,
) -> None:
    """Run stages on FILE.mlir: the dump of the stage before --from, or any module of that level.

    Weights are read from the folder `weights` beside the file.
    """
    text = run(file, first, last or first, target, precision, dump)
    if output is None:
        click.echo(text, nl=not text.endswith("\n"))
        return
    with whole_file(output) as stream:
        stream.write(text.encode())


def run(
    file: Path,
    first: str,
    last: str,
    target: str | None = None,
    precision: str | None = None,
    dump: Path | None = None,
) -> str:
    """The text that `--to` leaves. Kernels of a tile-level file are taken as they are."""
    load_libraries()
    from ..reentry import reenter

    return reenter(file, first, last, target, precision, dump)
