"""How tests are collected: besides Python files, IR files with a RUN line and CHECK lines.

`tests/**/*.mlir` begins with `// RUN: tilewright opt %s --from STAGE --to STAGE`; the command runs in this
process and FileCheck reads its output. `// ERROR: text` lines say instead that it fails with such a message.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.support.filecheck import check

RUN = "// RUN: tilewright "
ERROR = "// ERROR: "


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Take .mlir files as test files."""
    return IrFile.from_parent(parent, path=file_path) if file_path.suffix == ".mlir" else None


class IrFile(pytest.File):
    """One IR file; each of its RUN lines is a test."""

    def collect(self) -> Iterator[IrTest]:
        """The tests of the file, one for each RUN line."""
        commands = [line for line in self.path.read_text().splitlines() if line.startswith(RUN)]
        if not commands:
            raise self.CollectError(f"{self.path}: no line starts with {RUN!r}")
        for number, command in enumerate(commands):
            name = self.path.stem if len(commands) == 1 else f"{self.path.stem}-{number}"
            yield IrTest.from_parent(self, name=name, command=command.removeprefix(RUN))


class IrTest(pytest.Item):
    """One RUN line: `command` is what follows the program's name, %s stands for the file."""

    def __init__(self, *, command: str, **rest: object) -> None:
        super().__init__(**rest)  # type: ignore[arg-type]
        self.command = command

    def runtest(self) -> None:
        """Run the command and check what it printed, or the message that it failed with."""
        from tilewright.compiler.command_line import main

        arguments = [word.replace("%s", str(self.path)) for word in shlex.split(self.command)]
        result = CliRunner().invoke(main, arguments)
        text = self.path.read_text()
        expected = [line.removeprefix(ERROR) for line in text.splitlines() if line.startswith(ERROR)]
        if expected:
            assert result.exit_code != 0, f"should have failed:\n{result.output}"
            missing = [message for message in expected if message not in result.output]
            assert not missing, f"missing in the message: {missing}\n{result.output}"
            return
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        check(result.output, text)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> str:  # type: ignore[override]
        """The report alone where a check failed: the stack would only show this file."""
        short = isinstance(excinfo.value, AssertionError)
        return str(excinfo.value) if short else str(excinfo.getrepr(style="short"))

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where the test stands, for pytest's report."""
        return self.path, 0, f"tilewright {self.command}"
