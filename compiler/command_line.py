"""The command line `tilewright`: one command a file in compiler/commands, found by folder.

In: the words after `tilewright`. Out: an exit status: 0, 1 with a message for our errors, 2 for wrong usage.
A command's module is imported when it is called, so that `tilewright run` on an engine loads no compiler.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from importlib.abc import InspectLoader
from importlib.util import find_spec
from typing import Any

import click

from ..runtime.errors import Error, InternalError
from . import commands

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


class Commands(click.Group):
    """The commands of the folder; each module holds a click command called `command`."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(COMMANDS[name]).command
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary(name)) for name in self.list_commands(context)])

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except InternalError as error:
            hint = "this is a bug of tilewright, not of your model"
            raise Failure(f"{error}\n  {hint}") from error
        except Error as error:
            raise Failure(str(error)) from error


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tilewright")
def main() -> None:
    """Compile ONNX models to CUDA kernels, and run them on a GPU or on the emulator."""
