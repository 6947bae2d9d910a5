"""How tests are collected: besides Python files, IR files with RUN lines and CHECK lines.

`// RUN: tilewright opt %s --from STAGE --to STAGE` runs in this process and FileCheck reads its output. Behind
`| FileCheck %s --check-prefix=NAME` stand FileCheck's own options, for a file of several RUN lines. A line of
`// -----` splits a file into modules that are tested one by one, each with the RUN lines that stand before the first.
`// ERROR: text` lines say that the command fails with such a message.
"""

from __future__ import annotations

import itertools
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.support.filecheck import check

RUN = "// RUN: tilewright "
CHECKER = "| FileCheck %s"
ERROR = "// ERROR: "
SPLIT = "// -----"


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Take .mlir files as test files."""
    return IrFile.from_parent(parent, path=file_path) if file_path.suffix == ".mlir" else None


class IrFile(pytest.File):
    """One IR file; each of its RUN lines is a test of each of its modules."""

    def collect(self) -> Iterator[IrTest]:
        """The tests of the file; where there are several, the lines of module and RUN line are in their names."""
        lines = self.path.read_text().splitlines()
        commands = [(number, line) for number, line in enumerate(lines, 1) if line.startswith(RUN)]
        if not commands:
            raise self.CollectError(f"{self.path}: no line starts with {RUN!r}")
        splits = [number for number, line in enumerate(lines, 1) if line == SPLIT]
        for begin, end in itertools.pairwise([0, *splits, len(lines) + 1]):
            # The lines before are left empty: messages then have the line numbers of the file.
            text = "\n" * begin + "\n".join(lines[begin : end - 1])
            for number, command in commands:
                parts = [str(begin + 1)] * bool(splits) + [str(number)] * (len(commands) > 1)
                name = ":".join([self.path.stem, *parts])
                yield IrTest.from_parent(self, name=name, command=command.removeprefix(RUN), text=text)


class IrTest(pytest.Item):
    """One RUN line on one module: in `command`, %s stands for a file with `text`."""

    def __init__(self, *, command: str, text: str, **rest: object) -> None:
        super().__init__(**rest)  # type: ignore[arg-type]
        self.command, _, self.options = command.partition(CHECKER)
        self.text = text

    def runtest(self) -> None:
        """Run the command and check what it printed, or the message that it failed with."""
        from tilewright.compiler.command_line import main

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / self.path.name
            path.write_text(self.text)
            arguments = [word.replace("%s", str(path)) for word in shlex.split(self.command)]
            result = CliRunner().invoke(main, arguments)
        expected = [line.removeprefix(ERROR) for line in self.text.splitlines() if line.startswith(ERROR)]
        if expected:
            assert result.exit_code != 0, f"should have failed:\n{result.output}"
            missing = [message for message in expected if message not in result.output]
            assert not missing, f"missing in the message: {missing}\n{result.output}"
            return
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        check(result.output, self.text, *shlex.split(self.options))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> str:  # type: ignore[override]
        """The report alone where a check failed: the stack would only show this file."""
        short = isinstance(excinfo.value, AssertionError)
        return str(excinfo.value) if short else str(excinfo.getrepr(style="short"))

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where the test stands, for pytest's report."""
        return self.path, 0, f"{self.name}: tilewright {self.command}"
