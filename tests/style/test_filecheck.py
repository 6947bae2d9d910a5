"""The FileCheck wrapper and the collector of IR files, which the tests of passes stand on."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import IrFile
from tests.support.filecheck import check

TEXT = "func.func @main\n  graph.map\n  graph.reduce\n  return\n"


def test_lines_in_order_pass() -> None:
    check(TEXT, "// CHECK: @main\n// CHECK-NEXT: graph.map\n// CHECK-NOT: graph.matmul\n// CHECK: return")


def test_a_missing_line_is_shown_with_the_text() -> None:
    with pytest.raises(AssertionError, match=r"(?s)CHECK.*graph.matmul.*the text that was checked.*@main"):
        check(TEXT, "// CHECK: graph.matmul")


def test_checks_without_a_check_line_fail() -> None:
    with pytest.raises(AssertionError, match="no check strings"):
        check(TEXT, "nothing to see")


def test_an_ir_file_without_a_run_line_is_an_error(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    path = tmp_path / "lost.mlir"
    path.write_text("// CHECK: nothing\n")
    file = IrFile.from_parent(request.session, path=path)
    with pytest.raises(IrFile.CollectError, match="no line starts with"):
        list(file.collect())
