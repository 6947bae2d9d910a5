"""House style that a machine can check: sizes, docstrings, names, loose ends."""

from __future__ import annotations

import ast
import re

import pytest
from tests.style.sources import Source, all_sources, package_sources

MOST_LINES = 600
MOST_FUNCTION_LINES = 50
VAGUE_NAMES = re.compile(r"(^|_)(utils?|helpers?|misc|stuff|2|new|old|tmp)(_|$)|^common$")
LOOSE_ENDS = re.compile(r"\b(TODO|FIXME|XXX)\b|raise NotImplementedError")
HERE = "tests/style/test_files.py"  # names what it looks for

each_file = pytest.mark.parametrize("source", all_sources(), ids=lambda source: str(source.path))
each_package_file = pytest.mark.parametrize("source", package_sources(), ids=lambda source: str(source.path))


@each_file
def test_no_file_is_too_long(source: Source) -> None:
    assert len(source.text.splitlines()) <= MOST_LINES


@each_package_file
def test_no_function_is_too_long(source: Source) -> None:
    functions = [node for node in ast.walk(source.tree) if isinstance(node, ast.FunctionDef)]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert not {name: length for name, length in lengths.items() if length > MOST_FUNCTION_LINES}


@each_file
def test_module_has_a_docstring(source: Source) -> None:
    assert not source.text.strip() or ast.get_docstring(source.tree)


@each_package_file
def test_public_things_have_docstrings(source: Source) -> None:
    """A function under a decorator, such as a rule in a table, is described by what it is registered as."""
    definitions = [node for node in source.tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    plain = [node for node in definitions if isinstance(node, ast.ClassDef) or not node.decorator_list]
    public = [node for node in plain if not node.name.startswith("_")]
    assert not [node.name for node in public if not ast.get_docstring(node)]


@each_file
def test_no_vague_names(source: Source) -> None:
    assert not VAGUE_NAMES.search(source.path.stem)


@each_file
def test_no_loose_ends(source: Source) -> None:
    lines = source.text.splitlines() if str(source.path) != HERE else []
    assert not [f"{number}: {line}" for number, line in enumerate(lines, 1) if LOOSE_ENDS.search(line)]
