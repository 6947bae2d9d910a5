"""What the commands have in common: options, the reading of their values, the console and the progress bar.

In: words of the command line. Out: typed values, or a usage error. On a terminal progress is shown; elsewhere
only results are printed.
"""

from __future__ import annotations

import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from ..passes.target import DEFAULT_TARGET, TARGETS
from ..runtime.errors import ModelError
from ..runtime.tuning import Tuning, read_tuning
from .compilation import PRECISIONS, Listener, Options
from .custom_operators import load_operators

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console
    from rich.table import Table

Command = Callable[..., Any]
Value = TypeVar("Value")
COMPILE_TIME = ("target", "precision", "tuning", "operators")  # options that make an engine what it is
PLAIN_WIDTH = 200  # columns where there is no terminal, so that tables are not cut


@dataclass(frozen=True)
class Choices:
    """What the user chose about compiling, the same for every command that does. `target` is None where it was left
    to the command: that of the GPU at hand. `chosen` are those of COMPILE_TIME given: engines cannot heed them.
    """

    target: str | None
    precision: str
    shapes: Mapping[str, tuple[int | str, ...]]
    hints: Mapping[str, int]
    jobs: int | None
    cached: bool
    tuning: Path | None
    chosen: Sequence[str] = ()

    def options(
        self,
        target: str = DEFAULT_TARGET,
        dump: Path | None = None,
        override: Path | None = None,
        tuning: Tuning | None = None,
    ) -> Options:
        """Options of a compilation, for `target` where none was chosen, with `tuning` in the place of the file."""
        target = self.target or target
        if tuning is None and self.tuning is not None:
            tuning = read_tuning(self.tuning, target)
        return Options(
            target, self.precision, self.shapes, dump, override, self.jobs, self.cached, tuning, hints=self.hints
        )


def compile_options(default_target: str | None = DEFAULT_TARGET) -> Callable[[Command], Command]:
    """Decorator: the options of everything that compiles, which the command gets as `choices`."""

    def decorate(command: Command) -> Command:
        @wraps(command)
        def with_choices(
            target: str | None, precision: str, shapes: Sequence[str], hints: Sequence[str], jobs: int | None,
            no_cache: bool, operators: Sequence[str], tuning: Path | None, **others: Any,
        ) -> Any:  # fmt: skip
            for file in operators:
                load_operators(file)  # for the whole process: no command has to hand them on
            fixed, typical = parse_shapes(shapes), parse_hints(hints)
            chosen = tuple(name for name in COMPILE_TIME if _is_given(name))
            choices = Choices(target, precision, fixed, typical, jobs, not no_cache, tuning, chosen)
            return command(choices=choices, **others)

        function: Command = with_choices
        for option in _options(default_target):
            function = option(function)
        return function

    return decorate


def _is_given(option: str) -> bool:
    return click.get_current_context().get_parameter_source(option) is not ParameterSource.DEFAULT


def _options(default_target: str | None) -> Sequence[Callable[[Command], Command]]:
    """Help lists them from the last to the first."""
    return (
        click.option("--jobs", type=click.IntRange(1), metavar="N", help="Worker processes [default: one a core]."),
        click.option("--no-cache", is_flag=True, help="Compile everything anew."),
        click.option(
            "--hint",
            "hints",
            multiple=True,
            metavar="batch=1,sequence=384",
            help="Typical sizes of dynamic dimensions: schedules are chosen for them, all sizes still run.",
        ),
        click.option(
            "--shape",
            "shapes",
            multiple=True,
            metavar="NAME=8x3x224x224",
            help="Fix an input's shape; a name instead of a number keeps that dimension dynamic.",
        ),
        click.option(
            "--operators", multiple=True, metavar="FILE.py", help="A Python file that registers custom operators."
        ),
        click.option(
            "--tuning",
            type=click.Path(path_type=Path),
            metavar="FILE.json",
            help="Measured schedules, of `tilewright tune`.",
        ),
        click.option("--precision", type=click.Choice(PRECISIONS), default="model", show_default=True),
        target_option(default_target),
    )


