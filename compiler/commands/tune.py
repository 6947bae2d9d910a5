"""`tilewright tune`: schedules by the clock instead of by prediction.

In: a model, and a GPU now or later. Out: a tuning file for `--tuning`. Without a GPU `--bundle` writes a folder of
candidates, which this command, or `python3 -m tilewright.runtime.tuner` where no compiler is installed, times on one.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import click

from ...passes.target import DEFAULT_TARGET
from ...runtime.engine import Engine
from ...runtime.errors import DeviceError, Error, ModelError
from ...runtime.tuner import PLAN, measure_folder, open_clock, write_folder, write_tuning
from ...runtime.tuning import Decision, Tuning, merge, read_tuning
from ...runtime.whole_file import check_place
from ..command_options import Choices, compile_options
from ..random_inputs import fill_inputs


@click.command(name="tune")
@click.argument("files", nargs=-1, required=True, metavar="MODEL|FOLDER|FILE.json...", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=Path("tuning.json"), show_default=True)
@click.option("--bundle", type=click.Path(path_type=Path), metavar="FOLDER", help="Only compile, into FOLDER.")
@click.option("--merge", "merging", is_flag=True, help="Merge tuning files; of two schedules the faster counts.")
@click.option("--candidates", type=click.IntRange(2), default=8, show_default=True, help="Schedules of each kernel.")
@click.option("--seconds", type=float, default=300.0, show_default=True, help="Time no candidate after this.")
@compile_options()
def command(
    files: tuple[Path, ...],
    out: Path,
    bundle: Path | None,
    merging: bool,
    candidates: int,
    seconds: float,
    choices: Choices,
) -> None:
    """Find the fastest schedules of MODEL, or of the candidates in FOLDER, or merge tuning FILEs.

    What is found stands in a file for --tuning; a problem without a gain beyond the noise is left to the cost model.
    """
    save = partial(write_tuning, path=out)
    if bundle is None:
        check_place(out)
    if merging:
        found = merge([read_tuning(path, "") for path in files])
        save(found)
    else:
        if len(files) != 1:
            raise click.UsageError("one model or folder at a time; --merge joins tuning files")
        path = files[0]
        if path.is_dir() and (path / PLAN).exists():
            found = measure_folder(path, seconds=seconds, tell=click.echo, save=save)
        else:
            if bundle is None:
                _check_clock()  # before minutes of compiling
            with tempfile.TemporaryDirectory(prefix="tilewright-tune-") as scratch:
                folder = bundle or Path(scratch)
                count = compile_variants(path, folder, candidates, choices)
                if bundle is not None:
                    click.echo(f"{bundle}: {count} variants; on a machine with a GPU: tilewright tune {bundle}")
                    return
                found = measure_folder(folder, seconds=seconds, tell=click.echo, save=save)
    click.echo(f"{out}: {len(found.choices)} problems with a faster schedule than the predicted one")


def _check_clock() -> None:
    """Raises DeviceError where there is no GPU to time candidates on."""
    try:
        open_clock().close()
    except DeviceError as error:
        advice = "--bundle FOLDER compiles the candidates here, for a machine that has one"
        raise DeviceError(f"there is no GPU to time schedules on: {error}\n  {advice}") from None


def compile_variants(path: Path, folder: Path, candidates: int, choices: Choices) -> int:
    """Write an engine for each rank of candidates: the predicted schedules, the second best of every kernel, and so on.

    Returns their number. Raises what compiling raises for the first; a later rank that does not compile is left out.
    """
    from ..api import compile_fully

    target = choices.target or DEFAULT_TARGET
    made: list[tuple[Engine, list[Decision]]] = []
    for rank in range(candidates):
        tuning = Tuning(target, variant=rank, apart=True)
        try:
            engine = compile_fully(path, choices.options(tuning=tuning)).engine
        except Error as error:
            if not rank:
                raise
            click.echo(f"rank {rank} left out: {str(error).splitlines()[0]}")
            continue
        if engine is not None:
            made.append((engine, tuning.decisions))
        most = max((decision.candidates for decision in tuning.decisions), default=0)
        if not most:
            raise ModelError(f"{path}: no kernel has schedules to choose from")
        if rank + 1 >= most:
            break
    inputs = fill_inputs(made[0][0], {}, choices.shapes, 0, choices.hints)
    write_folder(folder, target, made, inputs)
    return len(made)
