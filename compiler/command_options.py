"""What the commands have in common: options, the reading of their values, the console and the progress bar.

In: words of the command line. Out: typed values, or a usage error. On a terminal progress is shown; elsewhere
only results are printed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import numpy as np

from ..passes.target import DEFAULT_TARGET, TARGETS
from ..runtime.errors import ModelError
from ..runtime.tuning import Tuning, read_tuning
from .compilation import PRECISIONS, Listener, Options
from .custom_operators import load_operators

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

F = TypeVar("F", bound=Callable[..., Any])
TUNING = "tilewright.tuning"  # the key of the file in click's meta data of an invocation
PLAIN_WIDTH = 200  # columns where there is no terminal, so that tables are not cut


def compile_options(function: F) -> F:
    """The options of everything that compiles."""
    for option in (
        click.option(
            "--jobs", type=click.IntRange(1), metavar="N", help="Worker processes [default: one a core]."
        ),
        click.option("--no-cache", is_flag=True, help="Compile everything anew."),
        click.option(
            "--shape",
            "shapes",
            multiple=True,
            metavar="NAME=8x3x224x224",
            help="Fix an input's shape; a name instead of a number keeps that dimension dynamic.",
        ),
        click.option(
            "--operators",
            multiple=True,
            metavar="FILE.py",
            expose_value=False,
            callback=_load_operators,
            help="A Python file that registers custom operators.",
        ),
        click.option(
            "--tuning",
            type=click.Path(path_type=Path),
            metavar="FILE.json",
            expose_value=False,
            callback=_keep_tuning,
            help="Measured schedules, of `tilewright tune`.",
        ),
        click.option("--precision", type=click.Choice(PRECISIONS), default="strict", show_default=True),
    ):
        function = option(function)
    return function


def _load_operators(_context: click.Context, _parameter: click.Parameter, files: Sequence[str]) -> None:
    """They count for the whole process, so that no command has to hand them on."""
    for file in files:
        load_operators(file)


def _keep_tuning(context: click.Context, _parameter: click.Parameter, file: Path | None) -> None:
    """Kept with the invocation, so that no command has to hand it on."""
    context.meta[TUNING] = file


def target_option(default: str | None = DEFAULT_TARGET) -> Callable[[F], F]:
    """`--target`; unknown ones are told by our own error, which lists the known."""
    return click.option(
        "--target",
        default=default,
        metavar="SM",
        show_default=default is not None,
        help=f"CUDA architecture: {', '.join(TARGETS)}.",
    )


def make_options(
    target: str,
    precision: str,
    shapes: Sequence[str],
    jobs: int | None = None,
    no_cache: bool = False,
    dump: Path | None = None,
    override: Path | None = None,
    tuning: Tuning | None = None,
) -> Options:
    """Options from the words of the command line."""
    context = click.get_current_context(silent=True)
    file = context.meta.get(TUNING) if context else None
    if tuning is None and file is not None:
        tuning = read_tuning(file, target)
    return Options(target, precision, parse_shapes(shapes), dump, override, jobs, not no_cache, tuning)


def parse_shapes(words: Sequence[str]) -> dict[str, tuple[int | str, ...]]:
    """``["x=8x3xhxw"]`` -> ``{"x": (8, 3, "h", "w")}``; commas separate too, for names with an x in them."""
    shapes = {}
    for word in words:
        name, separator, text = word.rpartition("=")
        if not separator or not name:
            raise click.BadParameter(f"{word!r} is not NAME=8x3x224x224", param_hint="--shape")
        parts = text.split("," if "," in text else "x") if text else []
        if any(not part.isidentifier() and not part.isdecimal() for part in parts):
            raise click.BadParameter(f"{text!r} is not a shape such as 8x3x224x224", param_hint="--shape")
        shapes[name] = tuple(int(part) if part.isdecimal() else part for part in parts)
    return shapes


def read_arrays(words: Sequence[str]) -> dict[str, np.ndarray[Any, Any]]:
    """``["x=file.npy"]`` -> arrays by name. Raises ModelError for files that cannot be read."""
    arrays = {}
    for word in words:
        name, separator, path = word.partition("=")
        if not separator:
            raise click.BadParameter(f"{word!r} is not NAME=FILE.npy", param_hint="--input")
        try:
            arrays[name] = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ModelError(f"cannot read the array {path} for input {name!r}: {error}") from None
    return arrays


def console(stderr: bool = False) -> Console:
    """Where results go; wide when nobody watches, so that lines stay whole."""
    from rich.console import Console

    found = Console(stderr=stderr, highlight=False)
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, width=PLAIN_WIDTH)


def table(title: str, *columns: str, numbers: Sequence[str] = ()) -> Table:
    """A table in the project's one style; the columns `numbers` are aligned right."""
    from rich import box
    from rich.table import Table

    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return made


@contextmanager
def progress_bar() -> Iterator[Listener | None]:
    """A listener that draws a bar on a terminal; None elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    screen = console(stderr=True)
    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=screen, transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def listen(event: Any) -> None:
            kernels = event.kernels > 0
            done, total = (event.done, event.kernels) if kernels else (event.number - 1, event.total)
            bar.update(task, description=event.stage, completed=done, total=total)

        yield listen


def size_text(nbytes: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KB", "MB"):
        if nbytes < 1000:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:.2f} GB"