def target_option(default: str | None = DEFAULT_TARGET) -> Callable[[Command], Command]:
    """`--target`; unknown ones are told by our own error, which lists the known."""
    return click.option(
        "--target",
        default=default,
        metavar="SM",
        show_default=default is not None,
        help=f"CUDA architecture: {', '.join(TARGETS)}.",
    )


def seed_option(default: int | None = 0) -> Callable[[Command], Command]:
    """`--random`, of the inputs that are not given; without a default, each has to be."""
    return click.option(
        "--random",
        "seed",
        type=click.IntRange(0),
        default=default,
        show_default=default is not None,
        metavar="SEED",
        help="Random arrays for inputs that are not given.",
    )


def input_option() -> Callable[[Command], Command]:
    """`--input`, whose words `read_arrays` takes."""
    return click.option(
        "--input",
        "inputs",
        multiple=True,
        metavar="NAME=FILE.npy",
        help="An input array; FILE.npz alone for all of its arrays by name.",
    )


def parse_hints(words: Sequence[str]) -> dict[str, int]:
    """``["batch=1,sequence=384"]`` -> ``{"batch": 1, "sequence": 384}``."""
    hints: dict[str, int] = {}
    for item in [item for word in words for item in word.split(",")]:
        name, _, size = item.partition("=")
        if not name or not size.isdecimal() or not int(size):
            raise click.BadParameter(f"{item!r} is not batch=1", param_hint="--hint")
        _put(hints, name, int(size), "--hint")
    return hints


def parse_shapes(words: Sequence[str]) -> dict[str, tuple[int | str, ...]]:
    """``["x=8x3xhxw"]`` -> ``{"x": (8, 3, "h", "w")}``; commas separate too, for names with an x in them."""
    shapes: dict[str, tuple[int | str, ...]] = {}
    for word in words:
        name, separator, text = word.rpartition("=")
        if not separator or not name:
            raise click.BadParameter(f"{word!r} is not NAME=8x3x224x224", param_hint="--shape")
        parts = text.split("," if "," in text else "x") if text else []
        if any(not part.isidentifier() and not part.isdecimal() for part in parts):
            raise click.BadParameter(f"{text!r} is not a shape such as 8x3x224x224", param_hint="--shape")
        _put(shapes, name, tuple(int(part) if part.isdecimal() else part for part in parts), "--shape")
    return shapes


def _put(values: dict[str, Value], name: str, value: Value, option: str) -> None:
    if name in values:
        raise click.BadParameter(f"{name!r} is given twice", param_hint=option)
    values[name] = value


def read_arrays(words: Sequence[str]) -> dict[str, np.ndarray[Any, Any]]:
    """``["x=file.npy", "others.npz"]`` -> arrays by name. Raises ModelError for files that cannot be read."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for word in words:
        name, separator, path = word.partition("=")
        if not separator and not word.endswith(".npz"):
            raise click.BadParameter(f"{word!r} is not NAME=FILE.npy, nor a FILE.npz", param_hint="--input")
        for key, array in _read_arrays(Path(path), name) if separator else _read_arrays(Path(word)):
            _put(arrays, key, array, "--input")
    return arrays


def _read_arrays(path: Path, name: str = "") -> list[tuple[str, np.ndarray[Any, Any]]]:
    """The array of an .npy file as `name`, or those of an .npz file under their own names."""
    import numpy as np

    what = f"the array {path} for input {name!r}" if name else f"the arrays of {path}"
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray) and name:
            return [(name, found)]
        if isinstance(found, np.ndarray):
            raise ModelError(f"{path} holds one array without a name\n  give --input NAME={path}")
        with found:
            if name:
                raise ModelError(f"{path} holds arrays with names: {', '.join(found)}\n  give --input {path}")
            return list(found.items())
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise ModelError(f"cannot read {what}: {reason or error}") from None


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
