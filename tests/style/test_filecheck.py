"""The FileCheck wrapper and the collector of IR files, which the tests of passes stand on."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import RUN, IrFile
from tests.support.filecheck import check

from tilewright.compiler.pipeline import STAGES

TEXT = "func.func @main\n  graph.map\n  graph.reduce\n  return\n"


def test_lines_in_order_pass() -> None:
    check(TEXT, "// CHECK: @main\n// CHECK-NEXT: graph.map\n// CHECK-NOT: graph.matmul\n// CHECK: return")


def test_a_missing_line_is_shown_with_the_text() -> None:
    with pytest.raises(AssertionError, match=r"(?s)CHECK.*graph.matmul.*the text that was checked.*@main"):
        check(TEXT, "// CHECK: graph.matmul")


def test_checks_without_a_check_line_fail() -> None:
    with pytest.raises(AssertionError, match="no check strings"):
        check(TEXT, "nothing to see")


def test_check_options_choose_the_lines() -> None:
    text = "// ADD: arith.addf\n// REDUCE: graph.reduce [[NAME]]"
    check("graph.reduce sum", text, "--check-prefix=REDUCE", "-DNAME=sum")
    with pytest.raises(AssertionError, match=r"ADD: .*expected string not found"):
        check("graph.reduce sum", text, "--check-prefix=ADD")


def test_every_stage_that_changes_ir_is_shown() -> None:
    commands = "".join(path.read_text() for path in (Path(__file__).parents[1] / "passes").rglob("*.mlir"))
    missing = [
        stage.name
        for stage in STAGES[1:]  # import reads no IR
        if stage.level in ("graph", "tile", "gpu", "host")
        and f"--from {stage.transform or stage.name}" not in commands
        and f"--to {stage.transform or stage.name}" not in commands
    ]
    assert not missing, f"no IR with CHECK lines in tests/passes for {', '.join(missing)}"


def test_modules_and_run_lines_are_tests_of_their_own(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    path = tmp_path / "two.mlir"
    path.write_text(f"{RUN}opt %s | FileCheck %s --check-prefix=A\n{RUN}opt %s\nfirst\n// -----\nsecond\n")
    items = list(IrFile.from_parent(request.session, path=path).collect())
    assert [item.name for item in items] == ["two:1:1", "two:1:2", "two:5:1", "two:5:2"]
    assert [item.options.strip() for item in items[:2]] == ["--check-prefix=A", ""]
    assert items[2].text.splitlines() == ["", "", "", "", "second"]  # lines have the numbers of the file


def test_an_ir_file_without_a_run_line_is_an_error(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    path = tmp_path / "lost.mlir"
    path.write_text("// CHECK: nothing\n")
    file = IrFile.from_parent(request.session, path=path)
    with pytest.raises(IrFile.CollectError, match="no line starts with"):
        list(file.collect())
