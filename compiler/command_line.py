"""The command line `tilewright`: one command a file in compiler/commands, found by folder.

In: the words after `tilewright`. Out: an exit status: 0, 1 with a message for our errors, 2 for wrong usage, 130 after
Ctrl-C as in a shell.
A command's module is imported when it is called, so that `tilewright run` on an engine loads no compiler.
"""

from __future__ import annotations

import errno
import io
import os
import pkgutil
import signal
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from importlib.abc import InspectLoader
from importlib.util import find_spec
from typing import Any

import click

from ..runtime.cache import default_folder
from ..runtime.errors import Error, InternalError
from . import commands

OUR_BUG = "this is a bug of tilewright, not of your model"
COMMANDS: Mapping[str, str] = {
    module.name: f"{commands.__name__}.{module.name}" for module in pkgutil.iter_modules(commands.__path__)
}


def summary(name: str) -> str:
    """What a command does: the first line of its file, which is not imported for that."""
    spec = find_spec(COMMANDS[name])
    source = spec.loader.get_source(spec.name) if spec and isinstance(spec.loader, InspectLoader) else None
    return (source or "").split("\n", 1)[0].partition("`: ")[2]


class Failure(click.ClickException):
    """One of our errors on its way out: the message alone, no traceback."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        click.echo(f"error: {self.message}", err=True)


class Interrupted(click.ClickException):
    """Ctrl-C, with the exit status that shells give it."""

    exit_code = 128 + signal.SIGINT

    def show(self, file: Any = None) -> None:
        click.echo(f"\n{self.message}", err=True)


def describe(error: Exception) -> str:
    """What nobody expected: the error, where it was raised, and a file with the traceback where one can be written."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    lines = [f"{type(error).__name__}: {error}", f"  at {place.filename}:{place.lineno} in {place.name}"]
    with suppress(OSError):
        folder = default_folder() / "failures"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"traceback-{os.getpid()}.txt"
        path.write_text("".join(traceback.format_exception(error)))
        lines.append(f"  traceback: {path}")
    return "\n".join(lines)


class Commands(click.Group):
    """The commands of the folder; each module holds a click command called `command`."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(COMMANDS[name]).command
        return command

    def main(self, *arguments: Any, **options: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):  # names of nodes and files may have letters that the terminal lacks
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        return super().main(*arguments, **options)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary(name)) for name in self.list_commands(context)])

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except InternalError as error:
            raise Failure(f"{error}\n  {OUR_BUG}") from error
        except Error as error:
            raise Failure(str(error)) from error
        except MemoryError as error:
            raise Failure(f"out of memory: {str(error) or 'this process may not have more'}") from error
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # whoever read the output has gone, which click takes quietly
            raise Failure(": ".join(filter(None, [error.strerror or str(error), error.filename]))) from error
        except KeyboardInterrupt:
            raise Interrupted("interrupted") from None
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            raise Failure(f"{describe(error)}\n  {OUR_BUG}") from error


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tilewright")
def main() -> None:
    """Compile ONNX models to CUDA kernels, and run them on a GPU or on the emulator."""
