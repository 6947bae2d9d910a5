"""The documentation says what is there: links lead somewhere, docs/operators.md lists what can be imported, and
docs/models.md what was compared.

`make docs` writes the lists and the excerpts of IR again.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import onnx.defs
import pytest
from examples.walk_ir import model
from tests.style import models_page, operators_page
from tests.style.sources import ROOT
from tests.support.excerpts import MARKER, refresh

import tilewright
from tilewright.compiler.pipeline import STAGES

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")  # relative links; those with a scheme have a colon
OPERATORS = ROOT / "docs" / "operators.md"
MODELS = ROOT / "docs" / "models.md"
NOT_ONNX = {"SimplifiedLayerNormalization"}  # onnxruntime's, which writes it in the standard domain

@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = LINK.findall(page.read_text())
    assert not [target for target in targets if not (page.parent / target.strip()).exists()]


def test_every_stage_is_in_the_table_of_the_architecture() -> None:
    rows = re.findall(r"^\|[^|]*\| ([a-z, -]+) \|", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    named = [name for row in rows for name in row.split(", ")]
    stages = [stage.name for stage in STAGES]
    assert [name for name in named if name in stages] == stages


def test_operators_page_is_up_to_date() -> None:
    text = operators_page.page()
    if os.environ.get("TILEWRIGHT_UPDATE"):
        OPERATORS.write_text(text)
    assert OPERATORS.read_text() == text, "run make docs"


def test_tables_of_models_are_up_to_date() -> None:
    text = models_page.page(MODELS.read_text())
    if os.environ.get("TILEWRIGHT_UPDATE"):
        MODELS.write_text(text)
    assert MODELS.read_text() == text, "run make docs"


def test_registered_operators_exist_in_onnx() -> None:
    from tilewright.compiler.frontend.registry import registered_operators

    known = {schema.name for schema in onnx.defs.get_all_schemas()} | NOT_ONNX
    assert not [name for domain, name in registered_operators() if not domain and name not in known]


def test_what_is_left_out_is_listed() -> None:
    """Every operator of ai.onnx.ml has an importer or a reason, and none has both."""
    from tilewright.compiler.frontend.registry import registered_operators

    listed = {(domain, name) for domain, name, _ in operators_page.left_out()}
    known = {("ai.onnx.ml", schema.name) for schema in onnx.defs.get_all_schemas() if schema.domain == "ai.onnx.ml"}
    assert not listed & set(registered_operators())
    assert known <= listed | set(registered_operators())


@pytest.fixture(scope="module")
def dumps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dumps of the example that the documentation walks through."""
    folder = tmp_path_factory.mktemp("dumps")
    tilewright.compile(model(), dump=folder)
    return folder


@pytest.mark.parametrize("name", ["README.md", "docs/ir-levels.md"])
def test_excerpts_are_what_the_compiler_prints(name: str, dumps: Path) -> None:
    page = ROOT / name
    assert MARKER.search(page.read_text())
    fresh = refresh(page.read_text(), dumps)
    if os.environ.get("TILEWRIGHT_UPDATE"):
        page.write_text(fresh)
    assert page.read_text() == fresh, "run make docs"
